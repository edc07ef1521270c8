"""How well objects were found: predicted objects matched to those of the target, from one contingency table.

An object is an id other than 0. Its size is its counted voxels: those that the target ignores belong to nobody, and
an object that lies in them alone is not there. Two objects match at a threshold if their IoU is *above* it.

=======================  =============================================================================================
precision, recall, f1    matches / predicted objects, matches / target objects, 2 matches / all objects
sq, rq, pq               mean IoU of the matches, F1, and their product: panoptic quality, Kirillov et al. 2019, eq. 1
aji                      Kumar et al. 2017, algorithm 1
=======================  =============================================================================================

Above an IoU of 1/2 a match is unique (Kirillov et al. 2019, theorem 1). Below, objects are matched one to one: as many
as possible, and of those the greatest sum of IoU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.errors import InputError
from pipeline.evaluation.contingency import ContingencyTable, Counts
from pipeline.evaluation.undefined import ratio, with_reasons

THRESHOLDS = (0.5, 0.75, 0.9)
"""IoU above which objects match, where nobody says another."""

REASONS = {
    "precision": "no object was predicted",
    "recall": "the target holds no object",
    "f1": "neither side holds an object",
    "rq": "neither side holds an object",
    "sq": "no object matches",
    "pq": "neither side holds an object",
    "aji": "neither side holds an object",
}
"""Why a metric of objects can be None."""

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pairs of objects that overlap, by their place among the objects of each side.

    Attributes:
        target_sizes: voxels of each object of the target, in the order of ids.
        prediction_sizes: voxels of each object of the prediction, in the order of ids.
        target: object of the target, for each pair; pairs are sorted by it, then by ``prediction``.
        prediction: object of the prediction, for each pair.
        voxels: what the two have in common, for each pair.
    """

    target_sizes: Counts
    prediction_sizes: Counts
    target: Indices
    prediction: Indices
    voxels: Counts

    @classmethod
    def of(cls, table: ContingencyTable) -> Overlaps:
        """The overlaps of the objects in a table of the whole volume."""
        targets, target_sizes = _objects(table, "target")
        predictions, prediction_sizes = _objects(table, "prediction")
        pairs = table.pick((table.target != 0) & (table.prediction != 0))
        places = (np.searchsorted(targets, pairs.target), np.searchsorted(predictions, pairs.prediction))
        return cls(target_sizes, prediction_sizes, *places, pairs.voxels)

    @property
    def union(self) -> Counts:
        """Voxels of either object, for each pair."""
        return self.target_sizes[self.target] + self.prediction_sizes[self.prediction] - self.voxels

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair, above 0."""
        return np.asarray(self.voxels / self.union, np.float64)


def instance_metrics(table: ContingencyTable, *, thresholds: Sequence[float] = THRESHOLDS) -> dict[str, Any]:
    """The metrics of all objects, ready for JSON.

    Args:
        table: the total of all chunks' tables.
        thresholds: IoU above which two objects match, each from 0 up to, but without, 1.

    Returns:
        ``target_objects`` and ``prediction_objects`` (``count``, and ``mean``, ``median``, ``least``, ``most`` voxels,
        None without objects), ``aji``, ``undefined`` and ``matches``, one entry for each threshold, see
        :func:`matched`.

    Raises:
        InputError: a threshold is outside of its range.
    """
    overlaps = Overlaps.of(table)
    return {
        "target_objects": _describe(overlaps.target_sizes),
        "prediction_objects": _describe(overlaps.prediction_sizes),
        **with_reasons({"aji": aji(overlaps)}, REASONS),
        "matches": [matched(overlaps, threshold) for threshold in thresholds],
    }


def matched(overlaps: Overlaps, threshold: float) -> dict[str, Any]:
    """What matches at one threshold.

    Returns:
        ``threshold``, ``matches``, ``missed`` and ``false`` (objects of the target, of the prediction, without a
        match), ``precision``, ``recall``, ``f1``, ``sq``, ``rq``, ``pq``, and ``undefined``, the reason of each None.

    Raises:
        InputError: the threshold is not from 0 up to, but without, 1.
    """
    pairs = match(overlaps, threshold)
    found, truly, predicted = pairs.size, overlaps.target_sizes.size, overlaps.prediction_sizes.size
    quality = float(overlaps.iou[pairs].sum())
    f1 = ratio(2 * found, truly + predicted)
    values = {
        "precision": ratio(found, predicted),
        "recall": ratio(found, truly),
        "f1": f1,
        "sq": ratio(quality, found),
        "rq": f1,
        "pq": ratio(2 * quality, truly + predicted),
    }
    counts = {"matches": found, "missed": truly - found, "false": predicted - found}
    return {"threshold": threshold, **counts, **with_reasons(values, REASONS)}


def match(overlaps: Overlaps, threshold: float) -> Indices:
    """Return which pairs of ``overlaps`` match: no object is in two of them.

    Raises:
        InputError: the threshold is not from 0 up to, but without, 1.
    """
    if not 0 <= threshold < 1:
        raise InputError(f"the IoU threshold is {threshold}; it must be from 0 up to, but without, 1")
    candidates = np.flatnonzero(overlaps.iou > threshold)
    if threshold >= 0.5:
        return candidates
    chosen = [_assign(overlaps, group) for group in _groups(overlaps, candidates)]
    return np.sort(np.concatenate([np.zeros(0, np.intp), *chosen]))


def aji(overlaps: Overlaps) -> float | None:
    """The aggregated Jaccard index: None where neither side holds an object.

    Each object of the target takes the predicted one of the greatest IoU (the first in the order of ids, of equal
    ones), which another may take as well; predicted objects that nobody takes count as errors.
    """
    if not overlaps.target_sizes.size + overlaps.prediction_sizes.size:
        return None
    best = _best(overlaps)
    common = int(overlaps.voxels[best].sum())
    lonely = np.ones(overlaps.target_sizes.size, bool)
    lonely[overlaps.target[best]] = False
    unused = np.ones(overlaps.prediction_sizes.size, bool)
    unused[overlaps.prediction[best]] = False
    either = (
        overlaps.union[best].sum() + overlaps.target_sizes[lonely].sum() + overlaps.prediction_sizes[unused].sum()
    )
    return common / int(either)


def _best(overlaps: Overlaps) -> Indices:
    """The pair of the greatest IoU of each object of the target that overlaps any."""
    order = np.lexsort((overlaps.prediction, -overlaps.iou, overlaps.target))
    _, first = np.unique(overlaps.target[order], return_index=True)
    best: Indices = order[first]
    return best


def _groups(overlaps: Overlaps, pairs: Indices) -> Iterator[Indices]:
    """Split pairs into groups that share no object: each small, however many objects there are."""
    if not pairs.size:
        return
    targets, predictions = overlaps.target_sizes.size, overlaps.prediction_sizes.size
    ends = overlaps.target[pairs], targets + overlaps.prediction[pairs]
    graph = coo_array((np.ones(pairs.size, np.int8), ends), shape=(targets + predictions,) * 2)
    _, component = connected_components(graph, directed=False)
    of_pair = component[ends[0]]
    order = np.argsort(of_pair, kind="stable")
    yield from np.split(pairs[order], np.flatnonzero(np.diff(of_pair[order])) + 1)


def _assign(overlaps: Overlaps, pairs: Indices) -> Indices:
    """The pairs of one group that are matched: as many as can be, then of the greatest IoU."""
    if pairs.size == 1:
        return pairs
    rows, row = np.unique(overlaps.target[pairs], return_inverse=True)
    columns, column = np.unique(overlaps.prediction[pairs], return_inverse=True)
    gain = np.zeros((rows.size, columns.size))
    # All the IoU of a matching add up to less than the 1 that one more match is worth.
    gain[row, column] = 1 + overlaps.iou[pairs] / (min(gain.shape) + 1)
    which = np.full(gain.shape, -1, np.intp)
    which[row, column] = pairs
    chosen: Indices = which[linear_sum_assignment(gain, maximize=True)]
    return chosen[chosen >= 0]


def _objects(table: ContingencyTable, side: str) -> tuple[NDArray[np.uint64], Counts]:
    ids, sizes = table.sizes(side)
    return ids[ids != 0], sizes[ids != 0]


def _describe(sizes: Counts) -> dict[str, Any]:
    if not sizes.size:
        return {"count": 0, "mean": None, "median": None, "least": None, "most": None}
    return {
        "count": int(sizes.size),
        "mean": float(sizes.mean()),
        "median": float(np.median(sizes)),
        "least": int(sizes.min()),
        "most": int(sizes.max()),
    }
