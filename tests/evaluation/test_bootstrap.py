"""Intervals against values worked out by hand, and against plain loops over resamples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.evaluation.bootstrap import (
    Resampling,
    chunk_intervals,
    mean_interval,
    metric_names,
    metric_values,
    resampled_metrics,
)
from pipeline.evaluation.metrics import RATIOS, metrics
from pipeline.evaluation.statistics import ConfusionStatistics

FEW = Resampling(resamples=200)
counts_of = st.tuples(st.integers(1, 6), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.int64, (shape[0], shape[1], shape[1]), elements=st.integers(0, 40) | st.just(0))
)


def names_of(counts):
    return [f"c{i}" for i in range(counts.shape[-1])]


def one_by_one(total, names):
    """The metrics of one total, by the code that evaluations use, flattened."""
    found = metrics(ConfusionStatistics(total), names)
    flat = {"accuracy": found["accuracy"], **{f"mean_{ratio}": found[f"mean_{ratio}"] for ratio in RATIOS}}
    return flat | {f"{r}_{name}": found["classes"][name][r] for name in names for r in RATIOS}


@given(counts_of)
def test_many_totals_have_the_metrics_of_each_one(totals):
    names = names_of(totals)
    values = metric_values(totals, names)
    assert list(values) == metric_names(names)
    for i, total in enumerate(totals):
        for name, expected in one_by_one(total, names).items():
            found = values[name][i]
            assert np.isnan(found) if expected is None else found == pytest.approx(expected, abs=1e-12), name


@settings(max_examples=20)
@given(counts_of)
def test_resampled_metrics_are_those_of_a_loop_that_draws_chunks(counts):
    names = names_of(counts)
    values = resampled_metrics(counts, names, FEW)
    weights = np.concatenate(list(FEW.weights(len(counts))))
    assert (weights.sum(axis=1) == len(counts)).all()
    for i in (0, 7, 199):
        total = np.zeros(counts.shape[1:], np.int64)
        for chunk, times in enumerate(weights[i]):
            for _ in range(int(times)):
                total += counts[chunk]
        for name, expected in one_by_one(total, names).items():
            assert values[name][i] == pytest.approx(np.nan if expected is None else expected, nan_ok=True)


def test_an_interval_holds_the_middle_share():
    how = Resampling(confidence=0.9)
    assert how.interval(np.arange(101.0)) == pytest.approx((5, 95))
    assert how.interval(np.array([np.nan, 3.0, np.nan])) == (3.0, 3.0)
    assert how.interval(np.array([np.nan])) is None


def test_two_chunks_by_hand():
    """Accuracy 1 in one chunk, 0 in the other: a resample has both, or twice the same, by 1/2, 1/4, 1/4."""
    counts = np.array([[[4, 0], [0, 0]], [[0, 4], [0, 0]]])
    drawn = resampled_metrics(counts, ["a", "b"], Resampling(resamples=4000))["accuracy"]
    assert set(drawn.tolist()) == {0.0, 0.5, 1.0}
    assert abs((drawn == 0.5).mean() - 0.5) < 0.03
    assert chunk_intervals(counts, ["a", "b"], FEW)["accuracy"] == (0.0, 1.0)


def test_chunks_that_are_all_alike_leave_no_doubt():
    counts = np.array([[[8, 2], [1, 9]]] * 5)
    found = chunk_intervals(counts, ["a", "b"], FEW)
    assert found["accuracy"] == (0.85, 0.85)
    assert found["iou_a"] == pytest.approx((8 / 11, 8 / 11))


def test_one_chunk_and_what_is_not_defined_have_no_interval():
    assert set(chunk_intervals(np.array([[[8, 2], [1, 9]]]), ["a", "b"], FEW).values()) == {None}
    found = chunk_intervals(np.array([[[8, 0], [0, 0]]] * 3), ["a", "b"], FEW)
    assert found["iou_b"] is None
    assert found["iou_a"] == (1.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(counts_of)
def test_the_interval_of_a_ratio_holds_its_value(counts):
    """Of ratios of sums; a mean over classes has another value where a resample lacks a class."""
    names = names_of(counts)
    point = metric_values(counts.sum(axis=0, keepdims=True), names)
    found = chunk_intervals(counts, names, Resampling(resamples=2000, confidence=0.99))
    for name in ("accuracy", *(f"{ratio}_{each}" for each in names for ratio in ("iou", "dice"))):
        if found[name] is not None:
            low, high = found[name]
            assert low - 1e-12 <= point[name][0] <= high + 1e-12, name


@given(st.permutations(range(5)))
def test_the_order_of_equally_many_chunks_hardly_matters(order):
    """The weights belong to places, so another order is another draw of the same distribution, not the same one."""
    counts = np.array([[[10 - i, i], [i, 10 + i]] for i in range(5)])
    one = np.array(chunk_intervals(counts, ["a", "b"], Resampling())["accuracy"])
    other = np.array(chunk_intervals(counts[list(order)], ["a", "b"], Resampling())["accuracy"])
    assert np.abs(one - other).max() < 0.03


@pytest.mark.parametrize("width", [1, 1 << 19, 1 << 40])
def test_weights_do_not_depend_on_how_many_are_made_at_once(width):
    expected = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), size=300)
    found = list(Resampling(300, seed=3).weights(6, width=width))
    assert np.array_equal(np.concatenate(found), expected)
    assert len(found) == {1: 1, 1 << 19: 75, 1 << 40: 300}[width]


def test_a_mean_over_volumes():
    values = [0.2, 0.4, 0.9]
    low, high = mean_interval(values, Resampling(resamples=5000))
    means = [np.mean(np.random.default_rng(i).choice(values, 3)) for i in range(5000)]
    assert (low, high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.03)
    assert mean_interval([0.5], FEW) is None
    assert mean_interval([], FEW) is None
    assert mean_interval([0.5, 0.5], FEW) == (0.5, 0.5)
