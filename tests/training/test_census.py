from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import save

from pipeline.errors import InputError
from pipeline.geometry import Box
from pipeline.training import census as training_census
from pipeline.training.areas import Area
from pipeline.training.census import cell_grid, check_census, recount, take_census, with_area
from pipeline.training.pairs import OpenPair, Source, hold, open_pairs
from pipeline.training.sampling import Places
from pipeline.training.targets import IGNORE, ClassIds, TargetRule, Weighing
from pipeline.training.truth import read_truth
from pipeline.volume import open_volume

RULE = TargetRule(ClassIds(3))


def cut(array, box):
    return np.bincount(array[box.slices].ravel() + 1, minlength=4)[1:]


@pytest.fixture
def target():
    return np.kron(np.random.default_rng(3).integers(0, 3, (9, 11)), np.ones((5, 5), int)).astype("u1")


def whole_truth(pair, rule=RULE, dims=2):
    return read_truth(pair, pair.known.box, rule, dims)[0]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("longest", [2048, 16])
def test_every_cell_has_its_voxels_of_each_class(make_pair, target, monkeypatch, longest, threads):
    monkeypatch.setitem(training_census.CELL, 2, longest)
    pair = make_pair(target, target, "yx", boxes=("3:40,2:31", "20:45,25:55"))
    found = take_census(open_pairs([pair]), RULE, (16, 16), threads=threads)[0]
    truth = whole_truth(found.pair)
    assert (truth == IGNORE).sum() == target.size - found.census.labelled
    assert found.census.grid.chunk == (8, 8)
    for number, core in enumerate(found.census.grid.cores()):
        np.testing.assert_array_equal(found.census.counts[:, number], cut(truth, core))
    np.testing.assert_array_equal(found.census.inside(Box((8, 16), (32, 55))), cut(truth, Box((8, 16), (32, 55))))


def test_slices_of_a_stack_are_cells_of_their_own_for_a_flat_network(make_pair):
    stack = np.random.default_rng(0).integers(0, 9, (5, 20, 30)).astype("u2")
    pair = make_pair(stack, stack, "zyx", "zyx")
    rule = TargetRule(ClassIds(3), "three_class")
    found = take_census(open_pairs([pair]), rule, (16, 16))[0]
    assert found.census.grid.chunk == (1, 8, 8)
    slices = [
        rule.derive(plane, np.ones(plane.shape, bool), "here")[0]
        for plane in np.pad(stack, ((0, 0), (1, 1), (1, 1)), "reflect")
    ]
    expected = np.stack(slices)[:, 1:-1, 1:-1]
    np.testing.assert_array_equal(whole_truth(found.pair, rule), expected)
    np.testing.assert_array_equal(found.census.classes, np.bincount(expected.ravel()))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-5, 50)] * 4), max_size=3),
    st.none() | st.lists(st.tuples(*[st.integers(0, 45)] * 4), max_size=1),
)
def test_a_smaller_area_is_counted_again_where_it_cuts(tmp_path_factory, without, kept):
    folder = tmp_path_factory.mktemp("census")
    target = np.random.default_rng(1).integers(0, 3, (45, 55)).astype("u1")
    save(folder / "t", target, "yx", chunks=16)
    source = Source(open_volume(folder / "t"))
    counted = take_census([OpenPair("one", source, source, 1)], RULE, (16, 16))[0]
    boxes = [Box((min(a, b), min(c, d)), (max(a, b), max(c, d))) for a, b, c, d in without]
    only = None if kept is None else [Box((min(a, b), min(c, d)), (max(a, b), max(c, d))) for a, b, c, d in kept]
    smaller = with_area(counted.pair, kept=only, without=boxes)
    found = recount(counted, smaller, RULE, 2).census
    truth = whole_truth(smaller)
    for number, core in enumerate(found.grid.cores()):
        np.testing.assert_array_equal(found.counts[:, number], cut(truth, core))


def test_the_number_of_cells_is_bounded(monkeypatch):
    assert cell_grid((100_000, 100_000), (256, 256)).chunk == (128, 128)
    assert cell_grid((30, 4000, 4000), (256, 256)).chunk == (1, 64, 64)
    assert cell_grid((300, 4000, 4000), (32, 128, 128)).chunk == (16, 32, 32)
    assert cell_grid((5, 6), (256, 256)).chunk == (5, 6)


def test_what_is_held_or_cached_changes_nothing(make_pair, target):
    opened = open_pairs([make_pair(target, target, "yx")])
    for pairs in (opened, hold(opened, 2**20), hold(opened, 3000)):
        found = take_census(pairs, RULE, (16, 16))[0]
        np.testing.assert_array_equal(found.census.classes, np.bincount(target.ravel()))


def test_a_class_id_out_of_range_is_refused_wherever_it_is(make_pair, target):
    target[44, 54] = 7
    with pytest.raises(InputError, match=r"pairs\.0.*holds the value 7, but there are 3 classes"):
        take_census(open_pairs([make_pair(target, target, "yx")]), RULE, (16, 16))
    inside = open_pairs([make_pair(target, target, "yx", boxes=("0:40,0:50",))])
    assert take_census(inside, RULE, (16, 16))[0].census.labelled == 2000


NAMES = ("ground", "gland", "nucleus")


def counted_of(make_pair, *targets, ignore=None):
    pairs = open_pairs([make_pair(target, target, "yx") for target in targets])
    return take_census(pairs, TargetRule(ClassIds(3, ignore)), (8, 8))


def test_targets_without_a_labelled_voxel_are_refused_by_name(make_pair):
    counted = counted_of(
        make_pair, np.arange(256).reshape(16, 16).astype("u1") % 3, np.full((16, 16), 9, "u1"), ignore=9
    )
    with pytest.raises(InputError, match=r"pairs\.1.*no voxel of the target is labelled"):
        check_census(counted, NAMES, list().append)


def test_nothing_but_one_class_is_refused(make_pair):
    counted = counted_of(make_pair, np.zeros((16, 16), "u1"), np.zeros((8, 8), "u1"))
    with pytest.raises(InputError, match=r"nothing but 'ground' in all 320 labelled voxels.*gland, nucleus"):
        check_census(counted, NAMES, list().append)


def test_a_class_that_is_nowhere_is_told(make_pair):
    notes = []
    target = np.zeros((16, 16), "u1")
    target[3] = 2
    check_census(counted_of(make_pair, target), NAMES, notes.append)
    assert notes == ["class 'gland' is nowhere in the targets: the network cannot learn it"]


def test_a_whole_area_is_all_of_a_volume():
    assert Area.whole((3, 4)).bits(Box((-1, 0), (3, 5))).sum() == 12


def test_counting_and_drawing_places_make_no_weights(make_pair):
    instances = np.zeros((40, 40), "u2")
    instances[5:12, 5:20], instances[14:30, 3:33] = 1, 2

    def weigh(ids):
        raise AssertionError("weights are made for patches alone")

    plain = TargetRule(ClassIds(2), "foreground")
    weighed = replace(plain, weighing=Weighing(weigh, 9))
    opened = open_pairs([make_pair(instances, instances, "yx")])
    one, other = (take_census(opened, rule, (8, 8)) for rule in (plain, weighed))
    np.testing.assert_array_equal(one[0].census.counts, other[0].census.counts)
    smaller = with_area(opened[0], kept=[Box((3, 3), (31, 35))])
    recounted = [recount(one[0], smaller, rule, 2).census.counts for rule in (plain, weighed)]
    np.testing.assert_array_equal(*recounted)
    places = [Places(one, rule, (8, 8), 1.0) for rule in (plain, weighed)]
    for seed in range(30):
        first, second = (each.draw(np.random.default_rng(seed)) for each in places)
        assert first == second
