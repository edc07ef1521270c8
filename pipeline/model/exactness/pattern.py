"""From the bounds of the outputs along one axis to halo and stride.

Far from the edges the bounds repeat: those of output ``o + stride`` are those of output ``o``, moved by the stride.
Near an edge they do not, where padding went in or something is missing. So an output is good where it fits the
pattern of the middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.geometry.reach import Reach
from pipeline.model.exactness.trace import Trace


@dataclass(frozen=True, slots=True)
class Pattern:
    """How the outputs along one axis depend on the input.

    Attributes:
        stride: smallest shift that keeps the pattern.
        first: for each output of one stride, from output 0: the first voxel that it depends on, counted from input
            voxel 0, were it far from the edges; None where it depends on none.
        last: likewise, the last voxel.
        damaged: outputs at either edge that do not fit the pattern.
    """

    stride: int
    first: tuple[int | None, ...]
    last: tuple[int | None, ...]
    damaged: tuple[int, int]

    def reach(self, *, stride: int, shrink: int, minimum: int) -> Reach:
        """Return the reach for legal lengths ``minimum + k * stride``.

        The halo is what the output of a legal input depends on. Cores end elsewhere, on the lattice: where that, or
        the padding inside the network, asks for more than is read anyway, it is more.

        Args:
            stride: a multiple of the pattern's stride.
            shrink: input length minus output length.
            minimum: smallest legal length.
        """
        offset = shrink // 2
        before = max(0, offset - self._first_from(0, stride))
        end = (minimum - shrink) % stride
        after = max(0, self._last_to(end, stride) + 1 - offset - end)
        reach = Reach(stride, (before, after), offset, shrink, minimum)
        if reach.crop < self.damaged[0]:
            before = offset + self.damaged[0]
        core = stride * (1 + minimum // stride)
        spare = reach.after(core)
        lattice = self._last_to(0, stride) + 1 - offset
        if spare < lattice:
            after = max(after, lattice)
        if spare - (shrink - offset) < self.damaged[1]:
            after = max(after, self.damaged[1] + shrink - offset)
        return Reach(stride, (before, after), offset, shrink, minimum)

    def _first_from(self, start: int, count: int) -> int:
        """Return the first voxel that outputs from ``start`` on depend on."""
        outputs = range(start, start + count)
        seen = [
            v + o // self.stride * self.stride for o in outputs if (v := self.first[o % self.stride]) is not None
        ]
        return min(seen, default=start)

    def _last_to(self, stop: int, count: int) -> int:
        """Return the last voxel that outputs before ``stop`` depend on."""
        outputs = range(stop - count, stop)
        seen = [
            v + o // self.stride * self.stride for o in outputs if (v := self.last[o % self.stride]) is not None
        ]
        return max(seen, default=stop - 1)


def find_pattern(trace: Trace, multiple: int = 1) -> Pattern | None:
    """Find the pattern of the middle half of the outputs, or None where there is none.

    Args:
        trace: what came out of the network.
        multiple: what the stride must be a multiple of.
    """
    count = len(trace.first)
    places = torch.arange(count, dtype=torch.float32)
    relative = torch.stack([trace.first - places, trace.last - places])
    poisoned = (trace.first == -torch.inf) | (trace.last == torch.inf)
    middle = slice(count // 4, count - count // 4)
    if count < 8 or bool(poisoned[middle].any()):
        return None
    for stride in range(multiple, count // 8 + 1, multiple):
        part = relative[:, middle]
        if torch.equal(part[:, stride:], part[:, :-stride]):
            return _measured(relative, poisoned, stride)
    return None


def _measured(relative: Tensor, poisoned: Tensor, stride: int) -> Pattern:
    count = relative.shape[1]
    start = count // 4 // stride * stride + stride
    template = relative[:, start : start + stride]
    whole = template.repeat(1, count // stride + 1)[:, :count]
    bad = (relative != whole).any(0) | poisoned
    left, right = bad[: count // 2].nonzero(), bad[count // 2 :].nonzero()
    damaged = int(left.max()) + 1 if len(left) else 0
    after = count - count // 2 - int(right.min()) if len(right) else 0
    first, last = (
        tuple(int(value) + o if abs(value) < torch.inf else None for o, value in enumerate(side.tolist()))
        for side in template
    )
    return Pattern(stride, first, last, (damaged, after))
