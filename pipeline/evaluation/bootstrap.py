"""Confidence intervals by the bootstrap: how far a metric would move, had other chunks (or volumes) been measured.

Chunks are drawn with replacement, as many as there are; their counts add up to one total a resample, and the metric
is worked out of each total. The interval holds the middle share of the resampled values: the percentile interval of
Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13. Two predictions that are resampled with
the same weights are compared in pairs: what is hard for both does not widen the interval of their difference.

It takes what is drawn as independent of each other. Neighbouring chunks are not quite, so that an interval over the
chunks of one volume is rather too narrow, and says nothing of other volumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics import RATIOS

Floats = NDArray[np.float64]
Interval = tuple[float, float]

_AT_ONCE = 1 << 21  # numbers that are held in memory


@dataclass(frozen=True, slots=True)
class Resampling:
    """How a bootstrap is done.

    Attributes:
        resamples: how many.
        confidence: share of the resamples that an interval holds.
        seed: of the draws. The same seed gives the same weights for the same number of units.
    """

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0

    def weights(self, units: int, *, width: int = 1) -> Iterator[Floats]:
        """Yield how often each unit is drawn in each resample, ``(some resamples, units)``; a row's sum is ``units``.

        Drawing ``units`` of them with replacement gives such a row: it is multinomial.

        Args:
            units: how many there are.
            width: numbers that the caller holds for each resample; memory is bounded by it. The weights do not
                depend on it.
        """
        generator = np.random.default_rng(self.seed)
        shares = np.full(units, 1 / units)
        step = max(1, _AT_ONCE // max(units, width))
        for start in range(0, self.resamples, step):
            count = min(step, self.resamples - start)
            yield generator.multinomial(units, shares, size=count).astype(np.float64)

    def interval(self, values: Floats) -> Interval | None:
        """Return the percentile interval of resampled values; those that are not defined (NaN) are left out.

        Returns:
            Its two ends; None where no value is defined.
        """
        known = values[~np.isnan(values)]
        if not known.size:
            return None
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(known, (tail, 1 - tail))
        return float(low), float(high)


def metric_names(class_names: Sequence[str]) -> list[str]:
    """Return the names of all metrics: ``accuracy``, ``mean_iou`` ..., and ``iou_<class>`` ... of each class."""
    of_classes = [f"{ratio}_{name}" for name in class_names for ratio in RATIOS]
    return ["accuracy", *(f"mean_{ratio}" for ratio in RATIOS), *of_classes]


def metric_values(totals: NDArray[np.int64] | Floats, class_names: Sequence[str]) -> dict[str, Floats]:
    """Work the metrics of many totals out at once; the formulas are those of :mod:`pipeline.evaluation.metrics`.

    Args:
        totals: voxels by ``[total, target class, prediction class]``, ``(n, classes, classes)``.
        class_names: one for each class.

    Returns:
        By name (:func:`metric_names`): ``n`` values between 0 and 1, NaN where the metric is not defined.
    """
    found = np.diagonal(totals, axis1=1, axis2=2).astype(np.float64)
    truly, predicted = (totals.sum(axis=axis).astype(np.float64) for axis in (2, 1))
    voxels = truly.sum(axis=1, keepdims=True)
    either = truly + predicted - found
    ratios = {
        "iou": _ratio(found, either),
        "dice": _ratio(2 * found, truly + predicted),
        "precision": _ratio(found, predicted),
        "recall": _ratio(found, truly),
        "specificity": _ratio(voxels - either, np.where(either > 0, voxels - truly, 0)),
    }
    values = {"accuracy": _ratio(found.sum(axis=1), voxels[:, 0])}
    values |= {f"mean_{ratio}": _mean(ratios[ratio]) for ratio in RATIOS}
    for i, name in enumerate(class_names):
        values |= {f"{ratio}_{name}": ratios[ratio][:, i] for ratio in RATIOS}
    return values


def resampled_metrics(
    counts: NDArray[np.int64], class_names: Sequence[str], resampling: Resampling
) -> dict[str, Floats]:
    """Return the metrics of resampled chunks.

    Args:
        counts: voxels of each chunk by ``[chunk, target class, prediction class]``.
        class_names: one for each class.
        resampling: how.

    Returns:
        By name: a value for each resample. Law: two predictions with as many chunks are resampled alike.
    """
    units, classes = counts.shape[:2]
    flat = counts.reshape(units, -1).astype(np.float64)  # whole numbers below 2**53: sums are exact in any order
    parts = [
        metric_values((weights @ flat).reshape(-1, classes, classes), class_names)
        for weights in resampling.weights(units, width=classes * classes)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def chunk_intervals(
    counts: NDArray[np.int64], class_names: Sequence[str], resampling: Resampling
) -> dict[str, Interval | None]:
    """Return the interval of each metric over chunks; None with fewer than two chunks, and where it is not defined.

    Args:
        counts: voxels of each chunk by ``[chunk, target class, prediction class]``.
        class_names: one for each class.
        resampling: how.
    """
    if len(counts) < 2:
        return dict.fromkeys(metric_names(class_names))
    point = metric_values(counts.sum(axis=0, keepdims=True), class_names)
    values = resampled_metrics(counts, class_names, resampling)
    return {name: None if np.isnan(point[name][0]) else resampling.interval(values[name]) for name in values}


def mean_interval(values: Sequence[float], resampling: Resampling) -> Interval | None:
    """Return the interval of a mean over volumes; None with fewer than two.

    Args:
        values: one number for each volume.
        resampling: how.
    """
    if len(values) < 2:
        return None
    numbers = np.asarray(values, np.float64)
    # Summed row by row, in one order: a matrix product's order depends on the machine.
    means = [(weights * numbers).sum(axis=1) / len(numbers) for weights in resampling.weights(len(numbers))]
    return resampling.interval(np.concatenate(means))


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratio


def _mean(values: Floats) -> Floats:
    """Return the means over classes, of those that are defined."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=1), known.sum(axis=1).astype(np.float64))
