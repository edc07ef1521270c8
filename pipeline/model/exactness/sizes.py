"""Which input lengths a network takes, and how long its output is: tried out on shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import ModelError
from pipeline.model.exactness.ghost import Ghost, says

AXES = {2: "yx", 3: "zyx"}
CUBES = (64, 32, 128, 16, 96, 256, 512, *range(65, 200), *range(384, 448), 1024, *range(764, 828))
"""Lengths that are tried along all axes at once, until one is legal."""
FINE = (0, 64, 28, 88, 76, 13)
"""What is added to a long length until it is legal: gives 512, 576, 540, 600, 588, 525, many primes' multiples."""
LARGEST_STEP = 256


@dataclass(frozen=True, slots=True)
class Legal:
    """Legal lengths ``minimum + k * step`` along one axis, all of which lose ``shrink`` voxels."""

    step: int
    shrink: int
    minimum: int

    def at_least(self, length: int) -> int:
        """Return the smallest legal length that is not below ``length``."""
        return self.minimum + max(0, -(-(length - self.minimum) // self.step)) * self.step


def find_base(ghost: Ghost) -> tuple[int, ...]:
    """Return a legal shape with equal lengths.

    Raises:
        ModelError: if the network takes none of those that were tried, with what it says itself.
    """
    first: Exception | None = None
    empty = False
    for length in CUBES:
        shape = (length,) * ghost.dims
        ghost.failure = None
        if ghost.output(shape) is not None:
            return shape
        empty = empty or ghost.failure is None
        first = first or ghost.failure
    what = "gives no voxel at all" if empty and first is None else "fails"
    own = "" if first is None else f"; for 64 it says {says(first)}"
    raise ModelError(
        f"The network {what} for every input of {ghost.in_channels} channels and 16 to 1024 voxels a side that was"
        f" tried{own}. Overtile needs a network that takes inputs of more than one size."
    )


class Axis:
    """The lengths along one axis, the others staying as they are.

    Args:
        ghost: the network.
        base: a legal spatial shape.
        axis: which axis, from 0.
    """

    def __init__(self, ghost: Ghost, base: Sequence[int], axis: int) -> None:
        self._ghost = ghost
        self._base = tuple(base)
        self.axis = axis
        self.name = AXES[ghost.dims][axis]

    def shape(self, length: int) -> tuple[int, ...]:
        """Return the spatial shape with ``length`` along this axis."""
        return (*self._base[: self.axis], length, *self._base[self.axis + 1 :])

    def shrink(self, length: int) -> int | None:
        """Return input minus output length, or None where the length is not legal."""
        output = self._ghost.output(self.shape(length)) if length > 0 else None
        return None if output is None else length - output[self.axis + 1]

    def long(self, length: int) -> int | None:
        """Return a legal length near ``length``: a multiple of many numbers if it can be."""
        tried = [length + more * (length // 512) for more in FINE]
        return next((n for n in (*tried, *range(length + 1, length + 129)) if self.shrink(n) is not None), None)

    def check_scale(self) -> int:
        """Check that the output has a voxel for every voxel of the input; return a long legal length.

        Raises:
            ModelError: if it has more or fewer, or if there are no long legal lengths.
        """
        short, long = self.long(512), self.long(1024)
        if short is None or long is None or short == long:
            raise ModelError(
                f"The network takes inputs of {self._base[self.axis]} voxels along {self.name}, but none of 512 to"
                " 1152: Overtile needs a network that takes inputs of more than one size."
            )
        outputs = [n - (self.shrink(n) or 0) for n in (short, long)]
        slope = (outputs[1] - outputs[0]) / (long - short)
        if outputs[0] == outputs[1]:
            raise ModelError(
                f"The network gives {outputs[0]} voxels along {self.name}, however long its input is; Overtile"
                " needs one a voxel."
            )
        if not 0.9 < slope < 1.1:
            raise ModelError(f"The network gives {_ratio(slope)} along {self.name}; Overtile needs one a voxel.")
        return short

    def legal(self, stride: int) -> Legal:
        """Return the legal lengths that fit a stride: those that lose fewest voxels, then its multiples.

        Raises:
            ModelError: if the legal lengths are not regular.
        """
        length = self.check_scale()
        step = next((m for m in range(stride, LARGEST_STEP + 1, stride) if self._repeats(length, m)), None)
        if step is None:
            raise ModelError(
                f"The network takes inputs of {length} voxels along {self.name}, but its legal lengths are not"
                f" spaced by any step up to {LARGEST_STEP}."
            )
        aligned = -(-length // step) * step
        if self.shrink(aligned) == 0 and self._repeats(aligned, step):
            return Legal(step, 0, self._minimum(aligned, step))  # there is nothing better
        shrinks = {n: self.shrink(n) for n in range(length, length + step)}
        least = min((s for s in shrinks.values() if s is not None and s >= 0), default=None)
        if least is None:
            raise ModelError(
                f"The network gives {-(shrinks[length] or 0)} voxels more than it gets along {self.name}: crop its"
                " output to the size of its input."
            )
        best = [n for n, s in shrinks.items() if s == least]
        even = [n for n in best if n % step == 0]
        return min((Legal(step, least, self._minimum(n, step)) for n in even or best), key=lambda x: x.minimum)

    def _repeats(self, length: int, step: int) -> bool:
        found = {self.shrink(length + k * step) for k in range(4)}
        return len(found) == 1 and None not in found

    def _minimum(self, length: int, step: int) -> int:
        """Return the smallest legal length below a legal one (all above it are taken to be legal)."""
        shrink = self.shrink(length)
        low, high = 0, (length - 1) // step + 1  # as steps below ``length``: legal at ``low``, not at ``high``
        while high - low > 1:
            middle = (low + high) // 2
            if self.shrink(length - middle * step) == shrink:
                low = middle
            else:
                high = middle
        return length - low * step


def fit_together(ghost: Ghost, legal: Sequence[Legal]) -> tuple[Legal, ...]:
    """Raise the minima until the network takes them all at once.

    Raises:
        ModelError: if it does not, even for long ones.
    """
    for more in (*range(8), 16, 32):
        raised = tuple(Legal(x.step, x.shrink, x.minimum + more * x.step) for x in legal)
        if ghost.output([x.minimum for x in raised]) is not None:
            return raised
    minima = [x.minimum for x in legal]
    raise ModelError(f"The network takes each of the lengths {minima} along its axis, but not all at once.")


def _ratio(slope: float) -> str:
    if slope < 1:
        return f"one voxel for every {1 / slope:.3g} of the input"
    return f"{slope:.3g} voxels for every one of the input"
