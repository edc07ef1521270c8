"""Calibration on what is held out: the threshold that is best, and the temperature that makes probabilities honest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax

Reals = npt.NDArray[np.floating[Any]]
Whole = npt.NDArray[np.integer[Any]]

THRESHOLDS = tuple(round(0.05 + 0.01 * step, 2) for step in range(91))
"""Probabilities that a sweep tries: 0.05 to 0.95."""

BINS = 15
"""Bins of confidence, of equal width (Guo et al. 2017, section 2)."""

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures that a fit stays between."""

_CUTS = np.log(np.array(THRESHOLDS) / (1 - np.array(THRESHOLDS)))


@dataclass(frozen=True, slots=True)
class Sweep:
    """How many voxels of either class lie between the thresholds. Adds over disjoint boxes.

    Attributes:
        counts: voxels by ``[class, number of thresholds that are reached]``, int64, ``(2, len(THRESHOLDS) + 1)``.
    """

    counts: Whole

    @classmethod
    def zero(cls) -> Sweep:
        """Return the sweep of no voxels."""
        return cls(np.zeros((2, len(THRESHOLDS) + 1), np.int64))

    @classmethod
    def of(cls, logits: Reals, target: Whole) -> Sweep:
        """Return the sweep of some voxels.

        Args:
            logits: of the foreground, any shape.
            target: 0 or 1; negative ones are left out. Of the same shape.
        """
        known = target >= 0
        reached = np.searchsorted(_CUTS, logits[known], side="right")
        bins = len(THRESHOLDS) + 1
        flat = np.bincount(target[known].astype(np.int64) * bins + reached, minlength=2 * bins)
        return cls(flat.reshape(2, bins))

    def __add__(self, other: Sweep) -> Sweep:
        return Sweep(self.counts + other.counts)

    def mean_iou(self) -> list[float]:
        """Return the mean IoU of both classes at each of ``THRESHOLDS``; 0 where there is no voxel."""
        above = self.counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:].astype(np.float64)  # [class, threshold]
        totals = self.counts.sum(axis=1, dtype=np.float64)[:, np.newaxis]
        fp, tp = above
        tn, fn = totals - above
        with np.errstate(invalid="ignore"):
            ious = np.nan_to_num(np.stack([tn / (tn + fn + fp), tp / (tp + fn + fp)]))
        means: list[float] = ious.mean(axis=0).tolist()
        return means

    def best(self) -> float:
        """Return the threshold with the highest mean IoU; the one nearest to 0.5 of equals."""
        means = self.mean_iou()
        return max(THRESHOLDS, key=lambda t: (means[THRESHOLDS.index(t)], -abs(t - 0.5)))


def fit_temperature(logits: Reals, target: Whole) -> float:
    """Return the temperature that makes the target most likely: Guo et al. (2017), section 4.2.

    Args:
        logits: ``(voxels, channels)``; one channel is a sigmoid.
        target: class ids ``(voxels,)``.

    Returns:
        Between ``COLDEST`` and ``HOTTEST``; 1 where there are no voxels.
    """
    if not len(target):
        return 1.0
    found = minimize_scalar(
        lambda t: surprise(logits / math.exp(t), target),
        bounds=(math.log(COLDEST), math.log(HOTTEST)),
        method="bounded",
    )
    return math.exp(float(found.x))


def surprise(logits: Reals, target: Whole) -> float:
    """Return the mean of ``-log p`` of the true class."""
    wide = logits.astype(np.float64)
    if wide.shape[1] == 1:
        return float(np.logaddexp(0, np.where(target == 1, -wide[:, 0], wide[:, 0])).mean())
    return float(-log_softmax(wide, axis=1)[np.arange(len(target)), target].mean())


def reliability(logits: Reals, target: Whole) -> dict[str, Any]:
    """Return how often the network is right by how sure it is, ready for JSON.

    Args:
        logits: ``(voxels, channels)``, already over the temperature.
        target: class ids ``(voxels,)``; at least one.

    Returns:
        ``ece`` (expected calibration error: Guo et al. 2017, equation 3), ``nll`` (mean of ``-log p``) and ``bins``:
        ``confidence``, ``accuracy`` (both means, None where empty) and ``share`` of the voxels, of each bin.
    """
    wide = logits.astype(np.float64)
    if wide.shape[1] == 1:
        p = expit(wide[:, 0])
        classes, confidence = (p >= 0.5).astype(np.int64), np.maximum(p, 1 - p)
    else:
        p = np.exp(log_softmax(wide, axis=1))
        classes, confidence = p.argmax(axis=1), p.max(axis=1)
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    sure = np.bincount(places, confidence, BINS)
    right = np.bincount(places, classes == target, BINS)
    bins = [
        {
            "confidence": float(sure[i] / n) if n else None,
            "accuracy": float(right[i] / n) if n else None,
            "share": n / len(target),
        }
        for i, n in enumerate(counts.tolist())
    ]
    ece = float(np.abs(sure - right).sum() / len(target))
    return {"ece": ece, "nll": surprise(logits, target), "bins": bins}


def evenly(count: int, most: int) -> Sequence[int]:
    """Return up to ``most`` of ``count`` numbers, evenly spaced; all where they are enough."""
    if count <= most:
        return range(count)
    return [count * (2 * index + 1) // (2 * most) for index in range(most)]
