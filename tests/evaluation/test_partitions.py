import json
import math

import numpy as np
import pytest
from cuts import boxes, five_chunkings
from hypothesis import given
from hypothesis import strategies as st
from labels import cells, label_pairs, spoilt
from skimage.metrics import adapted_rand_error, variation_of_information
from sklearn import metrics as sk

from pipeline.errors import InputError
from pipeline.evaluation.contingency import ContingencyTable
from pipeline.evaluation.partitions import REASONS, PartitionSums, partition_metrics


def ours(prediction, target, **options):
    return partition_metrics(PartitionSums.of(ContingencyTable.of(prediction, target, **options)))


def by_hand(prediction, target):
    return ours(np.array(prediction), np.array(target))


def test_a_merger_by_hand():
    """T = {4, 2}, S = {6}: Σc² = Σt² = 20, Σs² = 36."""
    found = by_hand([1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 2, 2])
    assert found["v_rand_split"] == 1
    assert found["v_rand_merge"] == pytest.approx(20 / 36)
    assert found["v_rand"] == pytest.approx(40 / 56)
    assert found["rand_recall"] == 1
    assert found["rand_precision"] == pytest.approx(14 / 30)
    assert found["rand_index"] == pytest.approx(14 / 30)
    assert found["adjusted_rand"] == 0
    assert found["v_info_split"] is None
    assert found["v_info_merge"] == 0
    assert found["v_info"] == 0
    assert found["vi_split"] == 0
    assert found["vi_merge"] == pytest.approx(math.log2(6) - (4 * 2 + 2 * 1) / 6)
    assert found["undefined"] == {"v_info_split": REASONS["v_info_split"]}


def test_a_split_by_hand():
    """T = {4}, S = {2, 2}: Σc² = Σs² = 8, Σt² = 16."""
    found = by_hand([1, 1, 2, 2], [1, 1, 1, 1])
    assert found["v_rand_split"] == pytest.approx(0.5)
    assert found["v_rand_merge"] == 1
    assert found["v_rand"] == pytest.approx(2 / 3)
    assert found["v_info_merge"] is None
    assert found["v_info_split"] == 0
    assert (found["vi_split"], found["vi_merge"], found["vi"]) == (1, 0, 1)


def test_independent_partitions_share_nothing():
    found = by_hand([1, 2, 1, 2], [1, 1, 2, 2])
    assert found["v_info"] == 0
    assert (found["vi_split"], found["vi_merge"]) == (1, 1)
    assert found["adjusted_rand"] == pytest.approx(-0.5)


@given(label_pairs())
def test_equal_partitions_are_perfect(pair):
    target = pair[1]
    found = ours(target.astype(int) * 3 + 2, target)
    assert found["adjusted_rand"] in (1, None)
    assert (found["vi_split"], found["vi_merge"], found["v_rand"], found["rand_index"] or 1) == (0, 0, 1, 1)
    assert found["v_info"] in (1, None)
    assert (found["v_info"] is None) == (len(np.unique(target)) == 1)


def test_nothing_counted_is_undefined_with_reasons():
    nothing = ours(np.zeros(3, int), np.full(3, 9), ignore=9)
    assert nothing.pop("undefined") == REASONS
    assert nothing.pop("voxels") == 0
    assert set(nothing.values()) == {None}
    one = by_hand([1], [1])
    assert one["v_rand"] == 1
    assert one["adjusted_rand"] is None
    assert one["undefined"]["rand_index"] == "there are no two voxels"


@given(label_pairs(), st.none() | st.integers(0, 6))
def test_they_are_those_of_scikit_learn_and_scikit_image(pair, ignore):
    prediction, target = (array.astype(np.int64) for array in pair)
    found = ours(prediction, target, ignore=ignore)
    kept = np.ones(target.shape, bool) if ignore is None else target != ignore
    if kept.sum() < 2:
        return
    flat = target[kept], prediction[kept]
    (_, fp), (fn, tp) = sk.pair_confusion_matrix(*flat)
    close = pytest.approx
    assert found["adjusted_rand"] == close(sk.adjusted_rand_score(*flat), abs=1e-9)
    assert found["rand_index"] == close(sk.rand_score(*flat), abs=1e-9)
    assert found["rand_precision"] == (close(tp / (tp + fp), abs=1e-9) if tp + fp else None)
    assert found["rand_recall"] == (close(tp / (tp + fn), abs=1e-9) if tp + fn else None)
    split, merge = variation_of_information(*flat)
    assert found["vi_split"] == close(split, abs=1e-9)
    assert found["vi_merge"] == close(merge, abs=1e-9)
    if found["v_info"] is not None:
        assert found["v_info"] == close(sk.normalized_mutual_info_score(*flat), abs=1e-9)
    if found["v_info_merge"] is not None and found["v_info_split"] is not None:
        assert found["v_info_merge"] == close(sk.homogeneity_score(*flat), abs=1e-9)
        assert found["v_info_split"] == close(sk.completeness_score(*flat), abs=1e-9)
    if tp + fp and tp + fn:
        assert found["adapted_rand"] == close(1 - adapted_rand_error(*flat, ignore_labels=())[0], abs=1e-9)


@pytest.mark.parametrize("shape", [(60, 70), (12, 20, 24)])
def test_five_chunkings_with_an_ignored_region(shape):
    target = cells(shape, count=12, seed=1, thick=1.0)
    prediction = spoilt(target, seed=2)
    target[..., :5] = 200
    kept = target != 200
    fields = target[kept], prediction[kept]
    for sides in five_chunkings(shape):
        total = ContingencyTable.total(
            ContingencyTable.of(prediction[b.slices], target[b.slices], ignore=200) for b in boxes(shape, sides)
        )
        found = partition_metrics(PartitionSums.of(total))
        error, theirs_of_target, theirs_of_prediction = adapted_rand_error(*fields, ignore_labels=())
        assert found["adapted_rand"] == pytest.approx(1 - error, abs=1e-9)
        # scikit-image 0.26 calls the share of the target's pairs "precision".
        assert (found["rand_recall"], found["rand_precision"]) == pytest.approx(
            (theirs_of_target, theirs_of_prediction), abs=1e-9
        )
        assert (found["vi_split"], found["vi_merge"]) == pytest.approx(variation_of_information(*fields), abs=1e-9)
        assert found["adjusted_rand"] == pytest.approx(sk.adjusted_rand_score(*fields), abs=1e-9)


@given(label_pairs())
def test_foreground_is_the_target_s_and_background_of_the_prediction_falls_apart(pair):
    prediction, target = (array.astype(np.int64) for array in pair)
    inside = target != 0
    apart, alone = prediction[inside].copy(), prediction[inside] == 0
    apart[alone] = 100 + np.arange(alone.sum())
    expected = PartitionSums.of(ContingencyTable.of(apart, target[inside]))
    assert PartitionSums.of_foreground(ContingencyTable.of(prediction, target)) == expected


def test_sums_of_slices_are_those_of_slices_with_ids_of_their_own():
    target = cells((3, 24, 24), count=9, seed=4)
    prediction = spoilt(target, seed=5)
    slices = [PartitionSums.of(ContingencyTable.of(p, t)) for p, t in zip(prediction, target, strict=True)]
    apart = (1000 * np.arange(3))[:, None, None]
    together = PartitionSums.of(ContingencyTable.of(prediction + apart, target + apart))
    total = sum(slices, PartitionSums.zero())
    found, expected = partition_metrics(total), partition_metrics(together)
    assert found.pop("undefined") == expected.pop("undefined") == {}
    assert found == pytest.approx(expected, abs=1e-12)
    assert PartitionSums.from_dict(json.loads(json.dumps(total.to_dict()))) == total


def test_squares_of_large_volumes_do_not_overflow():
    table = ContingencyTable(np.array([0, 1]), np.array([0, 1]), np.array([2**50, 2**50]))
    sums = PartitionSums.of(table)
    assert sums.joint == 2 * 2**100
    assert partition_metrics(sums)["adjusted_rand"] == 1


@pytest.mark.parametrize("content", [{}, {name: "x" for name in PartitionSums.__slots__}])
def test_other_content_is_refused(content):
    with pytest.raises(InputError, match="need voxels, joint"):
        PartitionSums.from_dict(content)
