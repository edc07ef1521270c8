"""Probabilities against what was true: histograms that add over chunks, and calibration, curves and the best threshold.

One class against the rest (``positive``), or the most probable class and whether it was right
(:meth:`CalibrationStatistics.of_top_label`). Probabilities are counted in bins of one width, the *resolution*, from
``i / bins`` up to, but without, ``(i + 1) / bins`` (the last with 1):

========================  =========================================================================================
brier                     mean of ``(p - y)²``: Brier 1950; exact
ece, mce                  mean and greatest difference of mean probability and share of positives in groups of bins:
                          Guo et al. 2017, eq. 3 and 5; exact, as the groups' edges are those of bins
precision, recall,        of ``p >= t`` for the thresholds ``t = i / bins``: exact
dice, iou
roc_auc                   area under the ROC curve of the probabilities rounded down to bins; at most ``roc_auc_error``
                          away from that of the probabilities themselves
average_precision         ``Σ (R_n - R_n-1) P_n``, of the probabilities rounded down to bins
========================  =========================================================================================

Exact means: as if all voxels were at hand, but for the rounding of floating-point sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.evaluation.histograms import CalibrationStatistics
from pipeline.evaluation.undefined import ratio, with_reasons

GROUPS = 15
"""Groups of bins in a reliability diagram (Guo et al. 2017)."""

REASONS = {
    "brier": "no voxel is counted",
    "ece": "no voxel is counted",
    "mce": "no voxel is counted",
    "roc_auc": "all counted voxels are positive, or none is",
    "roc_auc_error": "all counted voxels are positive, or none is",
    "average_precision": "no counted voxel is positive",
    "best": "no counted voxel is positive",
}
"""Why a metric of :func:`calibration_metrics` can be None."""


def calibration_metrics(total: CalibrationStatistics, *, groups: int = GROUPS) -> dict[str, Any]:
    """The metrics of all probabilities, ready for JSON.

    Args:
        total: the sum of all chunks' statistics.
        groups: number of groups of bins for ``ece``, ``mce`` and ``reliability``; a divisor of the number of bins.

    Returns:
        ``voxels``, ``positives``, ``ignored``, ``resolution``, the metrics of the module's table, ``best`` (the
        threshold of the greatest Dice, and so of the greatest IoU, with the scores there, see :func:`scores_at`; of
        equal ones the nearest to 1/2), ``reliability`` (see :func:`reliability`), and ``undefined``, reasons.

    Raises:
        InputError: the number of groups does not divide that of bins.
    """
    voxels = int(total.counts.sum())
    diagram = reliability(total, groups=groups)
    gaps = [abs(each["mean_probability"] - each["positives"]) for each in diagram if each["voxels"]]
    sizes = [each["voxels"] for each in diagram if each["voxels"]]
    values = {
        "brier": ratio(total.squares, voxels),
        "ece": ratio(sum(n * gap for n, gap in zip(sizes, gaps, strict=True)), voxels),
        "mce": max(gaps, default=None),
        **_ranking(total),
        "best": best_threshold(total),
    }
    return {
        "voxels": voxels,
        "positives": int(total.counts[1].sum()),
        "ignored": total.ignored,
        "resolution": 1 / total.bins,
        **with_reasons(values, REASONS),
        "reliability": diagram,
    }


def reliability(total: CalibrationStatistics, *, groups: int = GROUPS) -> list[dict[str, Any]]:
    """Of each group of bins ``from``, ``to``, ``voxels``, ``mean_probability`` and ``positives``.

    The last is the share of positive voxels; it and the mean are None in a group without voxels.

    Raises:
        InputError: the number of groups does not divide that of bins.
    """
    if groups < 1 or total.bins % groups:
        raise InputError(f"{total.bins} bins do not make {groups} groups of equal width; choose a divisor")
    counts = total.counts.reshape(2, groups, -1).sum(axis=2)
    sums, sizes = total.sums.reshape(groups, -1).sum(axis=1), counts.sum(axis=0)
    return [
        {
            "from": i / groups,
            "to": (i + 1) / groups,
            "voxels": int(sizes[i]),
            "mean_probability": ratio(float(sums[i]), int(sizes[i])),
            "positives": ratio(int(counts[1, i]), int(sizes[i])),
        }
        for i in range(groups)
    ]


def sweep(total: CalibrationStatistics) -> list[dict[str, float | None]]:
    """The scores of every threshold ``i / bins`` from 0 up to, but without, 1: see :func:`scores_at`."""
    above = total.counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    positives = int(total.counts[1].sum())
    return [_scores(i / total.bins, int(above[1, i]), int(above[0, i]), positives) for i in range(total.bins)]


def scores_at(total: CalibrationStatistics, threshold: float) -> dict[str, float | None]:
    """``threshold``, ``dice``, ``iou``, ``precision`` and ``recall`` where ``p >= threshold`` is found.

    Raises:
        InputError: the threshold is no edge of a bin below 1.
    """
    place = round(threshold * total.bins)
    if not 0 <= place < total.bins or abs(place / total.bins - threshold) > 1e-12:
        raise InputError(
            f"the threshold {threshold} is no multiple of 1/{total.bins} from 0 up to, but without, 1"
        )
    found = total.counts[:, place:].sum(axis=1)
    return _scores(place / total.bins, int(found[1]), int(found[0]), int(total.counts[1].sum()))


def best_threshold(total: CalibrationStatistics) -> dict[str, float | None] | None:
    """The scores of the threshold of the greatest Dice; of equal ones the nearest to 1/2; None without positives."""
    if not total.counts[1].any():
        return None
    return max(sweep(total), key=lambda scores: (scores["dice"] or 0.0, -abs((scores["threshold"] or 0.0) - 0.5)))


def _scores(threshold: float, right: int, wrong: int, positives: int) -> dict[str, float | None]:
    found = right + wrong
    return {
        "threshold": threshold,
        "dice": ratio(2 * right, found + positives),
        "iou": ratio(right, wrong + positives),
        "precision": ratio(right, found),
        "recall": ratio(right, positives),
    }


def _ranking(total: CalibrationStatistics) -> dict[str, float | None]:
    """ROC-AUC (Mann and Whitney's, ties half), how far binning can have moved it, and average precision."""
    negative, positive = (side[::-1].astype(np.float64) for side in total.counts)
    negatives, positives = negative.sum(), positive.sum()
    hits, found = positive.cumsum(), (positive + negative).cumsum()
    later = negatives - negative.cumsum()
    precision = np.divide(hits, found, out=np.zeros_like(hits), where=found > 0)
    pairs = float(positives * negatives)
    return {
        "roc_auc": ratio(float(positive @ (later + negative / 2)), pairs),
        "roc_auc_error": ratio(float(positive @ negative) / 2, pairs),
        "average_precision": ratio(float(positive @ precision), float(positives)),
    }
