"""Temperature scaling (Guo et al. 2017): one number by which all logits are divided, so that probabilities are honest.

The temperature T is that of the least mean negative log-likelihood of what was true. In ``a = 1 / T`` it is convex,
so its slope is solved for 0. Two kinds of statistics add over chunks: :class:`LogitHistogram` for two classes, which
counts every voxel, and :class:`LogitSample` for any number of classes, which keeps the same voxels whatever the chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from scipy.optimize import brentq

from pipeline.evaluation.undefined import with_reasons

RANGE = (0.01, 100.0)
"""Temperatures between which the fit looks."""


class Likelihood(Protocol):
    """What temperatures are fitted to."""

    @property
    def voxels(self) -> int:
        """Number of voxels that the likelihood is of."""

    def loss(self, inverse: float) -> float:
        """Mean negative log-likelihood, in nats, of logits times ``inverse``."""

    def slope(self, inverse: float) -> float:
        """Derivative of :meth:`loss`; it grows with ``inverse``."""


@dataclass(frozen=True, slots=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: what logits are divided by; None where no temperature within ``RANGE`` is best.
        reason: why there is none; None otherwise.
        before: mean negative log-likelihood of the logits as they are, in nats; None without voxels.
        after: the same with the temperature; None where there is none.
        voxels: how many voxels it was fitted to.
    """

    value: float | None
    reason: str | None
    before: float | None
    after: float | None
    voxels: int

    def to_dict(self) -> dict[str, Any]:
        """The fit ready for JSON: ``temperature``, ``nll_before``, ``nll_after``, ``voxels`` and ``undefined``."""
        values = {"temperature": self.value, "nll_before": self.before, "nll_after": self.after}
        return {"voxels": self.voxels, **with_reasons(values, dict.fromkeys(values, self.reason or ""))}


def fit_temperature(likelihood: Likelihood) -> Temperature:
    """Fit the temperature of the least loss.

    Args:
        likelihood: the total of a volume's statistics, :class:`LogitHistogram` or :class:`LogitSample`.

    Returns:
        The temperature, to 1e-10 of it; without value if there are no voxels, if the loss falls up to the hottest
        temperature (logits that know nothing), or down to the coldest (logits that are never wrong).
    """
    if not likelihood.voxels:
        return Temperature(None, "no voxel is counted", None, None, 0)
    before = likelihood.loss(1.0)
    coldest, hottest = 1 / RANGE[0], 1 / RANGE[1]
    if likelihood.slope(hottest) >= 0:
        return _none("the logits tell nothing of the classes: the flatter, the better", before, likelihood.voxels)
    if likelihood.slope(coldest) <= 0:
        return _none("the logits are never wrong: the steeper, the better", before, likelihood.voxels)
    inverse = _root(likelihood.slope, hottest, coldest)
    return Temperature(1 / inverse, None, before, likelihood.loss(inverse), likelihood.voxels)


def _root(slope: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(slope, low, high, xtol=1e-14, rtol=1e-11))


def _none(reason: str, before: float, voxels: int) -> Temperature:
    return Temperature(None, reason, before, None, voxels)
