"""Ingest of GeoTIFF and COG: the raster's voxels by windows, and where on Earth it lies.

A TIFF is a GeoTIFF if its tags place it in a coordinate reference system; one that only has a scale, or whose pages
are several images, is a plain TIFF. All bands are channels; masks and colour tables are left out (an index into a
palette is a class id). Overviews are levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Box
from pipeline.volume.geo import Georeference
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, check_dtype, check_own_axes, unreadable
from pipeline.volume.sources.tiff import open_tiff
from pipeline.volume.space import Space

try:
    import rasterio
    from rasterio.enums import WktVersion
    from rasterio.windows import Window
except ImportError:  # an extra: only those who have rasters need it
    rasterio = None

_KEYS = 34735
"""Tag of the GeoKeyDirectory, which names the coordinate reference system."""

_PLACES = (33550, 34264)
"""Tags of ModelPixelScale and ModelTransformation, either of which makes a transform."""

_UNITS = {1.0: "meter", 0.3048: "foot"}
"""Name in OME-NGFF of a CRS's unit of length, by its metres; degrees and others have none there."""


@dataclass(slots=True, eq=False)
class RasterSource(Source):
    """One resolution level of a raster file.

    Attributes:
        path: the file.
        geo: of this level.
        overview: number of the overview that is read; None for the raster itself.
        idle: open handles that no thread uses: GDAL's may be used by one thread at a time.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    path: Path
    geo: Georeference = field()  # not the default that Source has
    overview: int | None
    idle: SimpleQueue[Any] = field(default_factory=SimpleQueue)

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(c, y, x)``, one channel a band."""
        try:
            with self._handle() as raster:
                return read_window(raster, box)
        except Exception as error:
            raise unreadable(self.name, error, f"voxels {box}") from error

    def close(self) -> None:
        """Close the handles."""
        while (raster := self._take()) is not None:
            raster.close()

    @contextmanager
    def _handle(self) -> Iterator[Any]:
        """Lend a handle; one that failed is closed."""
        raster = self._take() or open_raster(self.path, self.overview)
        try:
            yield raster
        except BaseException:
            raster.close()
            raise
        self.idle.put(raster)

    def _take(self) -> Any:
        try:
            return self.idle.get_nowait()
        except Empty:
            return None


def is_geotiff(path: Path) -> bool:
    """Whether the tags of a TIFF's first page hold a georeference; False for what is no TIFF or is damaged."""
    try:
        with tifffile.TiffFile(path) as tif:
            tags = tif.pages.first.tags
            return _KEYS in tags and any(place in tags for place in _PLACES)
    except Exception:  # whatever tifffile makes of damage, the reader of plain TIFFs will tell
        return False


def open_geotiff(path: Path, reading: Reading = DEFAULT) -> Source:
    """Open one level of a GeoTIFF: ``yx``, ``cyx`` if it has several bands.

    A file without a coordinate reference system, or with several images, is opened as a plain TIFF.

    Args:
        path: the file.
        reading: what the user says; holds the axes where the file does not say them, and the level.

    Raises:
        VolumeError: damaged or cut off, no such level, voxels that are not numeric, other axes.
        InputError: rasterio is not installed.
    """
    name = str(path)
    need_rasterio(name)
    try:
        check_whole(path)
        with open_raster(path, None) as raster:
            if raster.crs is None or len(raster.subdatasets) > 1:
                return open_tiff(path, reading)
            overviews = raster.overviews(1)
        if not 0 <= reading.level <= len(overviews):
            raise VolumeError(f"{name}: there is no level {reading.level}; it has levels 0 to {len(overviews)}")
        overview = reading.level - 1 if reading.level else None
        with open_raster(path, overview) as raster:
            source = _source(raster, path, overview)
    except VolumeError:
        raise
    except Exception as error:
        raise unreadable(name, error) from error
    check_own_axes(reading.axes, source.space.axes if source.channels is None else "cyx", where=name)
    return source


def need_rasterio(name: str) -> None:
    """Raise InputError if rasters cannot be read here."""
    if rasterio is None:
        raise InputError(f"{name}: rasters need the extra: pip install 'overtile[geo]'")


def open_raster(path: Path, overview: int | None) -> Any:
    """Return a handle of a raster file, or of one of its overviews, for one thread at a time."""
    chosen = {} if overview is None else {"overview_level": overview}
    return rasterio.open(path, driver="GTiff", **chosen)


def read_window(raster: Any, box: Box) -> npt.NDArray[Any]:
    """Read a box that lies inside a raster: ``(c, y, x)``, all its bands."""
    (top, bottom), (left, right) = box
    voxels: npt.NDArray[Any] = raster.read(window=Window(left, top, right - left, bottom - top))
    return voxels


def check_whole(path: Path) -> None:
    """Raise VolumeError if a TIFF ends before its voxels do: GDAL would find that only as it reads them."""
    with tifffile.TiffFile(path) as tif:
        size = tif.filehandle.size
        for page in tif.pages:
            segments = zip(page.dataoffsets, page.databytecounts, strict=False)
            end = max((offset + count for offset, count in segments), default=0)
            if end > size:
                raise VolumeError(f"{path}: cut off: its voxels end at byte {end}, but the file has {size} bytes")


def reference_of(raster: Any) -> Georeference:
    """Return the reference of an open raster that has a CRS."""
    crs = raster.crs.to_wkt(version=WktVersion.WKT2_2019)
    a, b, c, d, e, f = (float(v) for v in tuple(raster.transform)[:6])
    return Georeference(crs, (a, b, c, d, e, f), None if raster.nodata is None else float(raster.nodata))


def space_of(raster: Any, geo: Georeference) -> Space:
    """Return voxel size and unit of an open raster; degrees have no unit in OME-NGFF."""
    unit = None
    if raster.crs.is_projected:
        _, metres = raster.crs.linear_units_factor
        unit = _UNITS.get(round(metres, 9))
    return Space("yx", geo.voxel_size, (0.0, 0.0), unit)


def _source(raster: Any, path: Path, overview: int | None) -> RasterSource:
    geo = reference_of(raster)
    return RasterSource(
        name=str(path),
        shape=tuple(int(n) for n in raster.shape),
        channels=int(raster.count) if raster.count > 1 else None,
        dtype=check_dtype(np.dtype(raster.dtypes[0]), where=str(path)),
        space=space_of(raster, geo),
        slab=tuple(int(n) for n in raster.block_shapes[0]),
        path=path,
        geo=geo,
        overview=overview,
    )
