"""Raster files through rasterio, wherever they lie: a handle, and what its header tells."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile

from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Box
from pipeline.store import File, open_file
from pipeline.volume.geo import Georeference
from pipeline.volume.sources.tiff import PIECE_BYTES
from pipeline.volume.sources.tiff_chain import check_chain
from pipeline.volume.space import Space

try:
    import rasterio
    import rasterio.warp
    from rasterio.crs import CRS
    from rasterio.enums import WktVersion
    from rasterio.errors import CRSError
    from rasterio.windows import Window
except ImportError:  # an extra: only those who have rasters need it
    rasterio = None

CACHE = 32 << 20
"""Bytes of decoded blocks that GDAL keeps in a process, where ``GDAL_CACHEMAX`` does not say it; its own default is a
share of the machine's memory, which no plan of a worker knows of."""

os.environ.setdefault("GDAL_CACHEMAX", str(CACHE))  # read once, when the first block is kept

NO_CRS = "none"
"""What a user says of a raster that is to be read as an image that lies nowhere."""

_UNITS = {1.0: "meter", 0.3048: "foot"}
"""Name in OME-NGFF of a CRS's unit of length, by its metres; degrees and others have none there."""


class Raster:
    """An open raster file, or one of its overviews; for one thread at a time.

    GDAL tells of a fault of the store only that a read failed: what failed is kept, and raised in its place. A file
    that is elsewhere has no companions (``.ovr``, ``.msk``, ``.aux.xml``). rasterio keeps such files in variables of
    the context that they were opened in, and crashes in another one: all is done in the handle's own, by any thread.

    Attributes:
        dataset: rasterio's handle; what reads voxels goes through :meth:`run`.
    """

    def __init__(self, url: str, overview: int | None = None) -> None:
        file = open_file(url)
        self._faults: list[BaseException] = []
        chosen = {} if overview is None else {"overview_level": overview}
        opener = {} if file.path is not None else {"opener": _Opener(file, self._faults)}
        self._context = copy_context()
        self.dataset: Any = self.run(
            partial(rasterio.open, file.path or file.url, driver="GTiff", **chosen, **opener)
        )

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function makes of the dataset.

        Raises:
            Exception: what the store said, in the place of what GDAL made of it.
        """
        try:
            return self._context.run(function, *arguments)
        except rasterio.errors.RasterioError as error:
            if self._faults:
                raise self._faults[0] from error
            raise

    def read(self, box: Box, bands: Sequence[int] | None = None) -> npt.NDArray[Any]:
        """Read a box that lies inside: ``(c, y, x)``; all bands, or those named, counted from 1."""
        voxels: npt.NDArray[Any] = self.run(read_window, self.dataset, box, bands)
        return voxels

    def close(self) -> None:
        """Let go of the file."""
        self._context.run(self.dataset.close)

    def __enter__(self) -> Raster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Opener:
    """What GDAL calls to open a file that lies elsewhere, and to look for its companions, of which there are none."""

    def __init__(self, file: File, faults: list[BaseException]) -> None:
        self._file = file
        self._faults = faults

    def __call__(self, path: str, mode: str = "rb") -> BinaryIO | _Watched:
        if path != self._file.url:
            raise FileNotFoundError(path)
        try:
            return _Watched(self._file.open(), self._faults)
        except Exception as error:
            self._faults.append(error)
            raise


class _Watched:
    """A file whose faults are kept: GDAL calls it from C, where an exception would be lost."""

    def __init__(self, file: BinaryIO, faults: list[BaseException]) -> None:
        self._file = file
        self._faults = faults
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, count: int = -1) -> bytes:
        try:
            return self._file.read(count)
        except Exception as error:
            self._faults.append(error)
            return b""

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def need_rasterio(name: str) -> None:
    """Raise InputError if rasters cannot be read here."""
    if rasterio is None:
        raise InputError(f"{name}: rasters need the extra: pip install 'overtile[geo]'")


def read_window(dataset: Any, box: Box, bands: Sequence[int] | None = None) -> npt.NDArray[Any]:
    """Read a box that lies inside an open dataset: ``(c, y, x)``; all bands, or those named, counted from 1."""
    (top, bottom), (left, right) = box
    window = Window(left, top, right - left, bottom - top)
    voxels: npt.NDArray[Any] = dataset.read(None if bands is None else list(bands), window=window)
    return voxels


def check_whole(url: Any) -> None:
    """Raise VolumeError if a TIFF ends before its voxels do: GDAL would find that only as it reads them."""
    file = open_file(url)
    with file.open() as opened:
        check_chain(opened, file.stat().size, file.url)
        opened.seek(0)
        with tifffile.TiffFile(opened) as tif:
            size = tif.filehandle.size
            for page in tif.pages:
                segments = zip(page.dataoffsets, page.databytecounts, strict=False)
                end = max((offset + count for offset, count in segments), default=0)
                if end > size:
                    raise VolumeError(
                        f"{url}: cut off: its voxels end at byte {end}, but the file has {size} bytes"
                    )


def check_pieces(dataset: Any, *, where: str) -> None:
    """Raise VolumeError if a tile or strip would fill the memory: a small file can claim any size."""
    shape, itemsize = dataset.block_shapes[0], np.dtype(dataset.dtypes[0]).itemsize
    together = dataset.count if str(dataset.profile.get("interleave", "")).lower() == "pixel" else 1
    size = math.prod(int(n) for n in shape) * itemsize * together
    if size > PIECE_BYTES:
        raise VolumeError(
            f"{where}: its tiles or strips have {size} bytes, and at most {PIECE_BYTES} are decoded at once; save it"
            " with smaller ones, for example with gdal_translate -co TILED=YES"
        )


def crs_wkt(text: str, *, where: str) -> str:
    """Return the WKT of a coordinate reference system that a user names.

    Raises:
        VolumeError: it is none that is known.
    """
    try:
        wkt: str = CRS.from_user_input(text).to_wkt(version=WktVersion.WKT2_2019)
    except CRSError as error:
        raise VolumeError(
            f"{where}: coordinate reference system {text!r} is unknown ({error}); write it as EPSG:32618 or as WKT"
        ) from error
    return wkt


def same_crs(one: str, two: str) -> bool:
    """Whether two systems, as WKT or code, are the same."""
    return bool(CRS.from_user_input(one) == CRS.from_user_input(two))


def space_of(geo: Georeference) -> Space:
    """Return voxel size and unit of a raster; degrees have no unit in OME-NGFF."""
    unit, crs = None, CRS.from_user_input(geo.crs)
    if crs.is_projected:
        _, metres = crs.linear_units_factor
        unit = _UNITS.get(round(metres, 9))
    return Space("yx", geo.voxel_size, (0.0, 0.0), unit)


def brought(x: Any, y: Any, *, source: str, target: str) -> tuple[Any, Any]:
    """Return points of one coordinate reference system in another; infinity where that does not reach.

    Args:
        x: one array, east or to the right: it comes first in every system, as in GDAL.
        y: the other one.
        source: system of the points, as WKT or code.
        target: the other system.
    """
    systems = [CRS.from_user_input(crs) for crs in (source, target)]
    if systems[0] == systems[1]:
        return x, y
    try:
        found = rasterio.warp.transform(*systems, x, y)
    except (
        Exception
    ):  # PROJ refuses all points for one that it cannot bring there, and its errors have no public name
        return np.full(np.shape(x), np.inf), np.full(np.shape(y), np.inf)
    return np.asarray(found[0]), np.asarray(found[1])


def band_names(dataset: Any) -> tuple[str, ...] | None:
    """Return the descriptions of the bands, ``band 2`` for one without; None where none has one."""
    names = dataset.descriptions
    return tuple(name or f"band {i}" for i, name in enumerate(names, 1)) if any(names) else None


def reference_of(dataset: Any, crs: str, bands: Sequence[int] | None, *, where: str) -> Georeference:
    """Return where the voxels of an open dataset lie.

    Args:
        dataset: has a transform.
        crs: its system, as WKT.
        bands: those that are read, counted from 1; None for all.
        where: what messages call it.

    Raises:
        VolumeError: bands that are read have different nodata.
    """
    values = [v for i, v in enumerate(dataset.nodatavals, 1) if bands is None or i in bands]
    if len({str(value) for value in values}) > 1:
        raise VolumeError(
            f"{where}: its bands have different nodata ({', '.join(map(str, values))}), and an image has one; choose"
            " bands of one nodata with --bands, or give all the same, for example with gdal_translate -a_nodata"
        )
    a, b, c, d, e, f = (float(v) for v in tuple(dataset.transform)[:6])
    nodata = values[0] if values else None
    return Georeference(crs, (a, b, c, d, e, f), None if nodata is None else float(np.float64(nodata)))
