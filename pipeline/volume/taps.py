"""Which voxels of an axis make a voxel of another size, and how much each weighs: the numbers of resampling.

Everything is a function of the voxel's place in the whole image, so that it is the same in any box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """Which voxels make which, along one axis: index and weights, both ``(terms, voxels)``."""

    index: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float64]

    def cut(self, part: slice) -> Taps:
        """Return those of some of the voxels that are made."""
        return Taps(self.index[:, part], self.weights[:, part])

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]]:
        return iter(zip(self.index, self.weights, strict=True))


def source_range(start: int, stop: int, *, factor: float, length: int) -> tuple[int, int]:
    """Return the voxels that are read along an axis for those of ``[start, stop)``.

    Args:
        start: first voxel that is made.
        stop: behind the last one.
        factor: voxels that are read for one.
        length: voxels that there are.
    """
    if factor == 1:
        return start, stop
    if factor > 1:
        return min(math.floor(start * factor), length - 1), min(math.ceil(stop * factor), length)
    first, last = (math.floor((i + 0.5) * factor - 0.5) for i in (start, stop - 1))
    return max(first, 0), min(last + 2, length)


def taps_of(start: int, stop: int, *, factor: float, source: tuple[int, int]) -> Taps:
    """Return which voxels of a range make each one of ``[start, stop)``, and their weights.

    Args:
        start: first voxel that is made.
        stop: behind the last one.
        factor: voxels that are read for one.
        source: the range that was read, from :func:`source_range`; indices count from its beginning.
    """
    places = np.arange(start, stop, dtype=np.float64)
    if factor == 1:
        index, weights = places[np.newaxis], np.ones((1, len(places)))
    elif factor > 1:
        begin, end = places * factor, (places + 1) * factor
        index = np.floor(begin) + np.arange(math.ceil(factor) + 1)[:, np.newaxis]
        weights = np.maximum(np.minimum(index + 1, end) - np.maximum(index, begin), 0) / factor
    else:
        centre = (places + 0.5) * factor - 0.5
        index = np.floor(centre) + np.arange(2)[:, np.newaxis]
        share = centre - np.floor(centre)
        weights = np.stack([1 - share, share])
    first, last = source
    return Taps(np.clip(index, first, last - 1).astype(np.intp) - first, weights)


def weighted(plane: npt.NDArray[Any], taps: Taps, *, axis: int) -> npt.NDArray[np.float64]:
    """Return weighted sums along an axis; what weighs nothing counts nothing, even if it is NaN."""
    shape = [taps.index.shape[1], plane.shape[1]] if axis == 0 else [plane.shape[0], taps.index.shape[1]]
    total = np.zeros(shape, np.float64)
    for index, weights in taps:
        along = weights[:, np.newaxis] if axis == 0 else weights[np.newaxis]
        term = np.take(plane, index, axis=axis).astype(np.float64)
        np.multiply(term, along, out=term, where=along > 0)
        np.add(total, term, out=total, where=along > 0)
    return total


def rounded(values: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return values in a data type; integers are rounded half up."""
    if dtype.kind == "f":
        return values.astype(dtype)
    whole = np.floor(values + 0.5)
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        whole = np.clip(whole, limits.min, limits.max)
    return whole.astype(dtype)
