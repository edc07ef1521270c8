import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.training.targets import IGNORE, ClassIds, TargetRule, Weighing, edges
from pipeline.training.weights import border_context, border_weights

INSTANCES = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 2, 2, 2],
        [0, 1, 1, 1, 2, 2, 2],
        [0, 1, 1, 1, 2, 2, 2],
        [0, 0, 0, 0, 0, 0, 0],
    ]
)


def picture(*rows):
    return np.array([[int(c) for c in row] for row in rows])


def known_everywhere(array):
    return np.ones(array.shape, bool)


@pytest.mark.parametrize(
    ("instances", "classes", "expected"),
    [
        ("foreground", 2, ("0000000", "0111111", "0111111", "0111111", "0000000")),
        ("boundary", 2, ("0000000", "0111111", "0101100", "0111111", "0000000")),
        ("three_class", 3, ("0000000", "0222222", "0212211", "0222222", "0000000")),
    ],
)
def test_instances_become_classes(instances, classes, expected):
    rule = TargetRule(ClassIds(classes), instances)
    found, weights = rule.derive(INSTANCES.astype("u8"), known_everywhere(INSTANCES), "here")
    np.testing.assert_array_equal(found, picture(*expected))
    assert found.dtype == np.int64
    assert weights is None


def test_what_is_not_labelled_is_no_edge_and_has_no_class():
    known = known_everywhere(INSTANCES)
    known[:, 4:] = False
    found, _ = TargetRule(ClassIds(3), "three_class").derive(INSTANCES, known, "here")
    np.testing.assert_array_equal(found[2], [0, 2, 1, 1, IGNORE, IGNORE, IGNORE])
    ignored = np.where(known, INSTANCES, 99)
    again, _ = TargetRule(ClassIds(3, ignore=99), "three_class").derive(
        ignored, known_everywhere(INSTANCES), "here"
    )
    np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("distance", [1, 2, 3])
def test_edges_are_those_found_voxel_by_voxel(ndim, distance):
    random = np.random.default_rng(distance)
    shape = (11, 12) if ndim == 2 else (5, 6, 7)
    instances, known = random.integers(0, 3, shape), random.random(shape) < 0.8
    instances = np.repeat(instances, 2, axis=0)[: shape[0]]
    places = np.argwhere(known)
    expected = np.zeros(shape, bool)
    for place in places[instances[known] > 0]:
        near = places[((places - place) ** 2).sum(axis=1) <= distance**2]
        expected[tuple(place)] = (instances[tuple(near.T)] != instances[tuple(place)]).any()
    np.testing.assert_array_equal(edges(instances, known, distance), expected)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["foreground", "boundary", "three_class"]),
    st.integers(1, 3),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
    st.integers(0, 5),
)
def test_a_part_with_its_context_has_the_values_of_the_whole(instances, boundary, start, seed):
    random = np.random.default_rng(seed)
    whole = np.kron(random.integers(0, 5, (8, 8)), np.ones((6, 6), int))
    known = np.kron(random.random((8, 8)) < 0.9, np.ones((6, 6), bool))
    settings = {"w0": 2.0, "sigma": 1.0}
    weighing = Weighing(lambda ids: border_weights(ids, **settings), border_context(**settings))
    rule = TargetRule(ClassIds(3), instances, boundary, weighing)
    context = rule.context
    assert context == max(weighing.reach, 0 if instances == "foreground" else boundary)
    core = tuple(
        slice(context + s % (48 - 2 * context - 4), context + s % (48 - 2 * context - 4) + 4) for s in start
    )
    seen = tuple(slice(c.start - context, c.stop + context) for c in core)
    inside = (slice(context, context + 4),) * 2
    for part, full in zip(
        rule.derive(whole[seen], known[seen], "here"), rule.derive(whole, known, "here"), strict=True
    ):
        np.testing.assert_array_equal(part[inside], full[core])


def test_border_weights_get_the_instances_and_what_is_not_known():
    seen = []

    def weigh(ids):
        seen.append(ids)
        return np.ones(ids.shape, np.float32)

    known = known_everywhere(INSTANCES)
    known[0] = False
    rule = TargetRule(ClassIds(2), "foreground", weighing=Weighing(weigh, 3))
    _, weights = rule.derive(INSTANCES.astype("u4"), known, "here")
    np.testing.assert_array_equal(seen[0], np.where(known, INSTANCES, IGNORE))
    assert weights.sum() == INSTANCES.size


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u8"])
def test_stored_class_ids_stay_and_the_ignored_value_is_mapped(dtype):
    stored = np.array([[0, 1], [1, 0]]).astype(dtype)
    found, _ = TargetRule(ClassIds(2)).derive(stored, np.array([[True, True], [False, True]]), "here")
    np.testing.assert_array_equal(found, [[0, 1], [IGNORE, 0]])
    ignoring, _ = TargetRule(ClassIds(2, ignore=1)).derive(stored, np.ones((2, 2), bool), "here")
    np.testing.assert_array_equal(ignoring, [[0, IGNORE], [IGNORE, 0]])


def test_what_is_not_labelled_may_hold_any_value():
    stored = np.array([[7, 1]])
    found, _ = TargetRule(ClassIds(2)).derive(stored, np.array([[False, True]]), "here")
    np.testing.assert_array_equal(found, [[IGNORE, 1]])
    with pytest.raises(InputError, match="here: the target holds the value 7"):
        TargetRule(ClassIds(2)).derive(stored, np.array([[True, True]]), "here")


def test_an_instance_id_below_zero_is_refused():
    stored = np.array([[-3, 1]])
    rule = TargetRule(ClassIds(2), "foreground")
    with pytest.raises(
        InputError, match=r"here: the target holds the value -3, which is no instance id.*`ignore`"
    ):
        rule.derive(stored, np.ones((1, 2), bool), "here")
    found, _ = TargetRule(ClassIds(2, ignore=-3), "foreground").derive(stored, np.ones((1, 2), bool), "here")
    np.testing.assert_array_equal(found, [[IGNORE, 1]])
