from itertools import permutations

import numpy as np
import pytest
import torch
from cuts import boxes, five_chunkings
from hypothesis import given
from hypothesis import strategies as st
from labels import cells, label_pairs, spoilt
from monai.metrics.panoptic_quality import compute_panoptic_quality
from torchmetrics.detection import PanopticQuality

from pipeline.errors import InputError
from pipeline.evaluation.contingency import ContingencyTable
from pipeline.evaluation.instances import REASONS, Overlaps, aji, instance_metrics, match, matched


def overlaps_of(prediction, target, **options):
    return Overlaps.of(ContingencyTable.of(np.array(prediction), np.array(target), **options))


def iou_table(prediction, target):
    """The definition: IoU of every object of the target (rows) with every one of the prediction (columns)."""
    t, p = (np.unique(a[a != 0]) for a in (target, prediction))
    return np.array(
        [
            [((target == i) & (prediction == j)).sum() / ((target == i) | (prediction == j)).sum() for j in p]
            for i in t
        ]
    ).reshape(t.size, p.size)


def test_matches_by_hand():
    """Objects of 4, 3 and 2 voxels; IoU 3/4 of the first, 2/4 of the second, the third is missed."""
    target = [1, 1, 1, 1, 0, 2, 2, 2, 0, 3, 3]
    prediction = [7, 7, 7, 0, 0, 0, 8, 8, 8, 0, 0]
    overlaps = overlaps_of(prediction, target)
    assert overlaps.iou.tolist() == [0.75, 0.5]
    assert matched(overlaps, 0.5) == {
        "threshold": 0.5,
        "matches": 1,
        "missed": 2,
        "false": 1,
        "precision": 1 / 2,
        "recall": 1 / 3,
        "f1": 2 / 5,
        "sq": 0.75,
        "rq": 2 / 5,
        "pq": pytest.approx(0.3),
        "undefined": {},
    }
    assert matched(overlaps, 0.49)["matches"] == 2  # above, not at, the threshold
    assert matched(overlaps, 0.75)["sq"] is None
    assert matched(overlaps, 0.75)["undefined"] == {"sq": "no object matches"}
    assert aji(overlaps) == pytest.approx((3 + 2) / (4 + 4 + 2))


def test_aji_by_hand_where_two_share_one_and_one_is_nobody_s():
    """Both halves of the target take the one merger; the blob at the end is taken by none."""
    target = [1, 1, 1, 2, 2, 0, 0, 0]
    prediction = [5, 5, 5, 5, 5, 0, 6, 6]
    assert aji(overlaps_of(prediction, target)) == pytest.approx((3 + 2) / (5 + 5 + 2))


def test_sizes_and_counts():
    found = instance_metrics(ContingencyTable.of(np.array([1, 1, 2, 0, 3]), np.array([4, 4, 4, 0, 9]), ignore=9))
    assert found["target_objects"] == {"count": 1, "mean": 3, "median": 3, "least": 3, "most": 3}
    assert found["prediction_objects"] == {"count": 2, "mean": 1.5, "median": 1.5, "least": 1, "most": 2}
    assert [entry["threshold"] for entry in found["matches"]] == [0.5, 0.75, 0.9]


@pytest.mark.parametrize(
    ("prediction", "target", "undefined", "zero"),
    [
        ([0, 0], [0, 0], {"precision", "recall", "f1", "rq", "sq", "pq"}, set()),
        ([0, 0], [0, 3], {"precision", "sq"}, {"recall", "f1", "rq", "pq"}),
        ([3, 0], [0, 0], {"recall", "sq"}, {"precision", "f1", "rq", "pq"}),
        ([3, 0], [0, 3], {"sq"}, {"precision", "recall", "f1", "rq", "pq"}),
    ],
)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
def test_empty_sides(prediction, target, undefined, zero, threshold):
    overlaps = overlaps_of(prediction, target)
    found = matched(overlaps, threshold)
    assert found["undefined"] == {name: REASONS[name] for name in undefined}
    assert {name for name in REASONS if found.get(name) == 0} == zero
    assert aji(overlaps) == (None if "f1" in undefined else 0)


def test_one_more_match_is_worth_more_than_iou():
    """The best pair alone has an IoU of 3/5, the other two of 1/4 and 1/5."""
    overlaps = overlaps_of([5, 6, 6, 6, 6, 0], [1, 1, 1, 1, 2, 2])
    assert overlaps.iou.tolist() == pytest.approx([1 / 4, 3 / 5, 1 / 5])
    assert match(overlaps, 0.1).tolist() == [0, 2]
    assert match(overlaps, 0.2).tolist() == [1]


@given(label_pairs(most=4), st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.5, 0.7]))
def test_the_matching_is_the_best_of_all(pair, threshold):
    prediction, target = pair
    table = iou_table(prediction, target)
    rows, columns = sorted(table.shape)
    table = table if table.shape[0] == rows else table.T
    best = max(
        (sum(v > threshold for v in chosen), sum(v for v in chosen if v > threshold))
        for order in permutations(range(columns), rows)
        for chosen in [[float(table[i, j]) for i, j in enumerate(order)]]
    )
    overlaps = overlaps_of(prediction, target)
    pairs = match(overlaps, threshold)
    assert pairs.size == best[0]
    assert overlaps.iou[pairs].sum() == pytest.approx(best[1], abs=1e-9)
    for side in (overlaps.target, overlaps.prediction):
        assert np.unique(side[pairs]).size == pairs.size


@given(label_pairs())
def test_aji_is_its_definition(pair):
    prediction, target = pair
    t, p = ([array == i for i in np.unique(array[array != 0])] for array in (target, prediction))
    common = either = 0
    used = set()
    for of_target in t:
        ious = [(of_target & q).sum() / (of_target | q).sum() for q in p]
        if any(ious):
            best = int(np.argmax(ious))
            used.add(best)
            common += (of_target & p[best]).sum()
            either += (of_target | p[best]).sum()
        else:
            either += of_target.sum()
    either += sum(q.sum() for i, q in enumerate(p) if i not in used)
    assert aji(overlaps_of(prediction, target)) == (pytest.approx(common / either, abs=1e-9) if t or p else None)


@given(label_pairs())
def test_panoptic_quality_is_that_of_torchmetrics(pair):
    prediction, target = (array.astype(np.int64) for array in pair)
    if not (prediction.any() and target.any()):
        return
    theirs = PanopticQuality(things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
    batch = [torch.from_numpy(np.stack([a != 0, a], -1).astype(np.int64)).reshape(1, -1, 1, 2) for a in pair]
    pq, sq, rq = theirs(*batch)[0].tolist()
    found = matched(overlaps_of(prediction, target), 0.5)
    assert (found["pq"], found["sq"] or 0, found["rq"]) == pytest.approx((pq, sq, rq), abs=1e-6)  # theirs: float32


@pytest.mark.parametrize("shape", [(60, 70), (12, 20, 24)])
def test_five_chunkings_against_monai(shape):
    target = cells(shape, count=12, seed=1, thick=1.5)
    prediction = spoilt(target, seed=2)
    whole = instance_metrics(ContingencyTable.of(prediction, target))
    tensors = [torch.from_numpy(array.astype(np.int64)) for array in (prediction, target)]
    pq, sq, rq = (
        float(
            compute_panoptic_quality(*tensors, metric_name=name, match_iou_threshold=0.5, smooth_numerator=1e-12)
        )
        for name in ("pq", "sq", "rq")
    )
    at_half = whole["matches"][0]
    assert (at_half["pq"], at_half["sq"], at_half["rq"]) == pytest.approx((pq, sq, rq), abs=1e-6)
    assert 3 <= at_half["matches"] < 12
    for sides in five_chunkings(shape):
        parts = (ContingencyTable.of(prediction[b.slices], target[b.slices]) for b in boxes(shape, sides))
        assert instance_metrics(ContingencyTable.total(parts)) == whole


def test_an_object_that_chunks_cut_counts_once():
    target = np.zeros((8, 8), int)
    target[2:7, 2:7] = 1
    table = ContingencyTable.total(
        ContingencyTable.of(target[b.slices], target[b.slices]) for b in boxes((8, 8), (3, 3))
    )
    found = instance_metrics(table)
    assert found["target_objects"]["count"] == 1
    assert (found["matches"][0]["matches"], found["aji"]) == (1, 1)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, 1.5, float("nan")])
def test_thresholds_outside_are_refused(threshold):
    with pytest.raises(InputError, match="the IoU threshold is"):
        match(overlaps_of([1], [1]), threshold)
