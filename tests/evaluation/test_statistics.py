import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import ChunkError, InputError
from pipeline.evaluation.statistics import ConfusionStatistics, confusion

INTEGERS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"]


@st.composite
def pairs(draw):
    """A prediction and a target of one random shape, with their number of classes."""
    n = draw(st.integers(1, 6))
    shape = draw(hnp.array_shapes(max_dims=4, max_side=7))
    return *(
        draw(hnp.arrays(draw(st.sampled_from(INTEGERS)), shape, elements=st.integers(0, n - 1))) for _ in "pt"
    ), n


def brute_force(prediction, target, classes, ignore=None):
    """The definition, pair by pair."""
    return np.array(
        [
            [((target == t) & (prediction == p) & (target != ignore)).sum() for p in range(classes)]
            for t in range(classes)
        ]
    )


@pytest.mark.parametrize(
    ("prediction", "target", "classes", "ignore", "table"),
    [
        ([0, 1, 1, 0], [0, 1, 0, 1], 2, None, [[1, 1], [1, 1]]),
        ([0, 1, 1, 1], [0, 1, 0, 0], 2, None, [[1, 2], [0, 1]]),
        ([2, 2, 2], [0, 1, 2], 3, None, [[0, 0, 1], [0, 0, 1], [0, 0, 1]]),
        ([0, 1, 1, 9], [0, 1, 0, 255], 2, 255, [[1, 1], [0, 1]]),  # what the prediction says there is left out
        ([0, 1, 1, 1], [0, 1, 0, 0], 2, 0, [[0, 0], [0, 1]]),
        ([0, 1], [-1, 1], 2, -1, [[0, 0], [0, 1]]),
        ([5, 6], [255, 255], 2, 255, [[0, 0], [0, 0]]),
        ([], [], 2, None, [[0, 0], [0, 0]]),
        ([0, 0, 0], [0, 0, 0], 1, None, [[3]]),
        ([[0, 1], [1, 1]], [[0, 0], [1, 1]], 2, None, [[1, 1], [0, 2]]),
    ],
)
def test_confusion_by_hand(prediction, target, classes, ignore, table):
    counts = confusion(np.array(prediction, int), np.array(target, int), classes=classes, ignore=ignore)
    assert counts.dtype == np.int64
    assert counts.tolist() == table


@given(pairs(), st.none() | st.integers(-2, 7))
def test_confusion_is_its_definition(case, ignore):
    prediction, target, classes = case
    counts = confusion(prediction, target, classes=classes, ignore=ignore)
    assert np.array_equal(counts, brute_force(prediction, target, classes, ignore))


@given(pairs(), st.none() | st.integers(0, 5), st.data())
def test_statistics_of_chunks_add_up_to_those_of_the_whole(case, ignore, data):
    prediction, target, classes = case
    total = ConfusionStatistics.zero(classes)
    sides = [data.draw(st.integers(1, n)) for n in target.shape]
    for corner in np.ndindex(*(-(-n // side) for n, side in zip(target.shape, sides, strict=True))):
        core = tuple(slice(i * side, (i + 1) * side) for i, side in zip(corner, sides, strict=True))
        total += ConfusionStatistics.of(prediction[core], target[core], classes=classes, ignore=ignore)
    assert total == ConfusionStatistics.of(prediction, target, classes=classes, ignore=ignore)
    assert total.ignored == (0 if ignore is None else (target == ignore).sum())
    assert total.counts.sum() + total.ignored == target.size


def test_large_arrays_are_counted_whole():
    rng = np.random.default_rng(0)
    prediction, target = rng.integers(0, 3, (2, 700, 301)).astype(np.uint8)
    assert np.array_equal(confusion(prediction, target, classes=3), brute_force(prediction, target, 3))
    assert np.array_equal(
        confusion(prediction.T, target.T, classes=3, ignore=2), brute_force(prediction, target, 3, ignore=2)
    )


def test_booleans_are_two_classes():
    counts = confusion(np.array([True, False]), np.array([True, True]), classes=2, ignore=255)
    assert counts.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("which", ["prediction", "target"])
def test_a_value_outside_the_classes_is_named(dtype, which):
    arrays = {"prediction": np.zeros((2, 3), dtype), "target": np.zeros((2, 3), dtype)}
    arrays[which][1, 1] = 100
    with pytest.raises(ChunkError, match=f"{which} holds the value 100, but there are 4 classes"):
        confusion(**arrays, classes=4)


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (np.array([-3, 0]), np.array([0, 0]), "prediction holds the value -3"),
        (np.array([2**64 - 1], "u8"), np.array([0]), "18446744073709551615"),
        (np.array([0]), np.array([255], "u1"), "target holds the value 255"),
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"\(2, 3\) and the target \(3, 2\)"),
        (np.zeros(2), np.zeros(2, int), "prediction is of float64"),
        (np.zeros(2, int), np.zeros(2, "f4"), "target is of float32"),
    ],
)
def test_arrays_that_cannot_be_compared_are_refused(prediction, target, message):
    with pytest.raises(ChunkError, match=message):
        confusion(prediction, target, classes=2)


@pytest.mark.parametrize("classes", [0, -1])
def test_at_least_one_class(classes):
    with pytest.raises(InputError, match=f"classes is {classes}"):
        confusion(np.zeros(1, int), np.zeros(1, int), classes=classes)
    with pytest.raises(InputError, match=f"classes is {classes}"):
        ConfusionStatistics.zero(classes)


@given(pairs(), st.integers(0, 9))
def test_statistics_survive_json(case, ignored):
    prediction, target, classes = case
    statistics = ConfusionStatistics(confusion(prediction, target, classes=classes), ignored)
    again = ConfusionStatistics.from_dict(json.loads(json.dumps(statistics.to_dict())))
    assert again == statistics
    assert hash(again) == hash(statistics)
    assert again.counts.dtype == np.int64


def test_zero_is_neutral_and_values_compare():
    one = ConfusionStatistics(np.array([[3, 1], [0, 2]]), ignored=4)
    assert one + ConfusionStatistics.zero(2) == one
    assert one + one == ConfusionStatistics(np.array([[6, 2], [0, 4]]), ignored=8)
    assert one != ConfusionStatistics(np.array([[3, 1], [0, 2]]))
    assert one != "statistics"
    assert one.classes == 2


def test_statistics_cannot_be_changed():
    counts = np.array([[3, 1], [0, 2]])
    one = ConfusionStatistics(counts)
    counts[0, 0] = 9
    assert one.counts[0, 0] == 3
    with pytest.raises(ValueError, match="read-only"):
        one.counts[0, 0] = 9


def test_statistics_of_different_classes_do_not_add():
    with pytest.raises(InputError, match="of 2 and of 3 classes"):
        ConfusionStatistics.zero(2) + ConfusionStatistics.zero(3)


@pytest.mark.parametrize(
    ("counts", "ignored", "message"),
    [
        ([[1, 2]], 0, r"shape \(1, 2\)"),
        ([1, 2], 0, r"shape \(2,\)"),
        (np.zeros((0, 0), int), 0, r"shape \(0, 0\)"),
        ([[0.5]], 0, "float64"),
        ([[-1]], 0, "-1"),
        ([[1]], -2, "-2"),
    ],
)
def test_what_is_no_table_is_refused(counts, ignored, message):
    with pytest.raises(InputError, match=message):
        ConfusionStatistics(np.array(counts), ignored)


@pytest.mark.parametrize(
    "content", [{}, {"counts": [[1]]}, {"counts": [[1], [2, 3]], "ignored": 0}, {"counts": [[1]], "ignored": None}]
)
def test_what_is_no_statistics_is_refused(content):
    with pytest.raises(InputError, match="statistics need 'counts'"):
        ConfusionStatistics.from_dict(content)
