"""The chunk grid: a partition of a volume's box into the units of work.

Chunks are numbered in C order, so a chunk is one integer and a million of them need no list::

    box 0:10 x 0:7, chunk 4 x 4         0 | 1        cores 0: 0:4,0:4   1: 0:4,4:7
                                        --+--              2: 4:8,0:4   3: 4:8,4:7
                                        2 | 3              4: 8:10,0:4  5: 8:10,4:7
                                        --+--
                                        4 | 5        ragged at the far edges, nothing left out
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.geometry.box import Box


@dataclass(frozen=True, slots=True)
class Grid:
    """The partition of a box that starts at the origin into chunks of one shape.

    Law: the cores are disjoint and their union is the box.

    Attributes:
        shape: voxels of the whole box along each axis (spatial axes only).
        chunk: voxels of a chunk along each axis; the last chunk of an axis may be smaller.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.shape) == len(self.chunk), self
        assert min(self.shape) >= 1, self
        assert min(self.chunk) >= 1, self

    @property
    def counts(self) -> tuple[int, ...]:
        """Chunks along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def position(self, chunk: int) -> tuple[int, ...]:
        """Return a chunk's index along each axis."""
        assert 0 <= chunk < len(self), (chunk, self)
        found = []
        for count in reversed(self.counts):
            chunk, index = divmod(chunk, count)
            found.append(index)
        return tuple(reversed(found))

    def number(self, position: Sequence[int]) -> int:
        """Return the number of the chunk at ``position``: the inverse of :meth:`position`."""
        number = 0
        for index, count in zip(position, self.counts, strict=True):
            assert 0 <= index < count, (position, self)
            number = number * count + index
        return number

    def core(self, chunk: int) -> Box:
        """Return the box that a chunk writes, alone."""
        start = tuple(i * c for i, c in zip(self.position(chunk), self.chunk, strict=True))
        stop = tuple(min(a + c, n) for a, c, n in zip(start, self.chunk, self.shape, strict=True))
        return Box(start, stop)

    def cores(self) -> Iterator[Box]:
        """Yield every core in the order of the chunks' numbers."""
        return (self.core(chunk) for chunk in range(len(self)))

    def overlapping(self, box: Box) -> Iterator[tuple[int, ...]]:
        """Yield the positions of all chunks that share a voxel with ``box``, in C order."""
        inner = Box.of_shape(self.shape).intersect(box)
        if inner.is_empty:
            return
        ranges = [range(a // c, -(-b // c)) for (a, b), c in zip(inner, self.chunk, strict=True)]
        yield from _product(ranges)

    def regions(self, count: int) -> list[range]:
        """Split the chunks into at most ``count`` runs of neighbouring numbers of nearly equal length."""
        total = len(self)
        count = max(1, min(count, total))
        edges = [total * i // count for i in range(count + 1)]
        return [range(a, b) for a, b in itertools.pairwise(edges)]


def _product(ranges: Sequence[range]) -> Iterator[tuple[int, ...]]:
    """Yield the Cartesian product in C order."""
    if not ranges:
        yield ()
        return
    for first in ranges[0]:
        for rest in _product(ranges[1:]):
            yield (first, *rest)
