"""The voxels of one resolution level of a TIFF, tile by tile or strip by strip, from any number of threads.

tifffile says where each piece lies and how it is decoded; the bytes are read here, without a lock and without a shared
position in the file: from an object store near pieces come in one request, and far ones at the same time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from pipeline.store import File, Stat, open_file
from pipeline.volume.sources.piece_headers import check_claim

BATCH = 64
"""Most pieces that are asked for at once."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """One tile or strip that a cut needs.

    Attributes:
        row: of the output, counted in pages.
        page: number of the page in the series.
        index: number of the piece in the page.
        start: of its first voxel: plane of samples, depth, row, column.
    """

    row: int
    page: int
    index: int
    start: tuple[int, int, int, int]


class TiffPieces:
    """An array over the axes of a series that decodes the pieces below a cut.

    Args:
        series: one level of an image; pages of it that lie in other files are read from there.
        file: the file that it is read from.
        stat: of the version of the file that is meant.

    Raises:
        ValueError: the pages are not laid out as the series says, or nothing decodes their voxels.
    """

    def __init__(self, series: tifffile.TiffPageSeries, file: File, stat: Stat) -> None:
        self.shape: tuple[int, ...] = tuple(int(n) for n in series.shape)
        self.dtype: np.dtype[Any] = series.dtype.newbyteorder("=")
        self._series = series
        self._file = file
        self._stat = stat
        self._key = key = series.keyframe
        self._whole = tuple(int(n) for n in key.shaped)  # planes of samples, depth, rows, columns, samples
        length = (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, key.imagewidth)
        self._piece = (1, key.tiledepth if key.is_tiled else 1, *length)
        self._counts = [-(-n // p) for n, p in zip(self._whole[:4], self._piece, strict=True)]
        self._lead, self._axes = _match(self.shape, self._whole)
        if math.prod(self.shape[: self._lead]) != len(series.pages):
            raise ValueError(f"{len(series.pages)} pages of {self._whole} are no array of {self.shape}")
        self._decode = key.decode
        self._decode(None, 0)  # raises if tifffile has no decoder for these voxels
        self._lock = threading.Lock()  # tifffile reads a page's tags when it is first asked for
        self._others: dict[str, tuple[File, Stat]] = {}

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a piece, over the axes of :attr:`shape`."""
        piece = (*self._piece, self._whole[4])
        return (*(1 for _ in range(self._lead)), *(piece[a] for a in self._axes))

    def __getitem__(self, cut: tuple[slice | int, ...]) -> npt.NDArray[Any]:
        spans = [_span(c, n) for c, n in zip(cut, self.shape, strict=True)]
        lead, rest = spans[: self._lead], spans[self._lead :]
        strides = [math.prod(self.shape[i + 1 : self._lead]) for i in range(self._lead)]
        pages = [
            sum(i * s for i, s in zip(at, strides, strict=True)) for at in product(*(range(*s) for s in lead))
        ]
        inside = [(0, n) for n in self._whole]
        for axis, span in zip(self._axes, rest, strict=True):
            inside[axis] = span
        out = np.full((len(pages), *(b - a for a, b in inside)), self._key.nodata, self.dtype)
        wanted = self._below(pages, inside)
        while batch := list(islice(wanted, BATCH)):
            for piece, voxels in self._decoded(batch):
                _paste(out[piece.row], inside, voxels, piece.start)
        whole = out.reshape([stop - start for start, stop in spans])
        return whole[tuple(0 if isinstance(c, int) else slice(None) for c in cut)]

    def _below(self, pages: Sequence[int], inside: Sequence[Span]) -> Iterator[Piece]:
        """Yield the pieces that a cut touches, in the order of the pages."""
        touched = [range(a // p, -(-b // p)) for (a, b), p in zip(inside, self._piece, strict=False)]
        for row, page in enumerate(pages):
            for at in product(*touched):
                index = 0
                for i, n in zip(at, self._counts, strict=True):
                    index = index * n + i
                s, d, y, x = (i * p for i, p in zip(at, self._piece, strict=True))
                yield Piece(row, page, index, (s, d, y, x))

    def _decoded(self, batch: Sequence[Piece]) -> Iterator[tuple[Piece, npt.NDArray[Any]]]:
        """Read and decode pieces; those that take no bytes were never written, and are left out."""
        found: dict[str, list[tuple[Piece, Any, tuple[int, int]]]] = {}
        for piece in batch:
            page, place = self._where(piece)
            if page is not None and place[0] > 0 and place[1] > 0:
                path = "" if page.parent is self._key.parent else str(page.parent.filehandle.path)
                found.setdefault(path, []).append((piece, page, place))
        for path, entries in found.items():
            file, stat = self._file_of(path)
            parts = file.ranges([place for _, _, place in entries], stat)
            for (piece, page, _), data in zip(entries, parts, strict=True):
                yield piece, self._voxels(piece, page, data)

    def _where(self, piece: Piece) -> tuple[Any, tuple[int, int]]:
        """Return the page of a piece, and its first byte and number of bytes."""
        with self._lock:
            page = self._series.pages[piece.page]
            if page is None or piece.index >= min(len(page.dataoffsets), len(page.databytecounts)):
                return None, (0, 0)
            return page, (int(page.dataoffsets[piece.index]), int(page.databytecounts[piece.index]))

    def _file_of(self, path: str) -> tuple[File, Stat]:
        if not path:
            return self._file, self._stat
        if path not in self._others:
            file = open_file(path)
            self._others[path] = (file, file.stat())
        return self._others[path]

    def _voxels(self, piece: Piece, page: Any, data: bytes) -> npt.NDArray[Any]:
        """Decode one piece: ``(depth, rows, columns, samples)``."""
        key = self._key
        _, _, rows, columns, samples = self._whole
        _, _, y, x = piece.start
        whole = (self._piece[2], self._piece[3], samples)
        seen = (min(whole[0], rows - y), min(whole[1], columns - x))
        check_claim(int(key.compression), key.jpegheader or data, whole, seen)
        options = {}
        if page.jpegtables is not None:
            options["jpegtables"] = page.jpegtables
        if key.jpegheader is not None:
            options["jpegheader"] = key.jpegheader
        return np.asarray(self._decode(data, piece.index, **options)[0])


def _match(shape: Sequence[int], whole: Sequence[int]) -> tuple[int, list[int]]:
    """Match the last axes of a series with those of its pages.

    Returns:
        how many leading axes count pages; for each of the others, which axis of ``whole`` it is.
    """
    axes: list[int] = []
    left = len(shape)
    for axis in reversed(range(len(whole))):
        if left and shape[left - 1] == whole[axis]:
            axes.insert(0, axis)
            left -= 1
        elif whole[axis] != 1:
            raise ValueError(f"pages of {tuple(whole)} are no array of {tuple(shape)}")
    return left, axes


def _paste(out: npt.NDArray[Any], inside: Sequence[Span], voxels: npt.NDArray[Any], start: Sequence[int]) -> None:
    """Copy what lies inside the cut from one piece into one page of the output."""
    into: list[slice | int] = [start[0] - inside[0][0]]
    part: list[slice] = []
    for (first, last), at, length in zip(inside[1:4], start[1:], voxels.shape, strict=False):
        begin, end = max(first, at), min(last, at + length)
        into.append(slice(begin - first, end - first))
        part.append(slice(begin - at, end - at))
    part.append(slice(*inside[4]))
    out[tuple(into)] = voxels[tuple(part)]


def _span(cut: slice | int, length: int) -> Span:
    """Return the half-open range of a cut along one axis."""
    if isinstance(cut, int):
        return cut, cut + 1
    start, stop, _ = cut.indices(length)
    return start, max(start, stop)
