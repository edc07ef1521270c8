"""An array that lies in a file as it lies in memory: cut by slices, of which only the bytes are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.store import File, Stat

BATCH = 1 << 26
"""Most bytes that are asked for at once."""


@dataclass(frozen=True, slots=True)
class RawArray:
    """An uncompressed array in C order.

    Attributes:
        file: where it lies.
        stat: of the version of the file that is meant.
        offset: of its first byte.
        dtype: as it is stored.
        shape: over all its axes.
    """

    file: File
    stat: Stat
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __getitem__(self, cut: tuple[slice | int, ...]) -> npt.NDArray[Any]:
        spans = [_span(c, n) for c, n in zip(cut, self.shape, strict=True)]
        out = np.empty([stop - start for start, stop in spans], self.dtype)
        flat = out.reshape(-1).view("u1")
        done = 0
        for batch in _batches(self._runs(spans)):
            for part in self.file.ranges(batch, self.stat):
                flat[done : done + len(part)] = np.frombuffer(part, "u1")
                done += len(part)
        return out[tuple(0 if isinstance(c, int) else slice(None) for c in cut)]

    def _runs(self, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield first byte and number of bytes of what lies in one piece, in C order."""
        inner = len(spans)
        while inner > 1 and spans[inner - 1] == (0, self.shape[inner - 1]):
            inner -= 1
        inner = max(0, inner - 1)
        steps = [math.prod(self.shape[i + 1 :]) * self.dtype.itemsize for i in range(len(self.shape))]
        first, last = spans[inner] if spans else (0, 1)
        step = steps[inner] if spans else self.dtype.itemsize
        for place in product(*(range(*span) for span in spans[:inner])):
            start = self.offset + sum(i * s for i, s in zip(place, steps, strict=False)) + first * step
            yield start, (last - first) * step


@dataclass(frozen=True, slots=True)
class Transposed:
    """An array in Fortran order: the same bytes with the axes turned round.

    Attributes:
        turned: the array with its axes in reverse order.
    """

    turned: RawArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape over all axes."""
        return self.turned.shape[::-1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type as it is stored."""
        return self.turned.dtype

    def __getitem__(self, cut: tuple[slice | int, ...]) -> npt.NDArray[Any]:
        return self.turned[cut[::-1]].T


def _span(cut: slice | int, length: int) -> tuple[int, int]:
    """Return the half-open range of a cut along one axis."""
    if isinstance(cut, int):
        return cut, cut + 1
    start, stop, step = cut.indices(length)
    assert step == 1, cut
    return start, max(start, stop)


def _batches(runs: Iterator[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield ranges in lists of about BATCH bytes; a longer one is cut."""
    batch: list[tuple[int, int]] = []
    held = 0
    for start, count in runs:
        for at in range(0, count, BATCH):
            part = min(BATCH, count - at)
            if batch and held + part > BATCH:
                yield batch
                batch, held = [], 0
            batch.append((start + at, part))
            held += part
    if batch:
        yield batch
