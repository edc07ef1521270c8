"""Weights of classes, and border weights against the distances to every instance."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.errors import InputError
from pipeline.training.weights import TOLERANCE, border_context, border_reach, border_weights, class_weights


def test_balanced_weights_by_hand():
    # inverses 2, 4, 4 with the mean 10/3
    assert class_weights("balanced", 3, (0.5, 0.25, 0.25)) == pytest.approx((0.6, 1.2, 1.2))
    assert class_weights("none", 3) is None
    assert class_weights((0.0, 2.0), 2) == (0.0, 2.0)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6))
def test_balanced_weights_have_the_mean_one_and_give_every_class_the_same_sum(shares):
    weights = class_weights("balanced", len(shares), shares)
    assert np.mean(weights) == pytest.approx(1)
    assert np.ptp(np.multiply(weights, shares)) == pytest.approx(0, abs=1e-9)


def test_class_weights_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match=r"balanced: no labelled voxel is of class 1, 2"):
        class_weights("balanced", 3, (1.0, 0.0, 0.0))
    with pytest.raises(InputError, match="2 numbers for 3 classes"):
        class_weights((1.0, 2.0), 3)
    for numbers in ((-1.0, 2.0), (math.inf, 1.0), (math.nan, 1.0), (0.0, 0.0)):
        with pytest.raises(InputError, match="must be numbers from 0 up, not all of them 0"):
            class_weights(numbers, 2)


def test_border_weights_by_hand():
    # Between two instances four voxels apart: d1 + d2 is 5 in each voxel of the row; exp(-25 / 50) at sigma 5.
    row = np.array([[7, 0, 0, 0, 0, 9]])
    want = 10 * math.exp(-0.5)
    np.testing.assert_allclose(border_weights(row), [[0, want, want, want, want, 0]], rtol=1e-6)
    # Beside them: d1 = 1 to the near one, d2 = 3 to the far one.
    beside = np.array([[0, 7, 0, 9]])
    np.testing.assert_allclose(border_weights(beside)[0, 0], 10 * math.exp(-16 / 50), rtol=1e-6)
    np.testing.assert_allclose(border_weights(beside, w0=3, sigma=2)[0, 2], 3 * math.exp(-4 / 8), rtol=1e-6)
    # Off the row: d1 = 2 straight, d2 = sqrt(2**2 + 1).
    block = np.zeros((3, 2), int)
    block[0] = 1, 2
    want = 10 * math.exp(-((2 + math.sqrt(5)) ** 2) / 50)
    np.testing.assert_allclose(border_weights(block)[2, 0], want, rtol=1e-6)


def brute(instances: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    """The formula from the distances to every instance, everywhere."""
    ids = [number for number in np.unique(instances) if number > 0]
    if len(ids) < 2:
        return np.zeros(instances.shape)
    away = np.sort([ndimage.distance_transform_edt(instances != number) for number in ids], axis=0)
    weights = w0 * np.exp(-((away[0] + away[1]) ** 2) / (2 * sigma**2))
    return np.where(instances == 0, weights, 0)


@st.composite
def instance_maps(draw: st.DrawFn) -> np.ndarray:
    """Seeds grown to blobs, with large ids, unknown voxels, and one instance in two pieces at times."""
    shape = draw(st.sampled_from([(40,), (24, 31), (9, 12, 10)]))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    instances = np.zeros(shape, np.int64)
    for _ in range(draw(st.integers(0, 7))):
        seed = np.ones(shape, bool)
        seed[tuple(random.integers(n) for n in shape)] = False
        instances[ndimage.distance_transform_edt(seed) < random.uniform(1, 4)] = random.choice(
            [1, 5, 2**40, 77, -1]
        )
    return instances


@settings(deadline=None)
@given(instance_maps(), st.floats(0.5, 20), st.floats(0.5, 6))
def test_border_weights_are_the_formula_down_to_the_tolerance(instances, w0, sigma):
    found = border_weights(instances, w0=w0, sigma=sigma)
    np.testing.assert_allclose(found, brute(instances, w0, sigma), rtol=1e-4, atol=1.01 * TOLERANCE)
    assert found.dtype == np.float32
    assert not found[instances != 0].any()
    assert ((found == 0) | (found >= 0.99 * TOLERANCE)).all()


@settings(deadline=None)
@given(instance_maps(), st.floats(0.2, 1.2), st.data())
def test_a_patch_with_its_context_has_the_weights_of_the_whole(instances, sigma, data):
    context = border_context(10, sigma)
    inner, outer = [], []
    for length in instances.shape:
        start = data.draw(st.integers(0, length - 1))
        stop = data.draw(st.integers(start + 1, length))
        inner.append(slice(start, stop))
        outer.append(slice(max(start - context, 0), stop + context))
    within = tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
    whole = border_weights(instances, sigma=sigma)[tuple(inner)]
    assert np.array_equal(border_weights(instances[tuple(outer)], sigma=sigma)[within], whole)


def test_the_reach_of_border_weights():
    assert 10 * math.exp(-(border_reach(10, 5) ** 2) / 50) == pytest.approx(TOLERANCE)
    assert border_context(10, 5) == 20
    assert border_context(0, 5) == border_reach(0, 5) == 0
    assert not border_weights(np.array([[1, 0, 2]]), w0=0).any()


def test_maps_without_two_instances_or_without_background_have_no_border():
    for instances in (np.zeros((4, 4), int), np.eye(4, dtype=int), np.array([[3, 5], [5, 3]], np.uint64)):
        assert not border_weights(instances).any()
