"""Ingest of several GeoTIFFs as one image: pieces of a region, or scenes that overlap.

::

    first file      +--------+                  a voxel is the first file's, in the order of names, that covers it
                    |   A    |------+           with something else than nodata in some band; where none does, it
                    |        |  B   |           is nodata (0 without one). Bands of different files are never mixed.
                    +--------+      |
                         +----------+

All lie on one grid: nothing is resampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume.geo import Georeference
from pipeline.volume.sources.geotiff import RasterSource, is_geotiff, open_geotiff, open_raster, read_window
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.slices import list_slices, open_slices
from pipeline.volume.sources.source import Source, check_only_level, unreadable
from pipeline.volume.space import Space


@dataclass(frozen=True, slots=True)
class Scene:
    """One file of a mosaic.

    Attributes:
        path: the file.
        box: where it lies in the mosaic, in voxels.
    """

    path: Path
    box: Box


@dataclass(slots=True, eq=False)
class MosaicSource(Source):
    """Files on one grid. A read opens, decodes and closes the files that it meets, so any number may be in it.

    Attributes:
        scenes: the files, the one that wins first.
        geo: of the whole; its nodata is the files'.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    scenes: tuple[Scene, ...]
    geo: Georeference = field()  # not the default that Source has

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(c, y, x)``, one channel a band."""
        nodata = self.geo.nodata
        voxels = np.full((self.channels or 1, *box.shape), _fill(nodata, self.dtype), self.dtype)
        for scene in reversed(self.scenes):
            seen = scene.box.intersect(box)
            if seen.is_empty:
                continue
            found = _read(scene, seen)
            part = voxels[(slice(None), *seen.relative_to(box.start).slices)]
            np.copyto(part, found, where=_measured(found, nodata))
        return voxels

    def where(self, voxel: Sequence[int]) -> str:
        """Say in which file a voxel is (the first that covers it), and where there."""
        for scene in self.scenes:
            if all(a <= i < b for i, (a, b) in zip(voxel, scene.box, strict=True)):
                inside = [int(i) - a for i, a in zip(voxel, scene.box.start, strict=True)]
                return f"{scene.path}, voxel {inside[0]},{inside[1]}"
        return f"{self.name}, voxel {int(voxel[0])},{int(voxel[1])}"


def open_folder(path: Path, reading: Reading = DEFAULT) -> Source:
    """Open a folder or a pattern: a mosaic if its first file is a GeoTIFF (and no z axis is asked for), else slices.

    Raises:
        VolumeError: no files, or files that do not fit together.
        InputError: rasters without rasterio.
    """
    if "z" not in (reading.axes or "").lower():
        files = list_slices(path)
        if is_geotiff(files[0]):
            return open_mosaic(files, reading, name=str(path))
    return open_slices(path, reading)


def open_mosaic(files: Sequence[Path], reading: Reading = DEFAULT, *, name: str) -> Source:
    """Open GeoTIFFs of one grid as one image: ``yx``, ``cyx`` if they have several bands.

    Args:
        files: the one that wins where several have a value comes first.
        reading: what the user says; each file is placed at the nearest voxel, at most ``snap`` voxels off. There is
            level 0 only: overviews of different files do not lie on one grid.
        name: what messages call the whole.

    Raises:
        VolumeError: two files differ in CRS, bands, data type, nodata, voxel size or grid; or all cover the same
            voxels, so that only the first would be seen.
        InputError: rasterio is not installed.
    """
    check_only_level(reading.level, where=name)
    assert 0 <= reading.snap < 0.5, reading.snap
    first, boxes = None, []
    for file in files:
        piece = _open(file, reading)
        first = first or piece
        _check_alike(first, piece)
        boxes.append(_place(first, piece, reading.snap))
    assert first is not None, "a mosaic has files"
    if len(boxes) > 1 and len(set(boxes)) == 1:
        raise VolumeError(
            f"{name}: all {len(files)} files cover the same voxels, so only {files[0].name} would be seen; name one"
            " of them, or make bands or dates one file of several bands (--axes zyx reads them as a stack)"
        )
    start = tuple(min(box.start[i] for box in boxes) for i in range(2))
    stop = tuple(max(box.stop[i] for box in boxes) for i in range(2))
    scenes = tuple(Scene(file, box.relative_to(start)) for file, box in zip(files, boxes, strict=True))
    return MosaicSource(
        name=name,
        shape=Box(start, stop).shape,
        channels=first.channels,
        dtype=first.dtype,
        space=first.space,
        slab=None,
        scenes=scenes,
        geo=first.geo.shifted(start),
    )


def _open(file: Path, reading: Reading) -> RasterSource:
    """Read a file's header."""
    with open_geotiff(file, reading) as source:
        if not isinstance(source, RasterSource):
            raise VolumeError(f"{file}: it has no coordinate reference system, as all files of a mosaic must")
        return source


def _check_alike(first: RasterSource, other: RasterSource) -> None:
    """Raise VolumeError if two files cannot be of one image."""
    pairs = {
        "CRS": (_crs(first.geo), _crs(other.geo)),
        "number of bands": (first.channels or 1, other.channels or 1),
        "data type": (first.dtype, other.dtype),
        "nodata": (str(first.geo.nodata), str(other.geo.nodata)),
    }
    for what, (one, two) in pairs.items():
        if one != two:
            raise _differ(first, other, what, one, two)


def _place(first: RasterSource, other: RasterSource, tolerance: float) -> Box:
    """Return the voxels of the first file's grid that another file covers."""
    rows, columns = other.shape
    offsets = []
    for row, column in ((0, 0), (0, columns), (rows, 0), (rows, columns)):
        found = _voxel(first.geo, _corner(other.geo, row, column))
        offsets.append((found[0] - row, found[1] - column))
    start = (round(offsets[0][0]), round(offsets[0][1]))
    drift = max(abs(o[i] - offsets[0][i]) for o in offsets for i in range(2))
    if drift > tolerance:
        raise _differ(first, other, "voxel size", _sizes(first.geo), _sizes(other.geo))
    off = max(abs(o[i] - start[i]) for o in offsets for i in range(2))
    if off > tolerance:
        raise VolumeError(
            f"{other.name}: its voxels lie {off:.3g} of a voxel off the grid of {first.name} (at most {tolerance:g});"
            " resample it to that grid first, for example with gdalwarp -tap"
        )
    return Box(start, (start[0] + rows, start[1] + columns))


def _corner(geo: Georeference, row: float, column: float) -> tuple[float, float]:
    """Return ``(x, y)`` of a voxel's upper left corner."""
    _, _, x, _, _, y = geo.shifted((row, column)).transform
    return x, y


def _voxel(geo: Georeference, point: tuple[float, float]) -> tuple[float, float]:
    """Return row and column of a point ``(x, y)``, as fractions."""
    a, b, c, d, e, f = geo.transform
    x, y = point[0] - c, point[1] - f
    area = a * e - b * d
    return (a * y - d * x) / area, (e * x - b * y) / area


def _fill(nodata: float | None, dtype: np.dtype[Any]) -> float:
    """Return the value of voxels outside all files: nodata where the data type holds it, else 0."""
    if nodata is None:
        return 0
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        return int(nodata) if float(nodata).is_integer() and limits.min <= nodata <= limits.max else 0
    return nodata


def _measured(voxels: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.bool_]:
    """Return where some band holds something else than nodata: ``(y, x)``."""
    if nodata is None:
        return np.ones(voxels.shape[1:], np.bool_)
    same = np.isnan(voxels) if math.isnan(nodata) else voxels == nodata
    found: npt.NDArray[np.bool_] = ~same.all(axis=0)
    return found


def _read(scene: Scene, box: Box) -> npt.NDArray[Any]:
    """Read a box of the mosaic out of a scene that covers it."""
    try:
        with open_raster(scene.path, None) as raster:
            return read_window(raster, box.relative_to(scene.box.start))
    except Exception as error:
        raise unreadable(str(scene.path), error, f"voxels {box.relative_to(scene.box.start)}") from error


def _crs(geo: Georeference) -> str:
    return geo.code or geo.crs


def _sizes(geo: Georeference) -> str:
    return " x ".join(f"{size:.10g}" for size in geo.voxel_size)


def _differ(first: RasterSource, other: RasterSource, what: str, one: object, two: object) -> VolumeError:
    return VolumeError(
        f"{other.name}: its {what} is {two}, but that of {first.name} is {one}; all files of a mosaic must be alike:"
        " bring them to one grid first, for example with gdalwarp, or name the ones that are by a pattern"
    )
