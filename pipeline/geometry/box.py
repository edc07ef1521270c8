"""Half-open integer boxes in voxel indices: the one value in which every layer speaks of places."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box ``[start, stop)`` in voxel indices, in the array's axis order.

    Attributes:
        start: first voxel along each axis; may be negative (outside the volume).
        stop: one past the last voxel along each axis.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.start) == len(self.stop), self
        assert all(a <= b for a, b in zip(self.start, self.stop, strict=True)), self

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> Box:
        """Return the box of a volume of ``shape`` voxels that begins at the origin."""
        return cls((0,) * len(shape), tuple(int(n) for n in shape))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.start)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def is_empty(self) -> bool:
        """Whether there is no voxel in the box."""
        return self.size == 0

    def shift(self, by: Sequence[int]) -> Box:
        """Return the box moved by ``by`` voxels along each axis."""
        return Box(
            tuple(a + d for a, d in zip(self.start, by, strict=True)),
            tuple(b + d for b, d in zip(self.stop, by, strict=True)),
        )

    def relative_to(self, origin: Sequence[int]) -> Box:
        """Return the same box in the indices of an array whose voxel 0 lies at ``origin``."""
        return self.shift([-o for o in origin])

    def grow(self, before: Sequence[int], after: Sequence[int]) -> Box:
        """Return the box with ``before`` and ``after`` voxels more along each axis."""
        return Box(
            tuple(a - d for a, d in zip(self.start, before, strict=True)),
            tuple(b + d for b, d in zip(self.stop, after, strict=True)),
        )

    def align(self, lattice: Sequence[int]) -> Box:
        """Return the smallest box around this one whose edges are multiples of ``lattice``."""
        return Box(
            tuple(a // s * s for a, s in zip(self.start, lattice, strict=True)),
            tuple(-(-b // s) * s for b, s in zip(self.stop, lattice, strict=True)),
        )

    def intersect(self, other: Box) -> Box:
        """Return the common box; empty (and at this box's nearest edge) when there is none."""
        start = tuple(min(max(a, c), b) for a, b, c in zip(self.start, self.stop, other.start, strict=True))
        stop = tuple(max(min(b, d), a) for b, d, a in zip(self.stop, other.stop, start, strict=True))
        return Box(start, stop)

    def contains(self, other: Box) -> bool:
        """Whether every voxel of ``other`` is in this box."""
        pairs = zip(self.start, self.stop, other.start, other.stop, strict=True)
        return other.is_empty or all(a <= c and d <= b for a, b, c, d in pairs)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Slices that cut this box out of an array; the box must not reach below 0."""
        assert min(self.start, default=0) >= 0, self
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.start, self.stop, strict=True)

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in self)
