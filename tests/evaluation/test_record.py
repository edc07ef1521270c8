import json

import pytest
from evaluations import evaluation, make_measured_run, make_models, write_statistics

from pipeline.errors import InputError
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.record import read_evaluation
from pipeline.evaluation.statistics import ConfusionStatistics

COUNTS = [[[5, 1], [2, 4]], [[3, 0], [1, 7]]]
TOLD = {
    "prediction": "p.zarr",
    "target": "t.zarr",
    "region": None,
    "ignore": None,
    "ignored": 3,
    "classes": {"a": {}, "b": {}},
    "confusion": [[8, 1], [3, 11]],
}


@pytest.fixture
def folder(tmp_path):
    write_statistics(tmp_path / "statistics.parquet", COUNTS, ["a", "b"], ignored=3)
    (tmp_path / "metrics.json").write_text(json.dumps(TOLD))
    return tmp_path


def test_the_metrics_are_worked_out_of_the_chunks(folder):
    found = read_evaluation(folder)
    expected = metrics(ConfusionStatistics([[8, 1], [3, 11]]), ["a", "b"])
    assert found.values["mean_iou"] == expected["mean_iou"]
    assert found.values["dice_b"] == expected["classes"]["b"]["dice"]
    assert (found.source, found.model, found.key, found.order[0]) == (str(folder), None, None, 0.0)


def test_a_key_tells_the_voxels_of_the_target():
    found = evaluation(COUNTS, ignored=3, region="0:4,0:4", ignore=9)
    assert found.key == ("t", "0:4,0:4", 9, ("a", "b"), (9, 14, 3))


@pytest.mark.slow
def test_an_evaluation_keeps_its_run(tmp_path):
    (model,) = make_models(tmp_path, ["net"])
    found = read_evaluation(make_measured_run(tmp_path, 0, model, wrong=0.1, day=4, name="out", tta="flips"))
    assert found.run.output == str(tmp_path / "volume0" / "out.zarr")
    assert found.run.model == str(model)
    assert found.model.startswith("sha256:")
    assert (found.run.state, found.run.root, found.run.settings["tta"]) == ("sealed", "r4", "flips")
    assert found.run.chunks == {"total": 6, "done": 6, "failed": 0, "skipped": 0, "pending": 0}
    assert found.run.elapsed == 420
    assert found.key is not None


def spoil(folder, **changes):
    (folder / "metrics.json").write_text(json.dumps(TOLD | changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "metrics.json").unlink(), "has no metrics.json; the evaluation was stopped"),
        (lambda f: (f / "statistics.parquet").unlink(), "has no statistics.parquet; evaluate again"),
        (lambda f: (f / "metrics.json").write_text("{"), "metrics.json: cannot be read"),
        (lambda f: (f / "metrics.json").write_bytes(b"\xff"), "metrics.json: cannot be read"),
        (lambda f: (f / "metrics.json").write_text("[]"), "not what `overtile evaluate --out` writes"),
        (lambda f: (f / "metrics.json").write_text("{}"), r"\(prediction: is needed"),
        (lambda f: spoil(f, run={"id": "x"}), "run.output"),
        (lambda f: spoil(f, confusion=[[8, 1], [3, 12]]), "are of different evaluations"),
        (lambda f: spoil(f, ignored=4), "are of different evaluations"),
        (lambda f: spoil(f, classes={"b": {}, "a": {}}), "are of different evaluations"),
    ],
)
def test_what_is_no_whole_evaluation_is_refused(folder, change, message):
    change(folder)
    with pytest.raises(InputError, match=message):
        read_evaluation(folder)
