"""Several GeoTIFFs as one image: pieces of a region, or scenes that overlap.

::

    first file      +--------+                  a voxel is the first file's, in the order of names, that covers it
                    |   A    |------+           with something else than nodata in some band that is read; where none
                    |        |  B   |           does, it is nodata (0 without one). Bands of different files are never
                    +--------+      |           mixed.
                         +----------+

All lie on one grid, and nothing is resampled, unless the user wants them warped: then those that lie on it are still
read as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.store import open_file
from pipeline.volume.faults import lies_in_the_bytes
from pipeline.volume.geo import Georeference
from pipeline.volume.sources.channels import chosen_names
from pipeline.volume.sources.geotiff import RasterSource, is_geotiff, open_geotiff
from pipeline.volume.sources.placing import check_alike, common_grid, place
from pipeline.volume.sources.raster import NO_CRS, Raster, same_crs, space_of
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.slices import list_slices, open_slices
from pipeline.volume.sources.source import Source, check_only_level, unreadable
from pipeline.volume.sources.warp import BLOCK, FIRST, Warp, read_warped
from pipeline.volume.space import Space


@dataclass(frozen=True, slots=True)
class Scene:
    """One file of a mosaic.

    Attributes:
        url: the file.
        box: where it lies in the mosaic, in voxels.
        warp: how it is brought there; None of a file that lies on the grid.
    """

    url: str
    box: Box
    warp: Warp | None = None


@dataclass(slots=True, eq=False)
class MosaicSource(Source):
    """Files on one grid. A read opens, decodes and closes the files that it meets, so any number may be in it.

    Attributes:
        scenes: the files, the one that wins first.
        bands: those that are read, counted from 1.
        geo: of the whole; its nodata is the files'.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    scenes: tuple[Scene, ...]
    bands: tuple[int, ...]
    geo: Georeference = field()  # these three are not the defaults that Source has
    files: tuple[str, ...] = field()
    channel_names: tuple[str, ...] | None = field()

    def select(self, indices: tuple[int, ...]) -> MosaicSource:
        """Return the source of some bands, counted from 0."""
        return replace(
            self,
            channels=len(indices) if len(indices) > 1 else None,
            bands=tuple(self.bands[i] for i in indices),
            channel_names=chosen_names(self.channel_names, indices),
        )

    def files_below(self, box: Box) -> tuple[str, ...]:
        """Return the files that touch a box."""
        return tuple(scene.url for scene in self.scenes if not scene.box.intersect(box).is_empty)

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(c, y, x)``, one channel a band."""
        nodata = self.geo.nodata
        voxels = np.full((len(self.bands), *box.shape), _fill(nodata, self.dtype), self.dtype)
        for scene in reversed(self.scenes):
            seen = scene.box.intersect(box)
            if seen.is_empty:
                continue
            found, covered = _read(scene, seen, self.bands)
            part = voxels[(slice(None), *seen.relative_to(box.start).slices)]
            np.copyto(part, found, where=covered & _measured(found, nodata))
        return voxels

    def where(self, voxel: Sequence[int]) -> str:
        """Say in which file a voxel is (the first that covers it), and where there."""
        for scene in self.scenes:
            if all(a <= i < b for i, (a, b) in zip(voxel, scene.box, strict=True)):
                inside = [int(i) - a for i, a in zip(voxel, scene.box.start, strict=True)]
                what = "voxel" if scene.warp is None else "warped voxel"
                return f"{scene.url}, {what} {inside[0]},{inside[1]}"
        return f"{self.name}, voxel {int(voxel[0])},{int(voxel[1])}"


def open_folder(path: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open a folder or a pattern: a mosaic if its first file is a GeoTIFF, else slices.

    A stack of rasters is asked for by a z axis, or by the coordinate reference system ``none``.

    Raises:
        VolumeError: no files, or files that do not fit together.
        InputError: rasters without rasterio.
    """
    if "z" not in (reading.axes or "").lower() and reading.crs != NO_CRS:
        files = list_slices(path)
        if is_geotiff(files[0]):
            return open_mosaic(files, reading, name=str(path))
    return open_slices(path, reading)


def open_raster(path: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open a GeoTIFF as :func:`pipeline.volume.sources.geotiff.open_geotiff` does, or warped to another system.

    Raises:
        VolumeError: see there, and :func:`open_mosaic`.
        InputError: rasterio is not installed.
    """
    if reading.warp in (None, FIRST):
        return open_geotiff(path, reading)
    return open_mosaic([path], reading, name=open_file(path).url)


def check_told(source: Source, reading: Reading) -> None:
    """Raise VolumeError if a user says of an image what only rasters can be told: a system that it has not, a warp."""
    if isinstance(source, RasterSource | MosaicSource):
        return
    geo, told = source.geo, reading.crs
    own = NO_CRS if geo is None else geo.crs
    if told not in (None, own) and (NO_CRS in (told, own) or not same_crs(own, str(told))):
        found = "no place on Earth" if geo is None else geo.code or geo.name
        raise VolumeError(
            f"{source.name}: {told} cannot be its coordinate reference system: it has {found}; leave --crs out"
        )
    if reading.warp is not None:
        raise VolumeError(f"{source.name}: only rasters (GeoTIFF) are warped; leave --warp out")


def open_mosaic(files: Sequence[str | Path], reading: Reading = DEFAULT, *, name: str) -> Source:
    """Open GeoTIFFs of one grid as one image: ``yx``, ``cyx`` if they have several bands.

    Args:
        files: the one that wins where several have a value comes first.
        reading: what the user says; each file is placed at the nearest voxel, at most ``snap`` voxels off, or warped.
            There is level 0 only: overviews of different files do not lie on one grid.
        name: what messages call the whole.

    Raises:
        VolumeError: two files differ in bands, data type or nodata; in CRS, voxel size or grid, where they are not to
            be warped; or all cover the same voxels, so that only the first would be seen; a snap of half a voxel.
        InputError: rasterio is not installed.
    """
    check_only_level(reading.level, where=name)
    if not 0 <= reading.snap < 0.5:
        raise VolumeError(
            f"{name}: a file cannot be moved by {reading.snap:g} voxels; give --snap from 0, below 0.5"
        )
    pieces = [_open(file, reading) for file in files]
    first = pieces[0]
    for piece in pieces[1:]:
        check_alike(first, piece)
    grid = first.geo if reading.warp is None else common_grid(first, reading.warp)
    boxes, on_grid = place(pieces, grid, reading)
    if len(boxes) > 1 and len(set(boxes)) == 1:
        raise VolumeError(
            f"{name}: all {len(files)} files cover the same voxels, so only {open_file(files[0]).name} is seen; name"
            " one of them, or make bands or dates one file of several bands (--axes zyx reads them as a stack)"
        )
    start = (min(box.start[0] for box in boxes), min(box.start[1] for box in boxes))
    stop = (max(box.stop[0] for box in boxes), max(box.stop[1] for box in boxes))
    geo, shape = grid.shifted(start), (stop[0] - start[0], stop[1] - start[1])
    warps = [
        None if ok else Warp(p.geo.crs, geo, shape, reading.resampling)
        for p, ok in zip(pieces, on_grid, strict=True)
    ]
    scenes = [Scene(p.name, box.relative_to(start), how) for p, box, how in zip(pieces, boxes, warps, strict=True)]
    return MosaicSource(
        name=name,
        shape=shape,
        channels=first.channels,
        dtype=first.dtype,
        space=space_of(geo),
        slab=None if all(on_grid) else (BLOCK, BLOCK),
        scenes=tuple(scenes),
        bands=first.bands,
        geo=geo,
        files=tuple(piece.name for piece in pieces),
        channel_names=first.channel_names,
    )


def _open(file: str | Path, reading: Reading) -> RasterSource:
    """Read a file's header."""
    with open_geotiff(file, reading) as source:
        if not isinstance(source, RasterSource):
            raise VolumeError(
                f"{file}: it holds several images, and a mosaic is made of files of one; name it alone"
            )
        return source


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


def _read(scene: Scene, box: Box, bands: Sequence[int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Read a box of the mosaic out of a scene that touches it: ``(c, y, x)``, and where it covers it, ``(y, x)``."""
    try:
        with Raster(scene.url) as raster:
            if scene.warp is not None:
                warped: tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]
                warped = raster.run(read_warped, raster.dataset, scene.warp, box, bands)
                return warped
            return raster.read(box.relative_to(scene.box.start), bands), np.ones(box.shape, np.bool_)
    except Exception as error:
        if not lies_in_the_bytes(error):
            raise
        raise unreadable(scene.url, error, f"voxels {box.relative_to(scene.box.start)}") from error
