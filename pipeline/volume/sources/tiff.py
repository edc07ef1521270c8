"""Ingest of TIFF: classic and BigTIFF, strips or tiles, one page or many, OME-TIFF, ImageJ, image pyramids.

Nothing large is decoded at once: an uncompressed image in one piece is memory-mapped, any other is read strip by
strip or tile by tile. Voxels are the stored values (no alpha is applied). The first series is the image; what
follows (thumbnail, mask) is left out, but a second one of the same shape is refused: a volume has one position.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from pipeline.errors import VolumeError
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, array_source, unreadable
from pipeline.volume.sources.tiff_space import read_space

PIECE_BYTES = 1 << 31
"""Largest tile or strip, decoded, that is read: a small file can claim any size, and it is decoded whole."""

MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

_AXES = {"X": "x", "Y": "y", "Z": "z", "C": "c", "S": "c", "T": "t"}
"""What tifffile's axis codes are to us; S are the samples of a pixel. Others say nothing (I is any sequence)."""


def open_tiff(path: Path, reading: Reading = DEFAULT) -> Source:
    """Open one resolution level of a TIFF file.

    Args:
        path: the file.
        reading: what the user says; holds the axes where the file does not say them, and the level.

    Raises:
        VolumeError: damaged or cut off, no such level, several positions, unknown axes, a palette.
    """
    name = str(path)
    tif: tifffile.TiffFile | None = None
    try:
        tif = tifffile.TiffFile(path)
        return _open_level(tif, name, reading)
    except Exception as error:
        if tif is not None:
            tif.close()
        if isinstance(error, VolumeError):
            raise
        raise unreadable(name, error) from error


def _open_level(tif: tifffile.TiffFile, name: str, reading: Reading) -> Source:
    finest = _only_series(tif, name)
    if not 0 <= reading.level < len(finest.levels):
        raise VolumeError(
            f"{name}: there is no level {reading.level}; it has levels 0 to {len(finest.levels) - 1}"
        )
    series = finest.levels[reading.level]
    _check_complete(series, name)
    axes = reading.axes or _own_axes(series, name)
    array, pieces, closing = _lazy(tif, series)
    source = array_source(name, array, axes, pieces=pieces, closing=closing)
    lengths = dict(zip(axes.lower(), finest.shape, strict=True))
    source.space = read_space(tif, source.space.axes, source.shape, tuple(lengths[a] for a in source.space.axes))
    return source


def _only_series(tif: tifffile.TiffFile, name: str) -> tifffile.TiffPageSeries:
    """Return the series that is the image."""
    if len(tif.pages) == 0:
        raise VolumeError(f"{name}: a TIFF without an image")
    _check_pages(tif, name)
    first = tif.series[0]
    same = sum(s.shape == first.shape and s.dtype == first.dtype for s in tif.series)
    if same > 1:
        raise VolumeError(f"{name}: {same} images of the shape {first.shape} (positions?); split them into files")
    if first.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise VolumeError(
            f"{name}: its voxels are indices into a palette; save the indices as grey if they are class ids,"
            " else save it as RGB"
        )
    return first


def _own_axes(series: tifffile.TiffPageSeries, name: str) -> str:
    """Return the axes that the file says."""
    axes = "".join(_AXES.get(a, "?") for a in series.axes)
    if "?" in axes or len(set(axes)) != len(axes):
        raise VolumeError(
            f"{name}: shape {series.shape} has axes {series.axes}, which do not tell slices from channels; say them"
            " with --axes, for example zyx, cyx, yxc or czyx"
        )
    return axes


def _check_pages(tif: tifffile.TiffFile, name: str) -> None:
    """Refuse a file whose chain of pages is broken: tifffile would go on with the pages before."""
    last, handle, form = tif.pages[-1], tif.filehandle, tif.tiff
    if last.is_virtual:
        return
    handle.seek(last.offset)
    (tags,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
    handle.seek(last.offset + form.tagnosize + tags * form.tagsize)
    (following,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
    if following:
        raise VolumeError(f"{name}: cut off: the page after page {len(tif.pages)} is missing")


def _check_complete(series: tifffile.TiffPageSeries, name: str) -> None:
    """Refuse a file that ends, or lists fewer tiles or strips, before its voxels do: tifffile would read zeros."""
    if series.dataoffset is None:
        _check_pieces(series, name)
    for number, page in enumerate(series.pages):
        if page is None:
            raise VolumeError(f"{name}: page {number} of the image, counted from 0, is missing")
        segments = zip(page.dataoffsets, page.databytecounts, strict=False)
        _check_end(max((o + n for o, n in segments), default=0), page.parent.filehandle.size, name)
    if series.dataoffset is not None:
        size = series.keyframe.parent.filehandle.size
        _check_end(series.dataoffset + series.size * series.dtype.itemsize, size, name)


def _check_pieces(series: tifffile.TiffPageSeries, name: str) -> None:
    """Refuse tiles or strips that are missing or that no memory holds."""
    keyframe = series.keyframe
    size = math.prod(keyframe.chunks) * series.dtype.itemsize
    if size > PIECE_BYTES:
        raise VolumeError(
            f"{name}: its tiles or strips have {size} bytes, and at most {PIECE_BYTES} are decoded at once;"
            " save it with smaller tiles"
        )
    expected = math.prod(keyframe.chunked)
    for page in series.pages:
        if page is not None and not page.is_contiguous and len(page.dataoffsets) < expected:
            raise VolumeError(
                f"{name}: damaged: a page has {len(page.dataoffsets)} tiles or strips, not {expected}"
            )


def _check_end(end: int, size: int, name: str) -> None:
    if end > size:
        raise VolumeError(f"{name}: cut off: its voxels end at byte {end}, but the file has {size} bytes")


def _lazy(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> tuple[Any, tuple[int, ...] | None, Callable[[], None]]:
    """Return an array that reads as it is cut, the shape of the pieces that it decodes, and what closes it."""
    if series.dataoffset is not None and not series.is_multifile:
        dtype = series.dtype.newbyteorder(tif.byteorder)
        path = series.keyframe.parent.filehandle.path
        mapped = np.memmap(path, dtype, mode="r", offset=series.dataoffset, shape=series.shape)
        return mapped, None, tif.close
    store = series.aszarr(level=0)
    array = zarr.open_array(store=store, mode="r", zarr_format=2)

    def closing() -> None:
        store.close()
        tif.close()

    return array, array.chunks, closing
