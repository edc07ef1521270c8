"""Which voxel of a mask each voxel of an image lies in, where the mask has a resolution of its own.

Along an axis of ``n`` voxels of the image and ``m`` of the mask, voxel ``i`` of the image, whose centre is at
``i + 1/2``, lies in voxel ``floor((i + 1/2) m / n)`` of the mask::

    image   | 0 | 1 | 2 | 3 | 4 | 5 | 6 |        n = 7
    mask    |   0    |   1    |   2     |        m = 3:  0 0 1 1 1 2 2

Whole numbers throughout: the same voxel lies in the same place in any chunk, on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box, Grid

Bits = npt.NDArray[np.bool_]

_Places = npt.NDArray[np.int64]


def lies_in(voxels: Any, n: int, m: int) -> Any:
    """Return the voxel of an axis of ``m`` in which voxels of an axis of ``n`` lie: an int or an int64 array."""
    return (2 * voxels + 1) * m // (2 * n)


@dataclass(frozen=True, slots=True)
class Sampling:
    """A mask over an image.

    Attributes:
        image: spatial shape of the image, ``([z,] y, x)``.
        mask: shape of the mask, nowhere longer than the image; two axes over a stack of three hold for every slice.
    """

    image: tuple[int, ...]
    mask: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.mask) <= len(self.image), self
        assert all(1 <= m <= n for n, m in self.axes), self

    @property
    def axes(self) -> list[tuple[int, int]]:
        """Voxels of the image and of the mask along each axis of the mask."""
        return list(zip(self.image[-len(self.mask) :], self.mask, strict=True))

    def below(self, box: Box) -> Box:
        """Return the box of the mask in which the voxels of a box of the image lie."""
        pairs = list(zip(box.start, box.stop, strict=True))[-len(self.mask) :]
        start = tuple(lies_in(a, n, m) for (a, _), (n, m) in zip(pairs, self.axes, strict=True))
        stop = tuple(lies_in(b - 1, n, m) + 1 for (_, b), (n, m) in zip(pairs, self.axes, strict=True))
        return Box(start, stop)

    def above(self, box: Box) -> Box:
        """Return the box of the image (of the mask's axes) whose voxels lie in a box of the mask: undoes `below`."""
        start = tuple(_first(j, n, m) for j, (n, m) in zip(box.start, self.axes, strict=True))
        stop = tuple(_first(j, n, m) for j, (n, m) in zip(box.stop, self.axes, strict=True))
        return Box(start, stop)

    def spread(self, bits: Bits, box: Box) -> Bits:
        """Return a mask voxel by voxel of the image.

        Args:
            bits: of the mask's box :meth:`below` ``box``.
            box: of the image.

        Returns:
            Of the mask's axes: without z, where the mask has none.
        """
        below, pairs = self.below(box), list(zip(box.start, box.stop, strict=True))[-len(self.mask) :]
        taken = [
            lies_in(np.arange(a, b, dtype=np.int64), n, m) - first
            for (a, b), (n, m), first in zip(pairs, self.axes, below.start, strict=True)
        ]
        return bits[np.ix_(*taken)]

    def gather(self, voxels: Bits, box: Box) -> Bits:
        """Return for each voxel of the mask's box :meth:`below` ``box`` whether any of the voxels in it is set.

        Args:
            voxels: of ``box``, voxel by voxel of the image, over the mask's axes.
            box: of the image, over the mask's axes.
        """
        for axis, ((a, b), (n, m)) in enumerate(zip(box, self.axes, strict=True)):
            places = lies_in(np.arange(a, b, dtype=np.int64), n, m)
            voxels = np.logical_or.reduceat(voxels, np.flatnonzero(np.diff(places, prepend=-1)), axis=axis)
        return voxels

    def any_of(self, bits: Bits, box: Box, *, grid: Grid, origin: tuple[int, ...]) -> tuple[Box, Bits]:
        """Return which chunks have a voxel that lies in a part of the mask that is set.

        Args:
            bits: of ``box``.
            box: of the mask.
            grid: chunks, of a region of the image.
            origin: first voxel of that region.

        Returns:
            The box of chunks' positions below the mask's axes that may have one, and whether each one has.
        """
        first, behind, found = [], [], bits
        lead = len(grid.shape) - len(self.mask)
        for axis in range(len(self.mask)):
            low, high = self._under(axis, _edges(grid, lead + axis) + origin[lead + axis], box)
            meets = np.flatnonzero(low < high)
            chosen = slice(int(meets[0]), int(meets[-1]) + 1) if meets.size else slice(0, 0)
            counted = np.insert(np.cumsum(found, axis=axis, dtype=np.int32), 0, 0, axis=axis)
            found = np.take(counted, high[chosen], axis=axis) > np.take(counted, low[chosen], axis=axis)
            first.append(chosen.start)
            behind.append(chosen.stop)
        return Box(tuple(first), tuple(behind)), found

    def _under(self, axis: int, edges: npt.NDArray[np.int64], box: Box) -> tuple[_Places, _Places]:
        """Return the first and behind the last voxel of a box of the mask under each stretch between edges."""
        (n, m), a, b = self.axes[axis], box.start[axis], box.stop[axis]
        low, high = lies_in(edges[:-1], n, m), lies_in(edges[1:] - 1, n, m) + 1
        return np.clip(low, a, b) - a, np.clip(high, a, b) - a


def _first(j: int, n: int, m: int) -> int:
    """Return the first voxel of an axis of ``n`` that lies in voxel ``j`` of an axis of ``m``, or behind it."""
    return -(-(2 * j * n - m) // (2 * m)) if j > 0 else 0


def _edges(grid: Grid, axis: int) -> npt.NDArray[np.int64]:
    """Return where the chunks of a grid begin along an axis, and where the last one ends."""
    starts = np.arange(grid.counts[axis] + 1, dtype=np.int64) * grid.chunk[axis]
    return np.minimum(starts, grid.shape[axis])
