"""Ingest of TIFF: classic and BigTIFF, strips or tiles, one page or many, OME-TIFF, ImageJ, image pyramids.

Nothing large is decoded at once: an uncompressed image in one piece is memory-mapped, any other is read strip by
strip or tile by tile. Voxels are the stored values (no alpha is applied). The first series is the image; what
follows (thumbnail, mask) is left out, but a second one of the same shape is refused: a volume has one position.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pipeline.errors import VolumeError
from pipeline.store import File, Stat, open_file
from pipeline.volume.faults import lies_in_the_bytes
from pipeline.volume.sources.piece_headers import BOUNDED, CLAIMS
from pipeline.volume.sources.raw import RawArray
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, array_source, unreadable
from pipeline.volume.sources.tiff_chain import check_chain
from pipeline.volume.sources.tiff_pieces import TiffPieces
from pipeline.volume.sources.tiff_space import read_space

PIECE_BYTES = 1 << 31
"""Largest tile or strip, decoded, that is read: a small file can claim any size, and it is decoded whole."""

HEADER = 8
"""Bytes of a TIFF's header, which are no voxels."""

_JPEG = (6, 7, 34892, 33007)
"""Compressions whose luma and chroma are decoded to RGB."""
_APERIO_YCBC = 33003
"""Aperio's JPEG 2000 of luma and chroma."""

MOST_BYTES = (1 << 63) - 1
"""Most bytes of an image: what 64 bits count."""

Origin = tuple[File, Stat]
"""A file and the version of it that is meant."""

MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

_AXES = {"X": "x", "Y": "y", "Z": "z", "C": "c", "S": "c", "T": "t"}
"""What tifffile's axis codes are to us; S are the samples of a pixel. Others say nothing (I is any sequence)."""


def open_tiff(path: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open one resolution level of a TIFF file.

    Args:
        path: the file, or its address.
        reading: what the user says; holds the axes where the file does not say them, and the level.

    Raises:
        VolumeError: damaged or cut off, no such level, several positions, unknown axes, a palette, a compression that
            is not read, a size that no memory or no number holds.
        StoreError: the store does not answer.
    """
    file, name = open_file(path), str(path)
    tif: tifffile.TiffFile | None = None
    try:
        stat = file.stat()
        tif = parse_tiff(file, stat)
        return _open_level(tif, name, reading, (file, stat))
    except Exception as error:
        if tif is not None:
            tif.close()
        if not lies_in_the_bytes(error):
            raise
        raise unreadable(name, error) from error


def parse_tiff(file: File, stat: Stat) -> tifffile.TiffFile:
    """Return what tifffile makes of a file, once its chain of pages is known to be sound.

    Raises:
        VolumeError: the chain of pages is broken, or without end.
        Exception: whatever tifffile raises of a damaged file.
    """
    with file.open() as handle:
        check_chain(handle, stat.size, file.url)
    return tifffile.TiffFile(file.path or file.open(), name=file.name)


def _open_level(tif: tifffile.TiffFile, name: str, reading: Reading, origin: Origin) -> Source:
    finest = _only_series(tif, name)
    if not 0 <= reading.level < len(finest.levels):
        raise VolumeError(
            f"{name}: there is no level {reading.level}; it has levels 0 to {len(finest.levels) - 1}"
        )
    series = finest.levels[reading.level]
    _check_size(series, name)
    _check_compression(series.keyframe, name)
    _check_colours(series.keyframe, name)
    _check_complete(series, name)
    axes = reading.axes or _own_axes(series, name)
    array = _lazy(tif, series, origin)
    pieces = array.chunks if isinstance(array, TiffPieces) else None
    source = array_source(name, array, axes, pieces=pieces, closing=tif.close)
    lengths = dict(zip(axes.lower(), finest.shape, strict=True))
    source.space = read_space(tif, source.space.axes, source.shape, tuple(lengths[a] for a in source.space.axes))
    source.levels = len(finest.levels)
    source.files = tuple(dict.fromkeys((origin[0].url, *_other_files(series))))
    return source


def _only_series(tif: tifffile.TiffFile, name: str) -> tifffile.TiffPageSeries:
    """Return the series that is the image."""
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


def _check_colours(page: tifffile.TiffPage, name: str) -> None:
    """Refuse pixels that would be read as luma and chroma: a network would take them for red, green and blue."""
    is_luma = page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression not in _JPEG
    if is_luma or page.compression == _APERIO_YCBC:
        raise VolumeError(
            f"{name}: its tiles hold luma and chroma (YCbCr, compression {int(page.compression)}), which only JPEG"
            " tells how to turn into RGB; save it with JPEG, or with JPEG 2000 of RGB"
        )


def _own_axes(series: tifffile.TiffPageSeries, name: str) -> str:
    """Return the axes that the file says."""
    axes = "".join(_AXES.get(a, "?") for a in series.axes)
    if "?" in axes or len(set(axes)) != len(axes):
        raise VolumeError(
            f"{name}: shape {series.shape} has axes {series.axes}, which do not tell slices from channels; say them"
            " with --axes, for example zyx, cyx, yxc or czyx"
        )
    return axes


def _check_size(series: tifffile.TiffPageSeries, name: str) -> None:
    """Refuse a level without voxels, or whose bytes no number counts."""
    if 0 in series.shape or 0 in series.keyframe.chunks:
        raise VolumeError(
            f"{name}: shape {tuple(series.shape)} in tiles of {series.keyframe.chunks} holds no voxel"
        )
    if series.dtype is None or math.prod(series.shape) * series.dtype.itemsize > MOST_BYTES:
        raise VolumeError(
            f"{name}: shape {tuple(series.shape)} of {series.dtype} claims more than {MOST_BYTES} bytes"
        )


def _check_compression(page: tifffile.TiffPage, name: str) -> None:
    """Refuse a compression that is not decoded here, or whose decoder cannot be kept within a tile's size."""
    compression = int(page.compression)
    if compression not in BOUNDED and compression not in CLAIMS:
        known = tifffile.COMPRESSION
        label = known(compression).name if compression in known._value2member_map_ else "unknown"
        raise VolumeError(
            f"{name}: compression {compression} ({label}) is not read; save it with deflate, Zstandard, LZW, JPEG or"
            " JPEG 2000"
        )


def _check_complete(series: tifffile.TiffPageSeries, name: str) -> None:
    """Refuse a file that ends, or lists fewer tiles or strips, before its voxels do: tifffile would read zeros."""
    if series.dataoffset is None:
        _check_pieces(series, name)
    for number, page in enumerate(series.pages):
        if page is None:
            raise VolumeError(f"{name}: page {number} of the image, counted from 0, is missing")
        segments = [(o, n) for o, n in zip(page.dataoffsets, page.databytecounts, strict=False) if o and n]
        _check_end(max((o + n for o, n in segments), default=0), page.parent.filehandle.size, name)
        first, most = min((o for o, _ in segments), default=HEADER), max((n for _, n in segments), default=0)
        if first < HEADER or (most > PIECE_BYTES and series.dataoffset is None):
            raise VolumeError(
                f"{name}: damaged: page {number} has a tile or strip at byte {first}, inside the header, or one of"
                f" {most} bytes, more than {PIECE_BYTES}"
            )
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


def _lazy(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, origin: Origin) -> Any:
    """Return an array that reads as it is cut: mapped, raw, or decoded piece by piece."""
    file, stat = origin
    if series.dataoffset is None or series.is_multifile:
        return TiffPieces(series, file, stat)
    dtype = series.dtype.newbyteorder(tif.byteorder)
    if file.path is None:
        return RawArray(file, stat, int(series.dataoffset), dtype, tuple(int(n) for n in series.shape))
    return np.memmap(file.path, dtype, mode="r", offset=series.dataoffset, shape=series.shape)


def _other_files(series: tifffile.TiffPageSeries) -> list[str]:
    """Return the paths of an image's files where it has several."""
    if not series.is_multifile:
        return []
    return [str(page.parent.filehandle.path) for page in series.pages if page is not None]
