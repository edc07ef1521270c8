"""What the benchmarks of training measure by: on maps whose answer is known."""

import numpy as np
import pytest
import yaml

from benchmarks import train_isbi, train_nuclei
from benchmarks.objects import connected, counted, objects, scores
from benchmarks.training import BUDGETS, budget, trained
from pipeline.evaluation.contingency import ContingencyTable


def touching():
    """Two discs that share an edge, as ids and as three classes."""
    y, x = np.mgrid[:40, :60]
    ids = np.where((y - 20) ** 2 + (x - 20) ** 2 < 150, 1, 0)
    ids = np.where((y - 20) ** 2 + (x - 41) ** 2 < 150, np.where(x > 30, 2, ids), ids)
    edge = np.zeros(ids.shape, bool)
    for axis in (0, 1):
        for shift in (-1, 1):
            edge |= np.roll(ids, shift, axis) != ids
    return ids, np.where(ids == 0, 0, np.where(edge, 2, 1))


def test_boundaries_part_objects_that_touch_and_belong_to_the_nearest():
    ids, classes = touching()
    found = scores(counted(objects(classes, least=12), ids, number=0))
    assert (found["f1"], found["objects"]) == (1.0, 2)
    assert found["pq"] > 0.98
    assert scores(counted(connected(classes, least=12), ids, number=0))["f1"] < 1


def test_small_seeds_are_no_objects():
    classes = np.zeros((20, 20), int)
    classes[2:4, 2:4], classes[10:14, 10:13] = 1, 1
    assert len(np.unique(objects(classes, least=12))) == 2
    assert len(np.unique(objects(classes, least=4))) == 3


def test_objects_of_two_images_are_others():
    ids, classes = touching()
    total = ContingencyTable.zero()
    for number in range(2):
        total += counted(objects(classes, least=12), ids, number=number)
    assert scores(total)["objects"] == 4
    assert scores(total)["f1"] == 1.0


def test_a_field_is_on_one_side(tmp_path):
    rows = [f"he,tile{i},x,256,320,9,g{i // 3:02d}," for i in range(30)]
    rows += ["he,other,x,512,640,9,g99,", "fluo,dark,x,256,320,9,g00,"]
    index = tmp_path / "index.csv"
    index.write_text("\n".join(["class,file,dsb_id,height,width,n_nuclei,mosaic_group,mosaic_row_col", *rows]))
    learnt, reported = train_nuclei.fields(index)
    assert sorted(learnt + reported) == sorted(f"tile{i}" for i in range(30))
    group = {f"tile{i}": i // 3 for i in range(30)}
    assert {group[name] for name in learnt} & {group[name] for name in reported} == set()
    assert {group[name] for name in reported} == {3, 7}


def test_the_measures_of_a_perfect_map_of_membranes_are_perfect():
    target = np.full((2, 64, 64), 255, np.uint8)
    target[:, 30:33], target[:, :, 40:43] = 0, 0
    membrane = (target == 0).astype(np.float32)
    found = dict(
        zip(train_isbi.NAMES, train_isbi.measures(train_isbi.interior(membrane[np.newaxis]), target), strict=True)
    )
    assert found["pixel error"] == "0.0000"
    assert found["IoU membrane"] == found["IoU interior"] == "1.0000"
    assert float(found["V_rand"]) > 0.99
    worse = train_isbi.measures(train_isbi.interior(1 - membrane), target)
    assert float(worse[train_isbi.NAMES.index("pixel error at 0.5")]) == pytest.approx(1.0), "polarity matters"


def test_budgets_scale_and_are_never_nothing(monkeypatch):
    monkeypatch.setenv("OVERTILE_BUDGET", "0.5")
    assert budget("train_isbi")["steps"] == BUDGETS["train_isbi"].steps // 2
    monkeypatch.setenv("OVERTILE_BUDGET", "0.00001")
    assert budget("train_isbi") == {"steps": 3, "time_limit": 5.0, "validate_every": 1}


def test_what_was_trained_is_not_trained_again(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("pipeline.train", lambda job, **options: asked.append(job) or {"steps": 1}, raising=False)
    values = {"pairs": [{"image": "a.zarr", "target": "b.zarr"}], "classes": ["a", "b"], "steps": 3}
    assert trained(tmp_path / "x", values) == {"steps": 1}
    written = yaml.safe_load((tmp_path / "x" / "train.yaml").read_text())
    assert written["pairs"] == values["pairs"]
    assert (written["seed"], written["steps"]) == (1, 3)
    (tmp_path / "x" / "model.metrics.json").write_text('{"steps": 3}')
    assert trained(tmp_path / "x", values) == {"steps": 3}
    assert len(asked) == 1
