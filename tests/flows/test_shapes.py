import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.shapes import CELL, CLASS_NAMES, REACH, render
from pipeline.errors import InputError

SEEDS = st.integers(0, 2**64)
PLACES = st.integers(-(2**40), 2**40)


@st.composite
def boxes_within(draw, largest=300):
    """An outer box, and one that lies within it: start and shape of each."""
    start = draw(st.tuples(PLACES, PLACES))
    shape = draw(st.tuples(*[st.integers(1, largest)] * 2))
    inner_shape = tuple(draw(st.integers(1, n)) for n in shape)
    inset = tuple(draw(st.integers(0, n - m)) for n, m in zip(shape, inner_shape, strict=True))
    return start, shape, tuple(s + i for s, i in zip(start, inset, strict=True)), inner_shape, inset


@settings(max_examples=60, deadline=None)
@given(boxes_within(), SEEDS, st.integers(1, 4), st.sampled_from([np.uint8, np.uint16]))
def test_every_box_equals_the_same_voxels_of_a_larger_one(boxes, seed, channels, dtype):
    start, shape, inner_start, inner_shape, inset = boxes
    image, target = render(start, shape, seed=seed, channels=channels, dtype=dtype)
    inner_image, inner_target = render(inner_start, inner_shape, seed=seed, channels=channels, dtype=dtype)
    cut = tuple(slice(i, i + n) for i, n in zip(inset, inner_shape, strict=True))
    assert np.array_equal(inner_image, image[:, *cut])
    assert np.array_equal(inner_target, target[cut])


@pytest.mark.parametrize("edge", [1, 37, 64, 256])
def test_chunks_written_in_any_order_give_the_whole(edge):
    start, shape = (-130, 3), (140, 300) if edge == 1 else (300, 520)
    image, target = render(start, shape, seed=5)
    rng = np.random.default_rng(0)
    corners = [(y, x) for y in range(0, shape[0], edge) for x in range(0, shape[1], edge)]
    for y, x in rng.permutation(corners)[:200]:
        size = (min(edge, shape[0] - y), min(edge, shape[1] - x))
        part, part_target = render((start[0] + y, start[1] + x), size, seed=5)
        assert np.array_equal(part, image[:, y : y + edge, x : x + edge])
        assert np.array_equal(part_target, target[y : y + edge, x : x + edge])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_shapes_dtypes_and_values(channels, dtype):
    image, target = render((7, -9), (128, 192), seed=0, channels=channels, dtype=dtype)
    assert image.shape == (channels, 128, 192)
    assert image.dtype == dtype
    assert target.shape == (128, 192)
    assert target.dtype == np.uint8
    assert set(np.unique(target)) == {0, 1} == set(range(len(CLASS_NAMES)))


@settings(max_examples=30, deadline=None)
@given(PLACES, PLACES, SEEDS)
def test_both_classes_are_present_everywhere(y, x, seed):
    _, target = render((y, x), (6 * CELL, 6 * CELL), seed=seed, channels=1)
    assert 0.03 < target.mean() < 0.45


def test_further_channels_leave_the_first_ones_as_they_are():
    one, target_of_one = render((0, 0), (100, 100), seed=2, channels=1)
    four, target_of_four = render((0, 0), (100, 100), seed=2, channels=4)
    assert np.array_equal(one, four[:1])
    assert np.array_equal(target_of_one, target_of_four)
    assert not np.array_equal(four[0], four[1])


def test_uint16_is_the_same_scene_in_finer_steps():
    coarse, target = render((0, 0), (300, 300), seed=2)
    fine, target_of_fine = render((0, 0), (300, 300), seed=2, dtype=np.uint16)
    assert np.abs(coarse - fine / 256).max() < 3
    assert len(np.unique(fine)) > 10_000
    assert np.array_equal(target, target_of_fine)


def test_another_seed_is_another_plane():
    image, target = render((0, 0), (256, 256), seed=1)
    other_image, other_target = render((0, 0), (256, 256), seed=2)
    assert (image != other_image).mean() > 0.9
    assert (target != other_target).mean() > 0.05


def test_the_plane_is_the_same_in_another_process():
    program = (
        "import hashlib; from flows.shapes import render;"
        "i, t = render((-70, 250), (90, 80), seed=11); print(hashlib.sha256(i.tobytes() + t.tobytes()).hexdigest())"
    )
    theirs = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    image, target = render((-70, 250), (90, 80), seed=11)
    assert theirs.stdout.strip() == hashlib.sha256(image.tobytes() + target.tobytes()).hexdigest()


def test_colour_does_not_give_the_class_away():
    """The intensities inside ellipses are those inside the other shapes."""
    image, target = render((0, 0), (2400, 2400), seed=3, channels=1)
    painted = (image[0] < 45) | (image[0] > 160)  # clear of the background
    edges = np.linspace(0, 256, 9)
    inside, outside = (
        np.histogram(image[0][painted & (target == c)], edges)[0] / (painted & (target == c)).sum() for c in (1, 0)
    )
    assert np.abs(inside - outside).max() < 0.06


def test_noise_shows_no_period():
    """Blocks of the flat background do not repeat each other, side by side or shifted by one block."""
    image, _ = render((0, 0), (512, 1024), seed=4, channels=2, dtype=np.uint16)
    rough = np.diff(image.astype(np.float64), axis=-1)
    rough[np.abs(rough) > 60 * 256] = 0
    for shift in (256, 512, 768):
        assert (
            abs(np.corrcoef(rough[0, :, shift:].ravel(), rough[0, :, : rough.shape[2] - shift].ravel())[0, 1])
            < 0.02
        )
    assert abs(np.corrcoef(rough[0, :256].ravel(), rough[0, 256:].ravel())[0, 1]) < 0.02


def test_light_falls_unevenly_but_slowly():
    image, _ = render((0, 0), (2048, 2048), seed=0, channels=1)
    background = np.median(image[0].reshape(16, 128, 16, 128), axis=(1, 3))
    assert np.ptp(background) > 25
    assert np.abs(np.diff(background)).mean() < np.ptp(background) / 3


def test_shapes_stay_near_their_cells():
    """So what two shapes hide of each other is a strip of twice the reach at most."""
    assert 0 < 2 * REACH < CELL / 2


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((0, 5), {}, "shape"),
        ((5, -1), {}, "shape"),
        ((5, 5), {"channels": 0}, "channels is 0"),
        ((5, 5), {"dtype": np.float32}, "float32"),
        ((5, 5), {"dtype": "i2"}, "int16"),
    ],
)
def test_what_cannot_be_drawn_is_refused(shape, options, message):
    with pytest.raises(InputError, match=message):
        render((0, 0), shape, seed=0, **options)
