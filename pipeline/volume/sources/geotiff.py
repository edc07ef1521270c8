"""GeoTIFF and COG: the raster's voxels by windows, and where on Earth it lies.

A TIFF is a GeoTIFF if its tags give it a place: a transform, or ground control points. In which coordinate reference
system that is must be told, by the file or by the user, who may also say ``none``: then it is a plain TIFF, as is one
whose pages are several images. All bands are channels, an alpha band too (leave it out with ``--bands``); masks and
colour tables are left out (an index into a palette is a class id). Overviews are levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.store import open_file
from pipeline.volume.faults import lies_in_the_bytes
from pipeline.volume.geo import Georeference
from pipeline.volume.sources.channels import chosen_names
from pipeline.volume.sources.handles import Handles
from pipeline.volume.sources.raster import (
    NO_CRS,
    Raster,
    band_names,
    check_pieces,
    check_whole,
    crs_wkt,
    need_rasterio,
    reference_of,
    same_crs,
    space_of,
)
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, check_dtype, check_own_axes, unreadable
from pipeline.volume.sources.tiff import open_tiff
from pipeline.volume.space import Space

_PLACES = (33550, 33922, 34264)
"""Tags of ModelPixelScale, ModelTiepoint (ground control points) and ModelTransformation."""


@dataclass(slots=True, eq=False)
class RasterSource(Source):
    """One resolution level of a raster file.

    Attributes:
        geo: of this level.
        overview: number of the overview that is read; None for the raster itself.
        bands: those that are read, counted from 1.
        handles: of the file.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    overview: int | None
    bands: tuple[int, ...]
    handles: Handles
    geo: Georeference = field()  # these four are not the defaults that Source has
    levels: int = field()
    files: tuple[str, ...] = field()
    channel_names: tuple[str, ...] | None = field()

    def select(self, indices: tuple[int, ...]) -> RasterSource:
        """Return the source of some bands, counted from 0."""
        return replace(
            self,
            channels=len(indices) if len(indices) > 1 else None,
            bands=tuple(self.bands[i] for i in indices),
            channel_names=chosen_names(self.channel_names, indices),
        )

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(c, y, x)``, one channel a band."""
        try:
            with self.handles.lend() as raster:
                voxels: npt.NDArray[Any] = raster.read(box, self.bands)
                return voxels
        except Exception as error:
            if not lies_in_the_bytes(error):
                raise
            raise unreadable(self.name, error, f"voxels {box}") from error

    def close(self) -> None:
        """Close the handles."""
        self.handles.close()


def is_geotiff(url: str | Path) -> bool:
    """Whether the tags of a TIFF's first page give it a place; False for what is no TIFF or is damaged."""
    try:
        with open_file(url).open() as file, tifffile.TiffFile(file) as tif:
            tags = tif.pages.first.tags
            return any(place in tags for place in _PLACES)
    except Exception:  # whatever tifffile makes of damage, the reader of plain TIFFs will tell
        return False


def open_geotiff(url: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open one level of a GeoTIFF: ``yx``, ``cyx`` if it has several bands.

    A file with several images, or that is to be read without a system, is opened as a plain TIFF.

    Args:
        url: the file.
        reading: what the user says; holds the axes where the file does not say them, and the level.

    Raises:
        VolumeError: damaged or cut off, no such level, voxels that are not numeric, other axes; no coordinate
            reference system, or another one than the user says; a place by control points alone; bands of different
            nodata.
        InputError: rasterio is not installed.
    """
    name = open_file(url).url
    if reading.crs == NO_CRS:
        return open_tiff(url, reading)
    need_rasterio(name)
    try:
        check_whole(url)
        with Raster(name) as raster:
            if len(raster.dataset.subdatasets) > 1:
                return open_tiff(url, reading)
            crs = _system(raster.dataset, reading, name)
            overviews = len(raster.dataset.overviews(1))
        if not 0 <= reading.level <= overviews:
            raise VolumeError(f"{name}: there is no level {reading.level}; it has levels 0 to {overviews}")
        source = _source(name, crs, reading, levels=overviews + 1)
    except Exception as error:
        if not lies_in_the_bytes(error):
            raise
        raise unreadable(name, error) from error
    check_own_axes(reading.axes, source.space.axes if source.channels is None else "cyx", where=name)
    return source


def _system(dataset: Any, reading: Reading, name: str) -> str:
    """Return the WKT of an open raster's system: the file's, or the one that the user says where there is none."""
    points, _ = dataset.gcps
    if points:
        raise VolumeError(
            f"{name}: {len(points)} ground control points place it, which make no grid; warp it to one first, for"
            " example with gdalwarp, or read it as an image that lies nowhere with --crs none"
        )
    if dataset.crs is None and reading.crs is None:
        raise VolumeError(
            f"{name}: it has a transform, but does not tell its coordinate reference system; say it with --crs, for"
            " example --crs EPSG:32618, or read it as an image that lies nowhere with --crs none"
        )
    told = None if reading.crs is None else crs_wkt(reading.crs, where=name)
    own = None if dataset.crs is None else crs_wkt(dataset.crs.to_wkt(), where=name)
    if own is None or told is None:
        return own or told or ""
    if not same_crs(own, told):
        found = Georeference(own, (1, 0, 0, 0, 1, 0), None)
        raise VolumeError(
            f"{name}: its coordinate reference system is {found.code or found.name}, not {reading.crs}; leave --crs"
            " out, or say --warp to bring it to another one"
        )
    return own


def _source(name: str, crs: str, reading: Reading, *, levels: int) -> RasterSource:
    """Return the source of a level that the file has."""
    overview = reading.level - 1 if reading.level else None
    handles = Handles(lambda: Raster(name, overview))
    with handles.lend() as raster:
        dataset = raster.dataset
        check_pieces(dataset, where=name)
        geo = reference_of(dataset, crs, reading.bands, where=name)
        source = RasterSource(
            name=name,
            shape=tuple(int(n) for n in dataset.shape),
            channels=int(dataset.count) if dataset.count > 1 else None,
            dtype=check_dtype(np.dtype(dataset.dtypes[0]), where=name),
            space=space_of(geo),
            slab=tuple(int(n) for n in dataset.block_shapes[0]),
            overview=overview,
            bands=tuple(range(1, dataset.count + 1)),
            handles=handles,
            geo=geo,
            levels=levels,
            files=(name,),
            channel_names=band_names(dataset),
        )
    return source
