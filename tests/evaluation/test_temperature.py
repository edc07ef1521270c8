import json

import numpy as np
import pytest
import torch
from cuts import boxes, five_chunkings, sides_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from pipeline.errors import ChunkError, InputError, NonFiniteError
from pipeline.evaluation.logit_sample import LogitSample
from pipeline.evaluation.logits import LogitHistogram
from pipeline.evaluation.temperature import Temperature, fit_temperature
from pipeline.geometry import Box


def binary(shape, *, seed=0, steeper=3.0):
    """Logits that are ``steeper`` times too sure, and classes drawn by the honest ones."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, shape)
    return honest * steeper, (rng.random(shape) < 1 / (1 + np.exp(-honest))).astype(np.uint8)


def several(shape, *, seed=0, steeper=2.0):
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 1.5, (4, *shape))
    return honest * steeper, (honest + rng.gumbel(size=honest.shape)).argmax(axis=0)


def sampled(logits, target, **options):
    whole = Box.of_shape(target.shape)
    return LogitSample.of(logits, target, core=whole, shape=target.shape, **options)


def brute_force(loss):
    return float(minimize_scalar(loss, bounds=(0.05, 50), method="bounded", options={"xatol": 1e-10}).x)


def test_two_voxels_by_hand():
    """Three of four are right with a logit of 2 each: the honest logit is log 3."""
    histogram = LogitHistogram.of(np.full(4, 2.0), np.array([1, 1, 1, 0]))
    found = fit_temperature(histogram)
    assert found.value == pytest.approx(2 / np.log(3), rel=1e-9)
    assert found.before == pytest.approx((3 * np.log1p(np.exp(-2)) + np.log1p(np.exp(2))) / 4)
    assert found.after == pytest.approx(-(3 * np.log(3 / 4) + np.log(1 / 4)) / 4)
    assert found.to_dict() == {
        "voxels": 4,
        "temperature": found.value,
        "nll_before": found.before,
        "nll_after": found.after,
        "undefined": {},
    }


@pytest.mark.parametrize("shape", [(60, 70), (12, 16, 20)])
def test_a_histogram_finds_the_temperature_of_all_voxels(shape):
    logits, target = binary(shape)
    signs = np.where(target == 1, -1, 1)
    exact = brute_force(lambda t: np.logaddexp(0, signs * logits / t).mean())
    for sides in five_chunkings(shape):
        total = LogitHistogram.zero()
        for b in boxes(shape, sides):
            total += LogitHistogram.of(logits[b.slices], target[b.slices])
        found = fit_temperature(total)
        assert found.value == pytest.approx(exact, rel=1e-4)
        assert found.value == pytest.approx(3, rel=0.15)
        assert found.before == pytest.approx(log_loss(target.ravel(), 1 / (1 + np.exp(-logits.ravel()))), abs=8e-6)
        assert found.after < found.before
        assert np.array_equal(total.counts, LogitHistogram.of(logits, target).counts)


def test_slopes_are_derivatives():
    logits, target = several((20, 30))
    for likelihood in (LogitHistogram.of(logits[0], target == 0), sampled(logits, target)):
        for inverse in (0.1, 0.7, 2.0):
            step = 1e-5
            numeric = (likelihood.loss(inverse + step) - likelihood.loss(inverse - step)) / (2 * step)
            assert likelihood.slope(inverse) == pytest.approx(numeric, abs=1e-6)
        assert likelihood.slope(0.5) < likelihood.slope(0.6) < likelihood.slope(2)


def test_a_sample_of_everything_is_exact():
    logits, target = several((30, 40))
    sample = sampled(logits, target)
    tensors = torch.from_numpy(logits.reshape(4, -1).T.copy()), torch.from_numpy(target.reshape(-1))
    assert sample.loss(0.5) == pytest.approx(float(torch.nn.functional.cross_entropy(tensors[0] / 2, tensors[1])))
    found = fit_temperature(sample)
    assert found.voxels == target.size
    assert found.value == pytest.approx(brute_force(lambda t: sample.loss(1 / t)), rel=1e-6)
    assert found.value == pytest.approx(2, rel=0.15)


def test_two_classes_of_logits_are_their_difference():
    logits, target = binary((20, 30))
    both = np.stack([np.zeros_like(logits), np.round(logits * 64) / 64])
    histogram = LogitHistogram.of(both[1] - both[0], target)
    assert fit_temperature(histogram).value == pytest.approx(
        fit_temperature(sampled(both, target)).value, rel=1e-9
    )


@given(st.data(), st.integers(1, 60))
def test_samples_of_chunks_are_the_sample_of_the_whole(data, size):
    shape = data.draw(st.sampled_from([(9, 8), (4, 5, 6)]))
    logits, target = several(shape)
    target[0] = 9
    parts = [
        LogitSample.of(logits[:, *b.slices], target[b.slices], core=b, shape=shape, ignore=9, size=size)
        for b in boxes(shape, data.draw(sides_of(shape)))
    ]
    order = data.draw(st.permutations(parts))
    total = sum(order, LogitSample.zero(4, size=size))
    whole = sampled(logits, target, ignore=9, size=size)
    for name, array in whole.to_arrays().items():
        assert np.array_equal(total.to_arrays()[name], array)
    assert total.voxels == min(size, int((target != 9).sum()))
    again = LogitSample.from_arrays(total.to_arrays())
    assert again.loss(1.0) == total.loss(1.0)


def test_a_sample_is_spread_over_the_volume():
    """Of 10,000 voxels a tenth is kept, and each of 100 blocks gets its share (10, ± 3 by chance)."""
    shape = (100, 100)
    places = np.stack(
        [np.broadcast_to(np.arange(100.0), shape), np.broadcast_to(np.arange(100.0)[:, None], shape)]
    )
    kept = sampled(places, np.zeros(shape, int), size=1000).logits
    counts = np.histogram2d(*kept.T, bins=10)[0]
    assert counts.sum() == 1000
    assert 0 < counts.min() <= counts.max() < 25


@pytest.mark.parametrize("kind", [0, 1])
def test_fits_without_end_have_a_reason(kind):
    right, wrong = np.array([1, 0]), np.array([0, 1])
    logits = np.array([2.0, -1.0])
    make = [lambda t: LogitHistogram.of(logits, t), lambda t: sampled(np.stack([-logits, logits]), t)][kind]
    never_wrong, nothing = fit_temperature(make(right)), fit_temperature(make(wrong))
    assert (never_wrong.value, nothing.value) == (None, None)
    assert "never wrong" in never_wrong.reason
    assert "tell nothing" in nothing.reason
    assert set(nothing.to_dict()["undefined"]) == {"temperature", "nll_after"}
    empty = fit_temperature([LogitHistogram.zero(), LogitSample.zero(2)][kind])
    assert empty == Temperature(None, "no voxel is counted", None, None, 0)


def test_ignored_voxels_and_json():
    logits, target = binary((10, 10))
    target[:3] = 255
    logits[:3] = np.nan
    histogram = LogitHistogram.of(logits, target, ignore=255)
    assert histogram.voxels == 70
    again = LogitHistogram.from_dict(json.loads(json.dumps(histogram.to_dict())))
    assert fit_temperature(again) == fit_temperature(histogram)
    assert sampled(np.stack([-logits, logits]), target, ignore=255).voxels == 70


def test_logits_beyond_the_bins_count_with_their_mean():
    histogram = LogitHistogram.of(np.array([1000.0, -1000.0, 40.0]), np.array([1, 1, 1]))
    assert histogram.loss(1.0) == pytest.approx(1000 / 3)


@pytest.mark.parametrize(
    ("logits", "target", "error", "message"),
    [
        (np.zeros(3), np.zeros(2), ChunkError, r"shape \(3,\)"),
        (np.zeros(1, int), np.zeros(1), ChunkError, "logits are floats"),
        (np.array([np.inf]), np.zeros(1), NonFiniteError, "NaN or infinity"),
    ],
)
def test_bad_logits_are_refused(logits, target, error, message):
    with pytest.raises(error, match=message):
        LogitHistogram.of(logits, target)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ChunkError, match="do not fit each other"):
        LogitSample.of(np.zeros((2, 3)), np.zeros(2, int), core=Box((0,), (2,)), shape=(2,))
    with pytest.raises(ChunkError, match="values from 0 to 2, but there are 2 classes"):
        sampled(np.zeros((2, 3)), np.array([0, 1, 2]))
    with pytest.raises(NonFiniteError, match="NaN"):
        sampled(np.full((2, 3), np.nan), np.zeros(3, int))
    with pytest.raises(InputError, match="at least 2 classes and 1 voxel"):
        LogitSample.zero(1)
    with pytest.raises(InputError, match="cannot be added"):
        _ = LogitSample.zero(2) + LogitSample.zero(3)
    with pytest.raises(InputError, match="needs 'counts' and 'sums'"):
        LogitHistogram.from_dict({})
    with pytest.raises(InputError, match="a histogram of logits has"):
        LogitHistogram.from_dict({"counts": [[1]], "sums": [[1]]})
