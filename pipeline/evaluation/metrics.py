"""Metrics of a prediction: functions of the total of all chunks' statistics, worked out once at the end.

For one class, with the voxels that are of the class and were found (tp), found wrongly (fp), missed (fn) and rightly
left alone (tn):

===========  =======================  ==================================================================
iou          tp / (tp + fp + fn)      Jaccard 1912
dice         2 tp / (2 tp + fp + fn)  Dice 1945; the F1 score
precision    tp / (tp + fp)           share of the found voxels that are right
recall       tp / (tp + fn)           share of the class that is found; sensitivity
specificity  tn / (tn + fp)           share of the other voxels that are left alone
===========  =======================  ==================================================================

Over all ``n`` voxels, of which ``t_i`` are of class i in the target, ``p_i`` in the prediction and ``c_ii`` in both:

========================  ==========================================================================
accuracy                  Σ c_ii / n
frequency_weighted_iou    Σ t_i iou_i / n: Long et al. 2015
kappa                     (n Σ c_ii - Σ t_i p_i) / (n² - Σ t_i p_i): Cohen 1960
mcc                       (n Σ c_ii - Σ t_i p_i) / √((n² - Σ p_i²) (n² - Σ t_i²)): Gorodkin 2004, eq. 8
========================  ==========================================================================

A ratio of zero to zero is ``None``, never a number that looks like a result, and is left out of the mean. A class
that neither the target nor the prediction holds has only such values, and is named in ``absent``. A mean without any
value is ``None``. So is ``mcc`` where one side is of one class alone, and ``kappa`` where both are, of the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.evaluation.statistics import ConfusionStatistics

RATIOS = ("iou", "dice", "precision", "recall", "specificity")
"""The metrics of one class."""


def metrics(total: ConfusionStatistics, class_names: Sequence[str]) -> dict[str, Any]:
    """The metrics of a whole prediction, ready for JSON.

    Args:
        total: the sum of all chunks' statistics.
        class_names: one name for each class, in the order of their values.

    Returns:
        ``voxels`` and ``ignored`` (counts), ``accuracy``, ``mean_<ratio>`` over all classes for each of ``RATIOS``,
        ``frequency_weighted_iou``, ``kappa`` and ``mcc`` (from -1 to 1), ``absent`` (names),
        ``classes`` (by name: each of ``RATIOS``, ``target_voxels``, ``prediction_voxels``), and
        ``confusion``, the counts by ``[target class][prediction class]``. Ratios lie between 0 and 1, or are None.

    Raises:
        InputError: the names do not fit the number of classes, or one occurs twice.
    """
    check_names(class_names, total.classes)
    counts = total.counts
    of_target, of_prediction = counts.sum(axis=1), counts.sum(axis=0)
    ratios = class_ratios(counts)
    classes = {
        name: {
            **{ratio: ratios[ratio][i] for ratio in RATIOS},
            "target_voxels": int(of_target[i]),
            "prediction_voxels": int(of_prediction[i]),
        }
        for i, name in enumerate(class_names)
    }
    voxels = int(counts.sum())
    return {
        "voxels": voxels,
        "ignored": total.ignored,
        "accuracy": _ratio(int(np.trace(counts)), voxels),
        **{f"mean_{ratio}": _mean(ratios[ratio]) for ratio in RATIOS},
        **_agreement(counts, ratios["iou"]),
        "absent": [name for i, name in enumerate(class_names) if not of_target[i] + of_prediction[i]],
        "classes": classes,
        "confusion": counts.tolist(),
    }


def class_ratios(counts: NDArray[np.int64]) -> dict[str, list[float | None]]:
    """Each of ``RATIOS`` for every class.

    Args:
        counts: voxels by ``[target class, prediction class]``, int64.

    Returns:
        By ratio: one value between 0 and 1 for each class, None where it is zero to zero or the class is absent.
    """
    found = [int(n) for n in np.diagonal(counts)]
    truly = [int(n) for n in counts.sum(axis=1)]
    predicted = [int(n) for n in counts.sum(axis=0)]
    voxels = sum(truly)
    ratios: dict[str, list[float | None]] = {ratio: [] for ratio in RATIOS}
    for tp, target, prediction in zip(found, truly, predicted, strict=True):
        either = target + prediction - tp
        others = voxels - target if either else 0
        ratios["iou"].append(_ratio(tp, either))
        ratios["dice"].append(_ratio(2 * tp, target + prediction))
        ratios["precision"].append(_ratio(tp, prediction))
        ratios["recall"].append(_ratio(tp, target))
        ratios["specificity"].append(_ratio(voxels - either, others))
    return ratios


def _agreement(counts: NDArray[np.int64], ious: Sequence[float | None]) -> dict[str, float | None]:
    """What holds of all classes together, in whole numbers of any size up to the last division."""
    truly, predicted = (list(map(int, counts.sum(axis=axis))) for axis in (1, 0))
    voxels, right = sum(truly), int(np.trace(counts))
    chance = sum(t * p for t, p in zip(truly, predicted, strict=True))
    spread = math.prod(math.sqrt(voxels**2 - sum(n * n for n in side)) for side in (truly, predicted))
    weighted = sum(t * iou for t, iou in zip(truly, ious, strict=True) if iou is not None)
    return {
        "frequency_weighted_iou": weighted / voxels if voxels else None,
        "kappa": _ratio(voxels * right - chance, voxels**2 - chance),
        "mcc": (voxels * right - chance) / spread if spread else None,
    }


def check_names(class_names: Sequence[str], classes: int) -> None:
    """Raise InputError unless there is one name for each class, and no name occurs twice."""
    if len(class_names) != classes:
        raise InputError(
            f"there are {len(class_names)} class names for {classes} classes: {list(class_names)}; "
            "give one name for each class"
        )
    twice = [name for name, times in Counter(class_names).items() if times > 1]
    if twice:
        raise InputError(f"class names must differ, but {twice} occur more than once; rename them")


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
