"""Changes of intensity and of stains, each by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.color import rgb_from_hed

from pipeline.training.augment.intensity import blurred, graded, noisy, powered
from pipeline.training.augment.stain import restained


def test_contrast_and_brightness_by_hand():
    image = np.array([[[10, 250]], [[0, 4]]], np.uint8)
    found = graded(image, 1.5, np.array([2, -1], np.float32))
    assert found.dtype == np.float32
    assert found.tolist() == [[[17, 377]], [[-1, 5]]]  # beyond what uint8 holds, on both sides


def test_gamma_by_hand():
    image = np.array([[[100, 125, 200]], [[7, 7, 7]]], np.uint16)
    np.testing.assert_allclose(powered(image, 2)[0], [[100, 106.25, 200]])
    np.testing.assert_allclose(powered(image, 0.5)[0], [[100, 150, 200]])
    assert powered(image, 2)[1].tolist() == [[7, 7, 7]]


@given(arrays.arrays(np.float32, (2, 3, 4), elements=st.floats(-1e3, 1e3, width=32)), st.floats(0.5, 2))
def test_gamma_keeps_order_and_both_ends(image, exponent):
    bent = powered(image, exponent)
    assert np.isfinite(bent).all()
    for before, after in zip(image.reshape(2, -1), bent.reshape(2, -1), strict=True):
        assert (np.diff(after[np.argsort(before)]) >= -1e-3).all()
        np.testing.assert_allclose((after.min(), after.max()), (before.min(), before.max()), atol=1e-3)


def test_blur_is_a_gaussian_in_the_plane():
    point = np.zeros((1, 3, 21, 21), np.uint8)
    point[0, 1, 10, 10] = 200
    soft = blurred(point, 2.0)
    assert not soft[0, [0, 2]].any()
    assert soft.sum() == pytest.approx(200, rel=1e-4)
    y = np.arange(21) - 10
    assert np.sqrt((soft[0, 1].sum(1) * y**2).sum() / 200) == pytest.approx(2, rel=0.02)
    assert np.array_equal(blurred(np.full((1, 5, 5), 9), 1.0), np.full((1, 5, 5), 9))


def test_noise_has_its_deviation_in_every_channel():
    image = np.full((2, 64, 64), 100, np.uint8)
    found = noisy(image, np.array([1, 20], np.float32), np.random.default_rng(0)) - 100
    assert found.std((1, 2)) == pytest.approx([1, 20], rel=0.05)
    assert found.mean((1, 2)) == pytest.approx([0, 0], abs=1)
    assert np.corrcoef(found[0].ravel(), found[1].ravel())[0, 1] == pytest.approx(0, abs=0.06)
    assert (found[1] + 100 < 50).any()


def stained(haematoxylin: float, eosin: float) -> np.ndarray:
    """The colour (0 to 1) of so much of both stains, after Beer and Lambert."""
    return np.exp(-(haematoxylin * rgb_from_hed[0] + eosin * rgb_from_hed[1]))[:, None, None]


def test_each_stain_is_multiplied_by_its_factor():
    for factors, want in {
        (2, 1, 1): stained(1.2, 0.4),
        (1, 0.5, 1): stained(0.6, 0.2),
        (0, 1, 1): stained(0, 0.4),
        (1, 1, 3): stained(0.6, 0.4),
    }.items():
        np.testing.assert_allclose(restained(stained(0.6, 0.4), factors), want, rtol=1e-4)


def test_stains_of_whole_numbers_are_in_their_own_units():
    colours = np.random.default_rng(0).integers(1, 256, (3, 4, 5)).astype(np.uint8)
    factors = (1.3, 0.8, 1.1)
    found = restained(colours, factors)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 255 * restained(colours / 255, factors), rtol=1e-4)
    np.testing.assert_allclose(restained(colours.astype(np.uint16) * 257, factors), 257 * found, rtol=1e-4)


@given(arrays.arrays(np.uint8, (3, 2, 3, 4)), st.tuples(*[st.floats(0, 2)] * 3))
def test_stains_change_nothing_by_one_and_stay_within_black_and_white(colours, factors):
    np.testing.assert_allclose(restained(colours, (1, 1, 1)), np.maximum(colours, 255 / 256), rtol=1e-3)
    found = restained(colours, factors)
    assert (found >= 0).all()
    assert (found <= 255).all()


def test_white_stays_white():
    white = np.full((3, 2, 2), 255, np.uint8)
    np.testing.assert_allclose(restained(white, (0.5, 2, 1.4)), white, rtol=1e-5)
