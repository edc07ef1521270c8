"""The whole of augmentation: what is drawn, what each option changes, and what all of them leave as it was."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.training import Augmentation, Elastic
from pipeline.errors import InputError
from pipeline.geometry import Box, Turn, mirror, visible_box
from pipeline.model.checkpoint import Normalisation
from pipeline.training.augment import Augment
from pipeline.training.augment.amounts import Amounts, draw
from pipeline.training.patches import Patch
from pipeline.training.targets import IGNORE

ALWAYS = Elastic(probability=1)
OPTIONS: dict[str, Any] = {
    "elastic": ALWAYS,
    "scale": 0.3,
    "rotation": 40.0,
    "brightness": 0.5,
    "contrast": 0.4,
    "gamma": 0.4,
    "noise": 0.2,
    "blur": 1.5,
    "stain": 0.4,
}
MOVES = ("elastic", "scale", "rotation")
MEAN, STD = (120.0, 90.0, 150.0), (30.0, 20.0, 10.0)
NORMALISATION = Normalisation(mean=MEAN, std=STD)


def patch(*spatial: int, channels: int = 3, dtype: str = "u1", weights: bool = True) -> Patch:
    random = np.random.default_rng(3)
    image = random.integers(1, 251, (channels, *spatial)).astype(dtype)
    target = random.integers(-1, 4, spatial)
    return Patch(image, target, random.random(spatial, np.float32) if weights else None)


def only(**options: Any) -> Augmentation:
    """Settings that do this and nothing else."""
    return Augmentation(**{"flips": False, "turns": False, **options})


def augmented(augment: Augment, before: Patch, seed: int) -> Patch:
    """A patch that is all of its volume, changed: around it lies the mirror image, of which nothing is known."""
    change = augment(before.target.shape, np.random.default_rng(seed))
    return change(shown(before, change.seen))


def shown(patch: Patch, box: Box) -> Patch:
    """What a box shows of a patch that is all of its volume."""
    shape = patch.target.shape
    if box == Box.of_shape(shape):
        return patch
    inside = visible_box(box, shape)

    def mirrored(part: np.ndarray) -> np.ndarray:
        return mirror(part[..., *inside.slices], inside_box=inside, box=box, shape=shape)

    target, known = np.full(box.shape, IGNORE), box.intersect(Box.of_shape(shape))
    target[known.relative_to(box.start).slices] = patch.target[known.slices]
    return Patch(mirrored(patch.image), target, None if patch.weights is None else mirrored(patch.weights))


def changed(before: Patch, **options: Any) -> Patch:
    """The first change that these options make to a patch."""
    augment = Augment(only(**options), NORMALISATION)
    for seed in range(100):
        after = augmented(augment, before, seed)
        if after is not before:
            return after
    raise AssertionError(f"{options} never changed anything")


def same(one: Patch, other: Patch) -> bool:
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in ("image", "target", "weights"))


@pytest.mark.parametrize("spatial", [(9, 11), (3, 9, 11)])
def test_settings_that_do_nothing_give_the_very_patch_back(spatial):
    before = patch(*spatial)
    nothing = only(elastic=Elastic(probability=0))
    for settings_ in (only(), nothing):
        augment = Augment(settings_, NORMALISATION)
        assert all(augmented(augment, before, seed) is before for seed in range(10))


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_leaves_about_half_of_the_patches_as_they_are(option):
    before = patch(6, 7)
    chance = Elastic(probability=0.5) if option == "elastic" else OPTIONS[option]
    augment = Augment(only(**{option: chance}), NORMALISATION)
    kept = sum(augmented(augment, before, seed) is before for seed in range(400))
    assert kept / 400 == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_is_a_function_of_the_patch_and_the_generator_and_changes_no_input(option):
    before, copy = patch(20, 24), patch(20, 24)
    for part in (before.image, before.target, before.weights):
        part.setflags(write=False)
    augment = Augment(only(**{option: OPTIONS[option]}), NORMALISATION)
    first, again = ([augmented(augment, before, seed) for seed in range(6)] for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert same(before, copy)
    assert not all(same(a, first[0]) for a in first)


@pytest.mark.parametrize("option", [option for option in OPTIONS if option not in MOVES])
def test_changes_of_intensity_leave_target_and_weights_alone(option):
    before = patch(20, 24)
    after = changed(before, **{option: OPTIONS[option]})
    assert after.target is before.target
    assert after.weights is before.weights
    assert after.image.dtype == np.float32
    assert not np.array_equal(after.image, before.image)


@pytest.mark.parametrize("option", MOVES)
def test_moves_change_image_target_and_weights_alike(option):
    ids = np.add.outer(np.arange(40) // 8, np.arange(48) // 8)  # tiles of eight voxels
    before = Patch(np.broadcast_to(ids, (3, 40, 48)).astype(np.float32), ids, ids.astype(np.float32))
    after = changed(before, **{option: OPTIONS[option]})
    assert not np.array_equal(after.target, ids)
    known = after.target != IGNORE
    assert known.any()
    for moved in (*after.image, after.weights):
        assert np.abs(moved - after.target)[known].mean() < 0.15
    assert after.target.shape == ids.shape


def test_brightness_is_one_shift_in_the_units_of_each_channel():
    before = patch(8, 9)
    shift = changed(before, brightness=0.5).image - before.image
    amounts = shift.reshape(3, -1) / np.array(STD)[:, None]
    assert np.ptp(amounts) < 1e-4
    assert 0 < abs(amounts.mean()) <= 0.5


def test_contrast_is_one_factor_around_the_mean_of_each_channel():
    before = patch(8, 9)
    after = changed(before, contrast=0.4).image
    column = np.array(MEAN)[:, None, None]
    factor = (after - column).sum() / (before.image - column).sum()
    np.testing.assert_allclose(after, column + factor * (before.image - column), atol=1e-2)
    assert 0.6 <= factor <= 1 / 0.6


def test_integers_are_not_clipped():
    before = Patch(np.full((3, 4, 4), 250, np.uint8), np.zeros((4, 4), np.int64))
    augment = Augment(only(brightness=3), NORMALISATION)
    images = [augmented(augment, before, seed).image for seed in range(20)]
    assert max(image.max() for image in images) > 256
    assert all(np.ptp(image[0]) == 0 for image in images)


def test_a_voxel_of_which_nothing_is_known_stays_one_voxel_wide():
    target = np.zeros((30, 30), np.int64)
    target[10:20, 10:20] = IGNORE
    after = changed(Patch(np.zeros((3, 30, 30), np.uint8), target), rotation=10.0)
    assert set(np.unique(after.target)) == {IGNORE, 0}
    assert (after.target[12:18, 12:18] == IGNORE).all()


def turned(spatial: tuple[int, ...], **options: bool) -> set[bytes]:
    """Everything that flips and turns make of a patch whose voxels all differ."""
    voxels = np.arange(np.prod(spatial)).reshape(spatial)
    before = Patch(np.stack([voxels] * 3).astype(np.uint16), voxels, voxels.astype(np.float32))
    augment, found = Augment(only(**options), NORMALISATION), set()
    for seed in range(200):
        after = augmented(augment, before, seed)
        assert after.image.dtype == np.uint16
        assert all(np.array_equal(part, after.target) for part in (*after.image, after.weights))
        found.add(after.target.tobytes())
    return found


def test_turns_are_quarter_turns_and_flips_are_of_every_axis():
    square = np.arange(25).reshape(5, 5)
    quarters = {np.rot90(square, k).tobytes() for k in range(4)}
    flipped = {square[:: 1 - 2 * y, :: 1 - 2 * x].tobytes() for y in (0, 1) for x in (0, 1)}
    assert turned((5, 5), turns=True) == quarters
    assert turned((5, 5), flips=True) == flipped
    assert turned((5, 5), flips=True, turns=True) == quarters | {np.rot90(square.T, k).tobytes() for k in range(4)}


def test_patches_that_are_not_square_are_flipped_alone():
    flat = np.arange(12).reshape(3, 4)
    assert turned((3, 4), turns=True) == {flat.tobytes()}
    assert len(turned((3, 4), flips=True, turns=True)) == 4


def test_stacks_are_flipped_along_z_too_and_turned_in_the_plane():
    assert len(turned((2, 3, 3), flips=True)) == 8
    assert len(turned((2, 3, 3), turns=True)) == 4
    assert len(turned((2, 3, 3), flips=True, turns=True)) == 16


def test_every_turn_is_as_likely_as_any_other():
    settings_ = Augmentation()
    drawn = [draw(settings_, np.random.default_rng(seed)).turn((4, 4)) for seed in range(1600)]
    every = list(Turn.every(2, exchange=True))
    counts = [drawn.count(turn) for turn in every]
    assert sum(counts) == 1600
    assert min(counts) > 140
    assert max(counts) < 260


def test_what_an_option_draws_does_not_depend_on_the_others():
    everything = Augmentation(**OPTIONS)
    for seed in range(20):
        together = draw(everything, np.random.default_rng(seed))
        for option, value in OPTIONS.items():
            alone = draw(only(**{option: value}), np.random.default_rng(seed))
            assert getattr(alone, option) == getattr(together, option)
            others = {name for name in OPTIONS if name != option}
            assert all(getattr(alone, other) == getattr(Amounts(), other) for other in others)


def test_amounts_stay_within_their_settings_and_reach_nearly_to_their_ends():
    drawn = [draw(Augmentation(**OPTIONS), np.random.default_rng(seed)) for seed in range(2000)]
    ends = {
        "scale": (0.7, 1 / 0.7),
        "rotation": (-np.radians(40), np.radians(40)),
        "brightness": (-0.5, 0.5),
        "contrast": (0.6, 1 / 0.6),
        "gamma": (0.6, 1 / 0.6),
        "noise": (0, 0.2),
        "blur": (0, 1.5),
    }
    for name, (low, high) in ends.items():
        values = [getattr(amounts, name) for amounts in drawn]
        assert low <= min(values) < low + 0.03 * (high - low), name
        assert high >= max(values) > high - 0.03 * (high - low), name
    stains = np.array([amounts.stain for amounts in drawn if amounts.stain is not None])
    assert stains.min(0) == pytest.approx([0.6] * 3, abs=0.02)
    assert stains.max(0) == pytest.approx([1.4] * 3, abs=0.02)
    larger = np.mean([amounts.scale > 1 for amounts in drawn if amounts.scale != 1])
    assert larger == pytest.approx(0.5, abs=0.06)


def test_stains_of_images_that_have_no_three_channels_are_refused():
    grey = Normalisation(mean=(1.0,), std=(1.0,))
    with pytest.raises(InputError, match=r"augment\.stain: 0\.2 is for RGB images of H&E, these have 1 channels"):
        Augment(Augmentation(stain=0.2), grey)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 14), min_size=2, max_size=3),
    st.integers(1, 4),
    st.sampled_from(["u1", "u2", "i2", "f4", "f8"]),
    st.sets(st.sampled_from(list(OPTIONS))),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_any_patch_keeps_its_shape_and_its_ids(spatial, channels, dtype, chosen, weights, seed):
    before = patch(*spatial, channels=channels, dtype=dtype, weights=weights)
    options = {name: OPTIONS[name] for name in chosen if name != "stain" or channels == 3}
    normalisation = Normalisation(mean=(100.0,) * channels, std=(20.0,) * channels)
    after = augmented(Augment(only(**options), normalisation), before, seed)
    assert after.image.shape == before.image.shape
    assert after.target.shape == before.target.shape
    assert after.target.dtype == np.int64
    assert set(np.unique(after.target)) <= {IGNORE, *np.unique(before.target)}
    assert after is before or after.image.dtype == np.float32
    assert np.isfinite(after.image).all()
    assert (after.weights is not None) == weights
    assert not weights or (after.weights >= 0).all()
