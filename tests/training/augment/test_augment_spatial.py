"""Maps of the plane by hand, and that image, target and weights follow them alike."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.training.augment.spatial import (
    STEEPEST,
    displacements,
    move_image,
    move_target,
    move_weights,
    needed,
    sources,
)
from pipeline.training.targets import IGNORE

planes = st.tuples(st.integers(1, 20), st.integers(1, 20))


def shifted(plane: tuple[int, int], y: float, x: float) -> np.ndarray:
    """The map under which the outcome's voxel shows the one that lies so far down and right of it."""
    return sources(plane, scale=1, rotation=0) + np.array([y, x], np.float32)[:, None, None]


def smooth_field(plane: tuple[int, int], seed: int) -> np.ndarray:
    """A map that scales, turns and deforms."""
    moved = sources(plane, scale=1.1, rotation=0.4)
    return moved + displacements(plane, sigma=6, grid=3, random=np.random.default_rng(seed))


@given(planes)
def test_the_plain_map_is_every_voxels_own_place(plane):
    assert np.array_equal(sources(plane, scale=1, rotation=0), np.indices(plane))


def test_scaling_by_hand():
    source = sources((5, 5), scale=2, rotation=0)
    assert source[:, 0, 0].tolist() == [1, 1]
    assert source[:, 2, 2].tolist() == [2, 2]
    assert source[:, 4, 2].tolist() == [3, 2]


def test_a_quarter_turn_is_numpys():
    voxels = np.arange(30.0).reshape(1, 5, 6)[:, :, :5].astype(np.float32)
    source = sources((5, 5), scale=1, rotation=math.pi / 2)
    np.testing.assert_allclose(move_image(voxels, source), np.rot90(voxels, axes=(1, 2)), atol=1e-4)
    assert np.array_equal(move_target(voxels[0].astype(int), source), np.rot90(voxels[0].astype(int)))


@given(planes, st.integers(-3, 3), st.integers(-3, 3))
def test_a_whole_shift_moves_voxels_as_they_are(plane, y, x):
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (2, *plane)).astype(np.float32)
    target, source = random.integers(0, 2**40, plane), shifted(plane, y, x)
    padded = np.pad(image, ((0, 0), (3, 3), (3, 3)), mode="reflect" if min(plane) > 3 else "edge")
    place = (slice(3 + y, 3 + y + plane[0]), slice(3 + x, 3 + x + plane[1]))
    moved = move_image(image, source)
    if min(plane) > 3:  # the mirror's mirror is numpy's own affair
        np.testing.assert_allclose(moved, padded[:, *place], atol=1e-2)
    ids = np.pad(target, 3, constant_values=IGNORE)[place]
    assert np.array_equal(move_target(target, source), ids)
    np.testing.assert_allclose(moved[:, ids != IGNORE], padded[:, *place][:, ids != IGNORE], atol=1e-2)


def test_between_voxels_weights_are_linear_and_images_cubic():
    row = np.array([[0, 0, 1, 0, 0, 0]], np.float32)
    half = shifted((1, 6), 0, 0.5)
    assert move_weights(row, half)[0].tolist() == [0, 0.5, 0.5, 0, 0, 0]
    cubic = move_image(row[None], half)[0, 0]
    # Keys' kernel with a = -0.75 at the distances 0.5 and 1.5
    np.testing.assert_allclose(cubic, [-0.09375, 0.59375, 0.59375, -0.09375, 0, 0], atol=1e-6)
    ones = np.ones((4, 6), np.float32)
    np.testing.assert_allclose(move_weights(ones, smooth_field((4, 6), 0)), ones, rtol=1e-6)


def test_unsigned_targets_can_be_ignored():
    moved = move_target(np.full((3, 3), 255, np.uint8), shifted((3, 3), 1, 0))
    assert moved.dtype == np.int64
    assert moved.tolist() == [[255] * 3, [255] * 3, [IGNORE] * 3]


@pytest.mark.parametrize("seed", range(5))
def test_an_image_that_is_its_own_target_stays_so(seed):
    y, x = np.indices((96, 110))
    target = ((np.sin(y / 9) + np.cos(x / 11)) > 0).astype(np.int64)
    source = smooth_field(target.shape, seed)
    found, moved = move_target(target, source), move_image(target[None], source)[0]
    known = found != IGNORE
    assert 0.5 < known.mean() < 1
    wrong = known & ((moved > 0.5) != (found == 1))
    edge = ndimage.binary_dilation(found == 1) & ndimage.binary_dilation(found == 0)
    assert not (wrong & ~edge).any()  # an edge can lie either side of a voxel's centre
    assert wrong.mean() < 0.01
    assert np.abs(moved - (found == 1))[known & ~edge].mean() < 0.01


def test_every_channel_and_slice_moves_alike():
    plane = np.random.default_rng(1).random((12, 15)).astype(np.float32)
    source = smooth_field((12, 15), 3)
    stack = np.broadcast_to(plane, (2, 4, 12, 15))
    moved = move_image(stack, source)
    assert (moved == moved[0, 0]).all()
    ids = move_target((stack[0] * 9).astype(int), source)
    assert ids.shape == (4, 12, 15)
    assert (ids == ids[0]).all()


def test_displacements_have_their_sigma_at_the_grid_points_and_are_smooth_between():
    random = np.random.default_rng(7)
    fields = np.stack([displacements((257, 201), sigma=10, grid=3, random=random) for _ in range(250)])
    points = fields[:, :, ::128, ::100]
    assert points.shape == (250, 2, 3, 3)
    assert points.std() == pytest.approx(10, rel=0.06)
    assert points.mean() == pytest.approx(0, abs=0.6)
    assert np.corrcoef(points.reshape(250, -1), rowvar=False)[~np.eye(18, dtype=bool)].max() < 0.35
    # A voxel's displacement differs little from its neighbour's, and no axis is folded.
    for axis in (2, 3):
        assert np.abs(np.diff(fields, axis=axis)).max() < 1


def test_the_papers_deformation_never_folds():
    random = np.random.default_rng(3)
    for _ in range(20):
        y, x = sources((572, 572), scale=1, rotation=0) + displacements(
            (572, 572), sigma=10, grid=3, random=random
        )
        (yy, yx), (xy, xx) = np.gradient(y), np.gradient(x)
        assert (yy * xx - yx * xy).min() > 0.3


@settings(deadline=None)
@given(planes, st.integers(2, 6), st.floats(0.1, 50))
def test_displacements_are_never_steep(plane, grid, sigma):
    random = np.random.default_rng(0)
    nearest = (min(plane) - 1) / (grid - 1)
    fields = [displacements(plane, sigma=sigma, grid=grid, random=random) for _ in range(8)]
    assert all(field.shape == (2, *plane) for field in fields)
    assert np.abs(fields).max() <= 6 * min(sigma, nearest / STEEPEST) + 1e-6


@given(st.integers(2, 6), planes)
def test_a_patch_that_is_moved_as_a_whole_is_not_deformed(grid, plane):
    class Same(np.random.Generator):
        def normal(self, loc: float, scale: float, size: tuple[int, ...]) -> np.ndarray:
            return np.full(size, scale)

    field = displacements(plane, sigma=3, grid=grid, random=Same(np.random.PCG64(0)))
    np.testing.assert_allclose(field, np.full_like(field, field[0, 0, 0]), atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(planes, st.floats(0.1, 10), st.floats(-4, 4), st.integers(2, 4), st.integers(0, 99))
def test_what_is_needed_holds_all_that_a_map_shows_and_at_most_the_patch_again_on_each_side(
    plane, scale, rotation, grid, seed
):
    source = sources(plane, scale=scale, rotation=rotation)
    source = source + displacements(plane, sigma=3, grid=grid, random=np.random.default_rng(seed))
    box = needed(source)
    for (first, last), length, places in zip(box, plane, source, strict=True):
        assert -length <= first < last <= 2 * length
        assert first <= np.floor(places.min()) - 1 or first == -length
        assert last >= np.floor(places.max()) + 3 or last == 2 * length
        assert last - first <= np.ptp(places) + 5  # and no more than that


@settings(deadline=None, max_examples=60)
@given(planes, st.floats(0.6, 4), st.floats(-0.2, 0.2), st.integers(0, 99))
def test_a_map_shows_the_same_of_what_it_needs_as_of_everything(plane, scale, rotation, seed):
    source = sources(plane, scale=scale, rotation=rotation)
    box, around = needed(source), [2 * n + 8 for n in plane]
    volume = np.random.default_rng(seed).random(
        [n + 2 * a for n, a in zip(plane, around, strict=True)], np.float32
    )
    part = volume[box.shift(around).slices]
    near = source - np.array(box.start, np.float32)[:, None, None]
    far = source + np.array(around, np.float32)[:, None, None]
    if all(-n < a and b < 2 * n for (a, b), n in zip(box, plane, strict=True)):
        np.testing.assert_allclose(move_image(part[None], near), move_image(volume[None], far), atol=1e-4)
        np.testing.assert_allclose(move_weights(part, near), move_weights(volume, far), atol=1e-4)
    known = move_target((part * 99).astype(int), near)
    whole = move_target((volume * 99).astype(int), far)
    halfway = (np.abs(source % 1 - 0.5) < 1e-3).any(0)  # may round to either voxel
    assert (known == whole)[(known != IGNORE) & ~halfway].all()
