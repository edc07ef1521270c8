"""Export of a class map or of probabilities as a Cloud Optimized GeoTIFF, which QGIS and GDAL open.

::

    volume --boxes of whole shards--> tiled GeoTIFF --GDAL--> COG with overviews --rename--> target

A COG holds its overviews before its voxels, so they are written twice; memory holds a few boxes and GDAL's cache.
GDAL does not report a write that fails as a file is closed (a full disk), so the COG is read back, box by box, before
it gets its name.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import EnvironmentFaultError, InputError, VolumeError
from pipeline.geometry import Box, Grid
from pipeline.store import fsync
from pipeline.volume.export.ahead import box_shape, in_order, read
from pipeline.volume.geo import Georeference
from pipeline.volume.ngff import image_attributes
from pipeline.volume.sources.raster import check_whole
from pipeline.volume.space import Space
from pipeline.volume.volume import Volume

try:
    import rasterio
    from rasterio import shutil as rasters
    from rasterio.crs import CRS
    from rasterio.errors import RasterioError
    from rasterio.transform import Affine
    from rasterio.windows import Window
except ImportError:  # an extra: only those who have rasters need it
    rasterio = None

TILE = 512
"""Voxels of a tile's edge."""

CACHE = 64 << 20
"""Bytes of GDAL's cache of tiles: its own default is a share of the machine's memory."""

_STORED = {"bool": "uint8", "float16": "float32"}
"""Data types that GeoTIFF lacks, and the ones that hold the same values."""


def export_cog(
    volume: Volume,
    target: Path,
    *,
    geo: Georeference | None,
    classes: Sequence[str] | None,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a volume ``yx`` or ``cyx`` as a tiled COG with overviews, in one step: whole, or not at all.

    Values are the stored ones. Overviews hold the most frequent class of a class map, the mean of anything else.

    Args:
        volume: a band is made of each channel.
        target: the file; one that exists is replaced.
        geo: where the volume lies; its nodata is of the volume's own values.
        classes: names of the class ids if it is a class map: gives the colour table, and tags ``CLASS_0``, ... of the
            band.
        threads: boxes read, and tiles compressed, at once.
        progress: told the boxes written, and their number.

    Raises:
        VolumeError: no georeference, three dimensions, a class map of several channels or of other values than u1 and
            u2, nodata that the data type does not hold; stored chunks that cannot be read raise as for a read.
        InputError: rasterio is not installed, or there is no such folder.
        EnvironmentFaultError: the file cannot be written.
    """
    if rasterio is None:
        raise InputError(f"{target}: rasters need the extra: pip install 'overtile[geo]'")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; make it first")
    profile = _profile(volume, geo, classes)
    grid = Grid(volume.shape, box_shape(volume, (TILE, TILE)))
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    tiled, cog = folder / "tiled.tif", folder / "cog.tif"
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE):
            with rasterio.open(tiled, "w", num_threads=threads, **profile) as raster:
                _describe(raster, classes)
                digests = _write(volume, raster, grid, threads=threads, progress=progress)
            _to_cog(tiled, cog, target, ids=classes is not None, threads=threads)
            _check(cog, grid, digests, target)
        fsync(cog)
        cog.replace(target)
        fsync(target.parent)
    except RasterioError as error:
        raise EnvironmentFaultError(f"{target}: cannot be written ({error}); {_ROOM}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_ROOM = "is there room on the disk? It takes twice the size of the file for a while"


def _profile(volume: Volume, geo: Georeference | None, classes: Sequence[str] | None) -> dict[str, Any]:
    """Return what describes the raster, or refuse what a COG cannot hold."""
    if geo is None:
        raise VolumeError(
            f"{volume.url}: nothing says where on Earth it lies, which a COG must; ingest the image from a GeoTIFF,"
            " or export it as OME-TIFF"
        )
    if volume.space.axes != "yx":
        raise VolumeError(f"{volume.url}: it has axes {volume.axes}; a COG has two dimensions and bands")
    dtype = np.dtype(_STORED.get(volume.dtype.name, volume.dtype.name))
    if classes is not None and (volume.channels != 1 or dtype.name not in ("uint8", "uint16")):
        raise VolumeError(
            f"{volume.url}: {volume.channels} channels of {volume.dtype}; a class map has one, of uint8 or uint16"
        )
    _check_nodata(geo.nodata, dtype, volume.url)
    height, width = volume.shape
    return {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": volume.channels,
        "dtype": dtype.name,
        "crs": _crs(geo, volume.url),
        "transform": Affine(*geo.transform),
        "nodata": geo.nodata,
        **_TILED,
    }


def _crs(geo: Georeference, where: str) -> Any:
    """Return the CRS of a reference, or refuse a reference that says no place."""
    a, b, _, d, e, _ = geo.transform
    if a * e == b * d:
        raise VolumeError(f"{where}: transform {geo.transform}: its voxels have no area; correct the georeference")
    try:
        return CRS.from_user_input(geo.crs)
    except (RasterioError, ValueError) as error:
        raise VolumeError(f"{where}: its CRS {geo.crs[:80]!r} is not understood ({error}); correct it") from error


_TILED = {
    "tiled": True,
    "blockxsize": TILE,
    "blockysize": TILE,
    "interleave": "band",
    "compress": "deflate",
    "zlevel": 1,
    "bigtiff": "if_safer",
}
"""How the file is stored that the COG is made of."""


def _check_nodata(nodata: float | None, dtype: np.dtype[Any], where: str) -> None:
    """Refuse a nodata value that no voxel could have."""
    if nodata is None or dtype.kind == "f":
        return
    limits = np.iinfo(dtype)
    if not math.isfinite(nodata) or int(nodata) != nodata or not limits.min <= nodata <= limits.max:
        raise VolumeError(
            f"{where}: nodata {nodata:g}, but its voxels are {dtype}; give one from {limits.min} to {limits.max},"
            " or none"
        )


def _describe(raster: Any, classes: Sequence[str] | None) -> None:
    """Give a class map its colours and the names of its classes."""
    if classes is None:
        return
    label = image_attributes("", "yx", [("0", Space.unscaled("yx"))], classes=classes)["image-label"]
    raster.write_colormap(1, {entry["label-value"]: tuple(entry["rgba"]) for entry in label["colors"]})
    raster.update_tags(1, **{f"CLASS_{i}": name for i, name in enumerate(classes)})


def _write(
    volume: Volume, raster: Any, grid: Grid, *, threads: int, progress: Callable[[int, int], None] | None
) -> list[int]:
    """Write all boxes, in their order, while threads read the next ones; return the CRC of each one's voxels."""
    digests = []
    for box, voxels in in_order(partial(read, volume), grid.cores(), threads=threads):
        stored = np.ascontiguousarray(voxels, dtype=raster.dtypes[0])
        raster.write(stored, window=_window(box))
        digests.append(zlib.crc32(stored.data))
        if progress is not None:
            progress(len(digests), len(grid))
    return digests


def _check(cog: Path, grid: Grid, digests: Sequence[int], target: Path) -> None:
    """Raise EnvironmentFaultError if a file does not hold the voxels, or the overviews, that were written."""
    check_whole(cog)
    with rasterio.open(cog) as raster:
        for box, digest in zip(grid.cores(), digests, strict=True):
            found = np.ascontiguousarray(raster.read(window=_window(box)))
            if zlib.crc32(found.data) != digest:
                raise EnvironmentFaultError(f"{target}: voxels {box} read otherwise than written; {_ROOM}")


def _window(box: Box) -> Any:
    (top, bottom), (left, right) = box
    return Window(left, top, right - left, bottom - top)


def _to_cog(tiled: Path, cog: Path, target: Path, *, ids: bool, threads: int) -> None:
    """Copy a tiled file, of class ids or of measures, into a COG with overviews; ``target`` is for messages."""
    settings = {"blocksize": TILE, "compress": "DEFLATE", "bigtiff": "IF_SAFER", "num_threads": threads}
    predictor, resampling = ("NO", "MODE") if ids else ("YES", "AVERAGE")
    try:
        rasters.copy(tiled, cog, driver="COG", predictor=predictor, overview_resampling=resampling, **settings)
    except Exception as error:  # GDAL's own errors have no public class
        raise EnvironmentFaultError(f"{target}: cannot be written ({error}); {_ROOM}") from error
