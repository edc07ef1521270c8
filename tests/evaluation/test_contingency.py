import json

import numpy as np
import pytest
from cuts import boxes, five_chunkings, sides_of
from hypothesis import given
from hypothesis import strategies as st
from labels import cells, label_pairs, spoilt
from skimage.metrics import contingency_table

from pipeline.errors import ChunkError, InputError
from pipeline.evaluation.contingency import ContingencyTable


def rows(table):
    return list(zip(table.target.tolist(), table.prediction.tolist(), table.voxels.tolist(), strict=True))


@pytest.mark.parametrize(
    ("prediction", "target", "ignore", "expected", "ignored"),
    [
        ([1, 1, 2, 0], [1, 1, 1, 0], None, [(0, 0, 1), (1, 1, 2), (1, 2, 1)], 0),
        ([1, 2, 1, 2], [3, 3, 3, 3], None, [(3, 1, 2), (3, 2, 2)], 0),  # a pair that runs twice is one
        ([9, 1, 7], [255, 1, 255], 255, [(1, 1, 1)], 2),  # what the prediction says there is left out
        ([1, 1], [0, 4], 0, [(4, 1, 1)], 1),
        ([1, 1], [-1, 4], -1, [(4, 1, 1)], 1),
        ([5], [7], 7, [], 1),
        ([], [], None, [], 0),
        ([[1, 0], [1, 0]], [[2, 2], [0, 0]], None, [(0, 0, 1), (0, 1, 1), (2, 0, 1), (2, 1, 1)], 0),
        ([True, False], [1, 1], None, [(1, 0, 1), (1, 1, 1)], 0),
    ],
)
def test_tables_by_hand(prediction, target, ignore, expected, ignored):
    prediction = np.array(prediction, None if prediction else int)
    table = ContingencyTable.of(prediction, np.array(target, int), ignore=ignore)
    assert rows(table) == expected
    assert table.ignored == ignored


def test_ids_keep_all_their_bits():
    big = 2**64 - 1
    table = ContingencyTable.of(np.array([big, 1], np.uint64), np.array([big - 1, big], np.uint64))
    assert rows(table) == [(big - 1, big, 1), (big, 1, 1)]
    assert ContingencyTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


@given(label_pairs(), st.none() | st.integers(0, 6), st.data())
def test_tables_of_chunks_add_up_to_that_of_the_whole(pair, ignore, data):
    prediction, target = pair
    parts = [
        ContingencyTable.of(prediction[box.slices], target[box.slices], ignore=ignore)
        for box in boxes(target.shape, data.draw(sides_of(target.shape)))
    ]
    whole = ContingencyTable.of(prediction, target, ignore=ignore)
    assert sum(parts, ContingencyTable.zero()) == whole
    assert ContingencyTable.total(parts) == whole
    assert hash(ContingencyTable.total(reversed(parts))) == hash(whole)
    assert whole.voxels.sum() + whole.ignored == target.size
    assert ContingencyTable.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole


@given(label_pairs(), st.none() | st.integers(0, 6))
def test_it_is_the_table_of_scikit_image(pair, ignore):
    prediction, target = (array.astype(np.int64) for array in pair)
    ours = ContingencyTable.of(prediction, target, ignore=ignore)
    ids = range(int(max(prediction.max(), target.max())) + 1)
    dense = np.zeros((len(ids), len(ids)))
    dense[ours.target.astype(int), ours.prediction.astype(int)] = ours.voxels
    theirs = contingency_table(target, prediction, ignore_labels=() if ignore is None else (ignore,)).toarray()
    assert np.array_equal(dense[: theirs.shape[0], : theirs.shape[1]], theirs)
    assert dense.sum() == theirs.sum()


@pytest.mark.parametrize("shape", [(60, 70), (12, 20, 24)])
def test_five_chunkings_of_cells(shape):
    target = cells(shape, count=12, seed=1, thick=1.0)
    prediction = spoilt(target, seed=2)
    whole = ContingencyTable.of(prediction, target, ignore=4)
    for sides in five_chunkings(shape):
        parts = (
            ContingencyTable.of(prediction[b.slices], target[b.slices], ignore=4) for b in boxes(shape, sides)
        )
        assert ContingencyTable.total(parts) == whole
    for side, array in (("target", target), ("prediction", prediction)):
        ids, sizes = np.unique(array[target != 4], return_counts=True)
        assert [a.tolist() for a in whole.sizes(side)] == [ids.tolist(), sizes.tolist()]


def test_values_cannot_be_changed():
    given_voxels = np.array([3])
    table = ContingencyTable(np.array([1]), np.array([1]), given_voxels)
    given_voxels[0] = 9
    assert table.voxels.tolist() == [3]
    with pytest.raises(ValueError, match="read-only"):
        table.voxels[0] = 1
    assert table != "a table"


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"shape \(2, 3\) and the target \(3, 2\)"),
        (np.zeros(2), np.zeros(2, int), "the prediction is of float64"),
        (np.zeros(2, int), np.zeros(2, "f4"), "the target is of float32"),
        (np.array([-3]), np.array([1]), "the prediction holds the id -3"),
        (np.array([1]), np.array([-1]), "the target holds the id -1"),
    ],
)
def test_bad_labels_are_refused(prediction, target, message):
    with pytest.raises(ChunkError, match=message):
        ContingencyTable.of(prediction, target)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "needs target, prediction, voxels"),
        ({"target": [1], "prediction": [1, 2], "voxels": [1], "ignored": 0}, "one value a pair"),
        ({"target": [1], "prediction": [1], "voxels": [-1], "ignored": 0}, "cannot be negative; the least is -1"),
        ({"target": [1], "prediction": [1], "voxels": [1], "ignored": -2}, "the least is -2"),
        ({"target": ["a"], "prediction": [1], "voxels": [1], "ignored": 0}, "lists of whole numbers"),
    ],
)
def test_other_content_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        ContingencyTable.from_dict(content)


def test_columns_of_fractions_are_refused():
    with pytest.raises(InputError, match="holds whole numbers"):
        ContingencyTable(np.array([1.5]), np.array([1]), np.array([1]))
