import json

import numpy as np
import pytest
import torch
from cuts import boxes, five_chunkings, sides_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from pipeline.errors import ChunkError, InputError, NonFiniteError
from pipeline.evaluation.calibration import (
    REASONS,
    best_threshold,
    calibration_metrics,
    reliability,
    scores_at,
    sweep,
)
from pipeline.evaluation.histograms import BINS, CalibrationStatistics

SHAPES = [(40, 50), (10, 14, 18)]


@st.composite
def maps(draw):
    """Probabilities (of any dtype that is stored) and classes 0 to 2 of one shape."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=7))
    kind = draw(st.sampled_from(["u1", "f2", "f4", "f8"]))
    values = st.integers(0, 255) if kind == "u1" else st.floats(0, 1, width=int(kind[1]) * 8)
    return draw(hnp.arrays(kind, shape, elements=values)), draw(
        hnp.arrays("u1", shape, elements=st.integers(0, 2))
    )


def real(p):
    return p / 255 if p.dtype == np.uint8 else p.astype(float)


def noisy(shape, seed=0):
    rng = np.random.default_rng(seed)
    target = (rng.random(shape) < 0.3).astype(np.uint8)
    return np.clip(target * 0.4 + rng.random(shape) * 0.6, 0, 1), target


def test_metrics_by_hand():
    probabilities, target = np.array([0.1, 0.4, 0.6, 0.9]), np.array([0, 1, 0, 1])
    found = calibration_metrics(CalibrationStatistics.of(probabilities, target), groups=2)
    assert found["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4)
    assert found["ece"] == pytest.approx((2 * 0.25 + 2 * 0.25) / 4)
    assert found["mce"] == pytest.approx(0.25)
    assert found["roc_auc"] == 0.75
    assert found["roc_auc_error"] == 0
    assert found["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found["best"]["dice"] == pytest.approx(0.8)
    assert 0.1 < found["best"]["threshold"] <= 0.4
    assert (found["best"]["precision"], found["best"]["recall"]) == (pytest.approx(2 / 3), 1)
    assert found["best"]["iou"] == pytest.approx(2 / 3)
    assert (found["voxels"], found["positives"], found["ignored"], found["undefined"]) == (4, 2, 0, {})
    assert found["resolution"] == 1 / BINS


@given(maps(), st.none() | st.integers(0, 2), st.data())
def test_statistics_of_chunks_add_up_to_those_of_the_whole(pair, ignore, data):
    probabilities, target = pair
    total = CalibrationStatistics.zero(60)
    for box in boxes(target.shape, data.draw(sides_of(target.shape))):
        total += CalibrationStatistics.of(probabilities[box.slices], target[box.slices], ignore=ignore, bins=60)
    whole = CalibrationStatistics.of(probabilities, target, ignore=ignore, bins=60)
    assert np.array_equal(total.counts, whole.counts)
    assert total.ignored == whole.ignored == (0 if ignore is None else (target == ignore).sum())
    assert total.sums == pytest.approx(whole.sums, abs=1e-12)
    assert total.squares == pytest.approx(whole.squares, abs=1e-12)
    again = CalibrationStatistics.from_dict(json.loads(json.dumps(total.to_dict())))
    assert calibration_metrics(again) == calibration_metrics(total)


@given(maps(), st.none() | st.just(2))
def test_they_are_those_of_scikit_learn(pair, ignore):
    probabilities, target = pair
    total = CalibrationStatistics.of(probabilities, target, ignore=ignore)
    found = calibration_metrics(total)
    kept = np.ones(target.shape, bool) if ignore is None else target != ignore
    p, y = real(probabilities)[kept], target[kept] == 1
    if not 0 < y.sum() < y.size:
        return
    binned = np.searchsorted(np.arange(BINS) / BINS, p, side="right")
    assert found["brier"] == pytest.approx(sk.brier_score_loss(y, p), abs=1e-9)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(y, binned), abs=1e-9)
    assert abs(found["roc_auc"] - sk.roc_auc_score(y, p)) <= found["roc_auc_error"] + 1e-12
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(y, binned), abs=1e-9)
    for step in (204, 1019):
        scores = scores_at(total, step / BINS)
        yes = p >= step / BINS
        assert scores["dice"] == pytest.approx(sk.f1_score(y, yes, zero_division=0), abs=1e-9)
        assert scores["iou"] == pytest.approx(sk.jaccard_score(y, yes, zero_division=0), abs=1e-9)
        assert scores["recall"] == pytest.approx(sk.recall_score(y, yes), abs=1e-9)
        assert scores["precision"] == (pytest.approx(sk.precision_score(y, yes), abs=1e-9) if yes.any() else None)
    assert sweep(total)[510] == scores_at(total, 0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_five_chunkings(shape):
    probabilities, target = noisy(shape)
    target[..., :4] = 9
    y, p = target[target != 9], probabilities[target != 9]
    best = max(2 * (p[y == 1] >= t / BINS).sum() / (y.sum() + (p >= t / BINS).sum()) for t in range(BINS))
    for sides in five_chunkings(shape):
        total = CalibrationStatistics.zero()
        for b in boxes(shape, sides):
            total += CalibrationStatistics.of(probabilities[b.slices], target[b.slices], ignore=9)
        found = calibration_metrics(total)
        assert found["brier"] == pytest.approx(sk.brier_score_loss(y, p), abs=1e-9)
        assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p), abs=found["roc_auc_error"] + 1e-12)
        assert found["roc_auc_error"] < 1e-3
        assert found["average_precision"] == pytest.approx(sk.average_precision_score(y, p), abs=2e-3)
        assert found["ignored"] == (target == 9).sum()
        assert found["best"]["dice"] == pytest.approx(best, abs=1e-9)


def test_calibration_error_is_that_of_torchmetrics():
    probabilities, target = noisy((30, 40))
    found = calibration_metrics(CalibrationStatistics.of(probabilities, target))
    tensors = torch.from_numpy(probabilities.reshape(-1)), torch.from_numpy(target.reshape(-1).astype(np.int64))
    assert found["ece"] == pytest.approx(float(binary_calibration_error(*tensors, n_bins=15, norm="l1")), abs=1e-6)
    assert found["mce"] == pytest.approx(
        float(binary_calibration_error(*tensors, n_bins=15, norm="max")), abs=1e-6
    )


def test_the_top_label_is_that_of_torchmetrics():
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet([1, 1, 1], (20, 30)).transpose(2, 0, 1)
    target = rng.integers(0, 3, (20, 30))
    target[:5] = 7
    statistics = CalibrationStatistics.of_top_label(probabilities, target, ignore=7)
    flat = torch.from_numpy(probabilities.reshape(3, -1).T.copy()), torch.from_numpy(target.reshape(-1))
    theirs = float(multiclass_calibration_error(*flat, num_classes=3, n_bins=15, norm="l1", ignore_index=7))
    found = calibration_metrics(statistics)
    assert found["ece"] == pytest.approx(theirs, abs=1e-6)
    kept = target != 7
    assert found["positives"] == (probabilities.argmax(axis=0) == target)[kept].sum()


def test_bytes_are_counted_at_their_own_values():
    values = np.arange(256, dtype=np.uint8)
    counts = CalibrationStatistics.of(values, np.ones(256, int)).counts[1]
    assert np.flatnonzero(counts).tolist() == [*range(0, 1020, 4), 1019]


def test_edges_belong_to_the_bin_above():
    edges = np.arange(BINS) / BINS
    below = np.nextafter(edges[1:], 0)
    assert (CalibrationStatistics.of(edges, np.zeros(BINS)).counts[0] == 1).all()
    assert CalibrationStatistics.of(below, np.zeros(BINS - 1)).counts[0].tolist() == [1] * (BINS - 1) + [0]


def test_reliability_of_groups():
    probabilities, target = np.array([0.05, 0.15, 0.15, 1.0]), np.array([0, 1, 0, 1])
    diagram = reliability(CalibrationStatistics.of(probabilities, target), groups=10)
    assert [each["voxels"] for each in diagram] == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert diagram[1] == {
        "from": 0.1,
        "to": 0.2,
        "voxels": 2,
        "mean_probability": pytest.approx(0.15),
        "positives": 0.5,
    }
    assert (diagram[2]["mean_probability"], diagram[2]["positives"]) == (None, None)


@pytest.mark.parametrize(
    ("target", "ignore", "undefined"),
    [
        ([9, 9], 9, set(REASONS)),
        ([0, 0], None, {"roc_auc", "roc_auc_error", "average_precision", "best"}),
        ([1, 1], None, {"roc_auc", "roc_auc_error"}),
    ],
)
def test_what_is_undefined_has_a_reason(target, ignore, undefined):
    total = CalibrationStatistics.of(np.array([0.2, 0.7]), np.array(target), ignore=ignore)
    found = calibration_metrics(total)
    assert found["undefined"] == {name: REASONS[name] for name in undefined}
    assert (best_threshold(total) is None) == ("best" in undefined)


def test_of_equally_good_thresholds_the_one_nearest_to_a_half_is_best():
    total = CalibrationStatistics.of(np.array([0.1, 0.9]), np.array([0, 1]))
    assert best_threshold(total)["threshold"] == 0.5


@pytest.mark.parametrize(
    ("probabilities", "target", "error", "message"),
    [
        (np.zeros(3), np.zeros(2), ChunkError, r"shape \(3,\) and the target \(2,\)"),
        (np.array([1.2]), np.zeros(1), ChunkError, "are these logits"),
        (np.array([np.nan]), np.zeros(1), NonFiniteError, "NaN"),
        (np.array([1]), np.zeros(1), ChunkError, "of int64"),
    ],
)
def test_bad_probabilities_are_refused(probabilities, target, error, message):
    with pytest.raises(error, match=message):
        CalibrationStatistics.of(probabilities, target)


def test_nan_where_nothing_is_counted_does_not_matter():
    total = CalibrationStatistics.of(np.array([np.nan, 0.5]), np.array([9, 1]), ignore=9)
    assert total.counts.sum() == 1


def test_what_does_not_fit_is_refused():
    zero = CalibrationStatistics.zero()
    with pytest.raises(InputError, match="do not make 7 groups"):
        calibration_metrics(zero, groups=7)
    with pytest.raises(InputError, match="of 1020 and of 10 bins"):
        _ = zero + CalibrationStatistics.zero(10)
    with pytest.raises(InputError, match="the number of bins is 0"):
        CalibrationStatistics.zero(0)
    for threshold in (0.5001, -0.1, 1.0):
        with pytest.raises(InputError, match="is no multiple of 1/1020"):
            scores_at(zero, threshold)
    with pytest.raises(ChunkError, match="one axis of classes"):
        CalibrationStatistics.of_top_label(np.zeros((2, 3)), np.zeros((2, 3), int))
    for content in ({}, {"counts": [["a"]], "sums": [], "squares": 0, "ignored": 0}):
        with pytest.raises(InputError, match="histograms"):
            CalibrationStatistics.from_dict(content)
    with pytest.raises(InputError, match="shape"):
        CalibrationStatistics(np.zeros((2, 3), int), np.zeros(2))
    with pytest.raises(InputError, match="whole numbers"):
        CalibrationStatistics(np.full((2, 1), -1), np.zeros(1))
