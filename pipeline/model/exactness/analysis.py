"""The analysis from beginning to end: sizes, bounds along each axis, costs, and the tests with real numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from pipeline.geometry.reach import Reach
from pipeline.model.constructed import Analysis, AxisReach
from pipeline.model.exactness.behaviour import ROUNDING, Behaviour, unfit, unstable
from pipeline.model.exactness.costs import count_costs
from pipeline.model.exactness.ghost import Ghost
from pipeline.model.exactness.pattern import Pattern, find_pattern
from pipeline.model.exactness.reasons import sentences
from pipeline.model.exactness.sizes import Axis, Legal, find_base, fit_together
from pipeline.model.exactness.trace import RULES, Culprit, Trace, trace

LENGTHS = (512, 2048, 8192)
"""How far a network is followed: what sees more than half of the last is taken to see everything."""
GRADUAL = {"convolution", "_convolution", "cat", "add", "slice_scatter", "gather"} | {
    name for name in RULES if "pool" in name or "upsample" in name
}
"""Operations that see a little more than their input: with a long enough axis they are no culprits."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What bounds say of one axis: its legal lengths, the pattern if there is one, and culprits."""

    legal: Legal
    pattern: Pattern | None
    culprits: tuple[Culprit, ...]

    @property
    def reach(self) -> Reach:
        """The reach; where there is no pattern, its halo says nothing."""
        step, shrink, minimum = self.legal.step, self.legal.shrink, self.legal.minimum
        if self.pattern is None:
            return Reach(step, (0, 0), shrink // 2, shrink, minimum)
        return self.pattern.reach(stride=step, shrink=shrink, minimum=minimum)


def analyse_network(model: nn.Module, *, dims: int, in_channels: int) -> tuple[Analysis, int]:
    """Return the analysis of a network and the channels of its output; see :func:`pipeline.model.exactness.analyse`.

    Raises:
        ModelError: as there.
    """
    ghost = Ghost(model, dims, in_channels)
    base = find_base(ghost)
    ghost.check_batch(base)
    seen = [_along(ghost, Axis(ghost, base, axis)) for axis in range(dims)]
    legal = fit_together(ghost, [s.legal for s in seen])
    seen = [replace(s, legal=found) for s, found in zip(seen, legal, strict=True)]
    costs = count_costs(ghost, legal)
    reaches, reasons = _tested(model, ghost, seen)
    analysis = Analysis(
        exact=not reasons,
        reasons=tuple(reasons),
        reaches=tuple(_stored(reach) for reach in reaches),
        parameters=ghost.parameters,
        costs=costs,
    )
    return analysis, ghost.channels()


def _along(ghost: Ghost, axis: Axis) -> Seen:
    """Follow the network along one axis, farther and farther until what is seen no longer changes."""
    length = axis.check_scale()
    pattern = find_pattern(trace(ghost, axis.shape(length), axis.axis))
    legal = axis.legal(pattern.stride if pattern else 1)
    before: tuple[Pattern | None, frozenset[Culprit]] | None = None
    for length in LENGTHS:
        found = trace(ghost, axis.shape(legal.at_least(length)), axis.axis)
        pattern = find_pattern(found)
        if pattern is not None and legal.step % pattern.stride:
            legal = axis.legal(pattern.stride)
            found = trace(ghost, axis.shape(legal.at_least(length)), axis.axis)
            pattern = find_pattern(found)
        now = pattern, frozenset(found.culprits)
        if now == before and _settled(found):
            break
        before = now
    return Seen(legal, pattern, found.culprits)


def _settled(found: Trace) -> bool:
    """Whether a longer axis cannot clear what was found."""
    return not any(c.kind == "global" and c.operation in GRADUAL for c in found.culprits)


def _tested(model: nn.Module, ghost: Ghost, seen: Sequence[Seen]) -> tuple[list[Reach], list[str]]:
    """Return the reaches that real numbers confirm, and the reasons against exactness."""
    reasons = list(sentences([culprit for s in seen for culprit in s.culprits]))
    reaches = [s.reach for s in seen]
    behaviour = Behaviour(model, ghost, reaches)
    found = behaviour.instabilities()
    if not any(c.kind == "random" or c.training for s in seen for c in s.culprits):
        reasons += found
    for axis, one in enumerate(seen):
        if reasons:
            break
        confirmed = behaviour.confirmed(axis, reaches[axis]) if one.pattern is not None else None
        if confirmed is None:
            reasons.append(unfit(axis, ghost.dims))
            continue
        reaches[axis] = confirmed
        error = behaviour.bits(axis, confirmed)
        if error > ROUNDING:
            reasons.append(unstable(axis, ghost.dims, error))
    return reaches, reasons


def _stored(reach: Reach) -> AxisReach:
    return AxisReach(
        stride=reach.stride, halo=reach.halo, offset=reach.offset, shrink=reach.shrink, minimum=reach.minimum
    )
