import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import save

from pipeline.config.training import Pair
from pipeline.errors import InputError, OvertileError
from pipeline.geometry import Box
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.census import take_census, with_area
from pipeline.training.pairs import hold, open_pairs
from pipeline.training.patches import PatchLayout, PatchStream
from pipeline.training.sampling import Cells, Places
from pipeline.training.targets import IGNORE, ClassIds, TargetRule

SAME = UNetArchitecture(classes=3, depth=2, width=4, padding="same")
RULE = TargetRule(ClassIds(3))
PATCH = (8, 8)


def image_of(*shape):
    return np.random.default_rng(7).integers(0, 99, shape).astype("u1")


@pytest.mark.parametrize("counts", [[3, 0, 1], [1], [0, 0, 5, 2]])
def test_each_voxel_of_the_cells_is_as_likely(counts):
    cells, random = Cells.of(np.array(counts)), np.random.default_rng(0)
    drawn = Counter(cells.draw(random) for _ in range(3000))
    assert cells.total == sum(counts)
    assert set(drawn) == {(cell, i) for cell, count in enumerate(counts) for i in range(count)}
    for count in drawn.values():
        assert count == pytest.approx(3000 / sum(counts), rel=0.15)


class Anchors(Places):
    """Hands out the voxels that patches are laid around."""

    def _lay(self, number, voxel, random):
        return voxel


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_known_voxels_are_drawn_evenly_or_by_class_and_no_other(make_pair, balance):
    target = np.zeros((24, 30), "u1")
    target[3:8, 4:9], target[20, 28] = 1, 2
    pair = make_pair(image_of(24, 30), target, "yx", boxes=("2:10,3:12", "18:24,25:30"))
    counted = take_census(hold(open_pairs([pair]), 2**20), RULE, PATCH)
    places, random = Anchors(counted, RULE, PATCH, balance), np.random.default_rng(0)
    known = counted[0].pair.known.bits(Box.of_shape(target.shape))
    drawn = np.zeros(target.shape, int)
    for _ in range(3000):
        number, voxel = places.draw(random)
        assert number == 0
        drawn[voxel] += 1
    assert drawn[~known].sum() == 0
    for wanted, count in enumerate(counted[0].census.classes):
        expected = 1000 if balance else 3000 * count / known.sum()
        assert drawn[known & (target == wanted)].sum() == pytest.approx(expected, rel=0.12, abs=20)
    assert (drawn[known] > 0).mean() > 0.9


def test_a_balance_between_looks_for_a_class_in_as_many_draws(make_pair):
    target = np.zeros((24, 30), "u1")
    target[0, 0] = 2
    counted = take_census(hold(open_pairs([make_pair(image_of(24, 30), target, "yx")]), 2**20), RULE, PATCH)
    places, random = Anchors(counted, RULE, PATCH, 0.5), np.random.default_rng(0)
    rare = sum(places.draw(random)[1] == (0, 0) for _ in range(2000))
    assert rare == pytest.approx(500, rel=0.12)  # half of the half: one of two classes that there are


def test_a_class_is_looked_for_in_the_pairs_that_have_it_by_weight(make_pair):
    targets = [np.zeros((16, 16), "u1") for _ in range(3)]
    targets[1][2, 2] = targets[2][3, 3] = 1
    pairs = [make_pair(image_of(16, 16), t, "yx", weight=w) for t, w in zip(targets, (5, 1, 3), strict=True)]
    places, random = (
        Anchors(take_census(hold(open_pairs(pairs), 2**20), RULE, PATCH), RULE, PATCH, 1.0),
        np.random.default_rng(0),
    )
    drawn = Counter(places.draw(random)[0] for _ in range(3000))
    assert drawn[0] == pytest.approx(1500 * 5 / 9, rel=0.12)
    assert drawn[2] == pytest.approx(1500 * 3 / 9 + 1500 * 3 / 4, rel=0.12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.sampled_from([0.0, 0.5, 1.0]), st.booleans())
def test_a_patch_is_a_function_of_seed_and_index_whatever_is_held(tmp_path_factory, seed, balance, instances):
    random = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("pure")
    np.save(folder / "i.npy", random.integers(0, 99, (40, 50)).astype("u1"))
    np.save(folder / "t.npy", np.kron(random.integers(0, 3, (8, 10)), np.ones((5, 5), int)).astype("u1"))
    rule = TargetRule(ClassIds(3), "three_class") if instances else RULE
    opened = open_pairs([Pair(image=str(folder / "i.npy"), target=str(folder / "t.npy"), boxes=("3:35,1:44",))])
    layout = PatchLayout.plain(SAME, PATCH)
    streams = [
        PatchStream(pairs, layout, rule, seed=(seed,), balance=balance) for pairs in (opened, hold(opened, 2**20))
    ]
    for index in (5, 0, 3):
        one, other = (stream[index] for stream in streams)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.target, other.target)
        assert (one.target != IGNORE).any()


def test_patches_shared_through_a_cache_are_those_that_are_read(make_pair):
    image = image_of(60, 70)
    opened = open_pairs([make_pair(image, image % 3, "yx")])
    layout = PatchLayout.plain(UNetArchitecture(classes=3, depth=2, width=4), PATCH)
    plain, cached = (PatchStream(pairs, layout, RULE, seed=(1,)) for pairs in (opened, hold(opened, 4000)))
    assert hold(opened, 4000)[0].image.pieces is not None
    for index in range(20):
        np.testing.assert_array_equal(plain[index].image, cached[index].image)
        np.testing.assert_array_equal(plain[index].target, cached[index].target)


def test_nothing_is_known_of_what_must_not_be_used_and_patches_keep_away_from_it(make_pair):
    image = image_of(64, 64)
    counted = take_census(hold(open_pairs([make_pair(image, image % 3, "yx")]), 2**20), RULE, PATCH)[0]
    taken = Box((20, 0), (44, 64))
    pair = with_area(counted.pair, without=[taken])
    stream = PatchStream([pair], PatchLayout.plain(SAME, PATCH), RULE, seed=(0,))
    lost = 0
    for index in range(300):
        draw, found = stream.draw(index), stream[index]
        box = Box.of_shape(PATCH).shift(draw.start)
        inside = np.zeros(PATCH, bool)
        common = box.intersect(taken)
        if not common.is_empty:
            inside[common.relative_to(box.start).slices] = True
        np.testing.assert_array_equal(found.target == IGNORE, inside)
        lost += inside.sum()
    # Laid anywhere around the voxels beside it, patches would lose about a tenth of their voxels.
    assert 0 < lost / (300 * 64) < 0.05


@pytest.mark.parametrize("balance", [0.0, 1.0], ids=["any voxel", "a class"])
@pytest.mark.parametrize("now", ["nothing", "less", "more"])
def test_a_target_that_changes_under_the_training_is_named(make_pair, balance, now):
    target = np.random.default_rng(0).integers(0, 3, (32, 32)).astype("u1")
    rule = TargetRule(ClassIds(3, ignore=9))
    target[::3] = 9
    pair = make_pair(image_of(32, 32), target, "yx")
    opened = open_pairs([pair])
    stream = PatchStream(opened, PatchLayout.plain(SAME, PATCH), rule, seed=(0,), balance=balance)
    assert stream.draw(0) == stream.draw(0)
    other = {"nothing": np.full_like(target, 9), "less": target.copy(), "more": np.where(target == 9, 1, target)}[
        now
    ]
    if now == "less":
        other[::2] = 9
    array = zarr.open_array(pair.target, mode="r+")
    array[:] = other
    with pytest.raises(
        InputError, match=r"pairs\.0 .*the target changed since the training began: of voxels .*restart"
    ):
        [stream.draw(index) for index in range(60)]


@pytest.mark.parametrize("part", ["image", "target"])
@pytest.mark.parametrize("change", ["smaller", "other chunks", "other dtype", "gone"])
def test_whatever_becomes_of_the_files_of_a_training_is_told_in_a_sentence(make_pair, part, change):
    image = image_of(64, 64)
    target = image % 3
    target[::5] = 9
    pair = make_pair(image, target, "yx")
    stream = PatchStream(
        open_pairs([pair]), PatchLayout.plain(SAME, (32, 32)), TargetRule(ClassIds(3, ignore=9)), seed=(0,)
    )
    place, voxels = Path(getattr(pair, part)), {"image": image, "target": target}[part]
    shutil.rmtree(place)
    if change == "smaller":
        save(place, voxels[:20, :20], "yx", chunks=16)
    elif change == "other chunks":
        save(place, voxels, "yx", chunks=24)
    elif change == "other dtype":
        save(place, voxels.astype("f8" if part == "image" else "u4"), "yx", chunks=16)
    with pytest.raises(OvertileError, match=place.name):
        [stream[index] for index in range(30)]
