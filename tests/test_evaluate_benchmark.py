"""The benchmark of evaluation, tiny: its volumes, their truth in closed form, and the kill."""

import numpy as np
import pytest

from benchmarks import evaluate
from pipeline.geometry import Box
from pipeline.volume import open_volume


def test_the_truth_is_that_of_the_voxels():
    truth = evaluate.Truth(4)
    whole = Box((0, 0), (1024, 1024))
    target = evaluate.pattern(whole, 1024, (0, 0), objects=True)
    prediction = evaluate.pattern(whole, 1024, evaluate.MOVED, objects=True)
    pairs = np.bincount(((target > 0) * 2 + (prediction > 0)).ravel(), minlength=4).reshape(2, 2)
    assert pairs.tolist() == truth.confusion
    assert np.unique(target).tolist() == [0, 1, 2, 3, 4]
    common = ((target == 3) & (prediction == 3)).sum()
    assert common / ((target == 3) | (prediction == 3)).sum() == truth.iou


def test_shards_that_are_copied_are_those_that_would_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "SHARD", 512)
    evaluate.write_pair(tmp_path, 1024, objects=False)
    volume = open_volume(tmp_path / "prediction.zarr")
    expected = evaluate.pattern(volume.box, 1024, evaluate.MOVED, objects=False)
    assert np.array_equal(volume.read(volume.box)[0], expected)


@pytest.mark.slow
def test_the_table_has_a_row_a_kind_and_size(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "SHARD", 512)
    rows = list(evaluate.rows(tmp_path, 2048))
    assert [row.split(" | ")[0] for row in rows] == ["| classes, u1"] * 2 + ["| object ids, u4"] * 2
    assert all("16 chunks, resumed: same bytes" in rows[i] for i in (1, 3))
    assert not list(tmp_path.iterdir())
