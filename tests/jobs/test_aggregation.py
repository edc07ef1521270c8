"""Twelve runs of two models on four volumes become one table, one comparison and one page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from evaluations import make_archive, make_measured_run, make_models, spoiled, truth
from runs import make_run
from volumes import files, save

import pipeline
from pipeline.config import AggregateJob, EvaluateJob
from pipeline.errors import InputError, MetricDroppedError
from pipeline.evaluation.bootstrap import Resampling, chunk_intervals, mean_interval
from pipeline.evaluation.chunk_counts import read_counts
from pipeline.jobs.aggregation import check_bounds


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def found(archive, tmp_path_factory):
    """What one command makes of it."""
    return pipeline.aggregate(job(archive, tmp_path_factory.mktemp("out")))


@pytest.fixture
def copied(archive, tmp_path):
    """The archive, to be changed."""
    return shutil.copytree(archive, tmp_path / "archive")


def job(root, folder, **options):
    return AggregateJob(**{"sources": [str(root)], "out": str(folder / "t.parquet"), "resamples": 200} | options)


def rows(found):
    return pq.read_table(found["table"]).to_pylist()


def test_twelve_runs_in_one_command(found):
    assert found["counts"] == {"evaluations": 12, "runs": 12, "broken": 0}
    table = rows(found)
    assert [row["kind"] for row in table] == ["evaluation"] * 12, "every run was evaluated"
    assert {row["model"] for row in table} == {"first", "second"}
    assert {row["settings"] for row in table} == {'{"tta": "none"}', '{"tta": "flips"}'}
    for row in table:
        told = json.loads((Path(row["source"]) / "metrics.json").read_text())
        assert row["mean_iou"] == told["mean_iou"]
        assert row["precision_cell"] == told["classes"]["cell"]["precision"]
        assert row["low_mean_iou"] <= row["mean_iou"] <= row["high_mean_iou"]
        assert (row["chunks"], row["done"], row["seconds"]) == (6, 6, 420.0)
    notes = [row["note"] for row in table if row["note"]]
    assert len(notes) == 4
    assert all("not compared: " in note and note.endswith("again-metrics is newer") for note in notes)


def test_the_intervals_are_those_of_the_chunks(found):
    row = rows(found)[0]
    counts = read_counts(Path(row["source"]) / "statistics.parquet")
    expected = chunk_intervals(counts.counts, counts.names, Resampling(200))
    assert (row["low_iou_cell"], row["high_iou_cell"]) == expected["iou_cell"]


def test_models_are_compared_on_the_same_volumes(archive, found):
    told = [json.loads((archive / f"volume{v}" / f"{name}-metrics" / "metrics.json").read_text())["mean_iou"]
            for v in range(4) for name in ("first", "again")]  # fmt: skip
    differences = [after - before for before, after in zip(told[::2], told[1::2], strict=True)]
    pair = found["comparisons"][0]
    assert [each["metric"] for each in found["comparisons"]] == ["mean_iou", "mean_dice", "accuracy"]
    assert (pair["first"], pair["second"], pair["volumes"], pair["over"]) == ("first", "second", 4, "volumes")
    assert pair["difference"] == pytest.approx(np.mean(differences))
    assert sorted(each["difference"] for each in pair["pairs"]) == pytest.approx(sorted(differences))
    assert 0 < pair["low"] <= pair["difference"] <= pair["high"]
    ordered = [each["difference"] for each in pair["pairs"]]
    assert (pair["low"], pair["high"]) == mean_interval(ordered, Resampling(200))
    assert all(each["low"] <= each["difference"] <= each["high"] for each in pair["pairs"]), "cut alike"
    assert found["unmatched"] == []
    assert [(each["model"], each["volumes"]) for each in found["models"]] == [("first", 4)] * 3 + [
        ("second", 4)
    ] * 3


def test_the_same_inputs_give_the_same_bytes_in_any_order(archive, found, tmp_path):
    before = files(Path(found["table"]).parent)
    assert before.keys() == {"t.parquet", "t.html"}
    several = [str(archive / f"volume{v}") for v in (2, 0, 3, 1)]
    pipeline.aggregate(job(archive, tmp_path, sources=several))
    assert files(tmp_path) == before


def test_the_summary_is_json(found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_run_that_was_not_evaluated_has_a_row_without_metrics(copied, tmp_path):
    shutil.rmtree(copied / "volume0" / "again-metrics")
    make_run(copied / "volume1", truth(1), name="half.zarr", sealed=False, states={0: "failed", 1: "pending"})
    table = rows(pipeline.aggregate(job(copied, tmp_path)))
    others = [row for row in table if row["kind"] == "run"]
    assert [row["source"].rpartition("/")[2] for row in others] == ["again.zarr", "half.zarr"]
    assert [row["accuracy"] for row in others] == [None, None]
    assert [others[1][name] for name in ("state", "done", "failed", "pending")] == ["incomplete", 4, 1, 1]
    assert others[1]["sealed"] is None


def test_a_result_that_was_computed_anew_is_told_apart_from_its_evaluation(copied, tmp_path):
    seal = copied / "volume0" / "first.zarr.run" / "seal.json"
    seal.write_text(json.dumps(json.loads(seal.read_text()) | {"root": "anew"}))
    table = rows(pipeline.aggregate(job(copied, tmp_path, sources=[str(copied / "volume0")])))
    assert [row["kind"] for row in table] == ["evaluation"] * 3 + ["run"]
    told = {row["source"].rpartition("/")[2]: row["note"] for row in table}
    assert told["first-metrics"] == "the result has been computed anew since; evaluate again"
    assert told["first.zarr"] is None


def test_a_prediction_without_a_run_is_named_and_not_compared(tmp_path):
    save(tmp_path / "p.zarr", spoiled(truth(0), 0.1, 1), "yx", chunks=64)
    save(tmp_path / "t.zarr", truth(0), "yx", chunks=64)
    places = {"prediction": str(tmp_path / "p.zarr"), "target": str(tmp_path / "t.zarr")}
    pipeline.evaluate(EvaluateJob(**places, out=str(tmp_path / "m")))
    found = pipeline.aggregate(job(tmp_path / "m", tmp_path, bounds={"accuracy": 0.95}))
    assert found["comparisons"] == found["models"] == []
    assert found["unmatched"][0]["why"] == "the prediction has no run that tells its model"
    assert rows(found)[0]["note"] == "the prediction has no run that tells its model"
    assert [each["model"] for each in found["alerts"]] == [places["prediction"]], "a bound counts all the same"


def test_what_is_broken_is_a_row_where_that_is_wished(copied, tmp_path):
    (copied / "volume0" / "first-metrics" / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"first-metrics/metrics\.json: cannot be read"):
        pipeline.aggregate(job(copied, tmp_path))
    assert not list(tmp_path.glob("t.*"))
    found = pipeline.aggregate(job(copied, tmp_path, broken="list"))
    assert found["counts"] == {"evaluations": 11, "runs": 12, "broken": 1}
    last = rows(found)[-1]
    assert (last["kind"], last["source"]) == ("broken", str(copied / "volume0" / "first-metrics"))
    assert "cannot be read" in last["note"]


def test_a_copy_of_an_evaluation_counts_once(copied, tmp_path):
    shutil.copytree(copied / "volume0" / "first-metrics", copied / "copy")
    found = pipeline.aggregate(job(copied, tmp_path))
    assert [each["volumes"] for each in found["models"]] == [4] * 6
    note = next(row["note"] for row in rows(found) if row["source"] == str(copied / "copy"))
    assert note == f"not compared: {copied / 'volume0' / 'first-metrics'} is the same"


def test_bounds(archive, tmp_path):
    found = pipeline.aggregate(job(archive, tmp_path, bounds={"mean_iou": 0.75, "iou_cell": 0.0}))
    assert {(each["kind"], each["metric"]) for each in found["alerts"]} == {("below", "mean_iou")}
    values = [each["value"] for each in found["alerts"]]
    expected = [s["values"]["mean_iou"] for s in found["series"] if s["values"]["mean_iou"] < 0.75]
    assert sorted(values) == sorted(expected) == values != []
    assert "below its bound 0.75" in found["alerts"][0]["text"]
    with pytest.raises(MetricDroppedError, match=r"below its bound 0\.75"):
        check_bounds(found)
    check_bounds(pipeline.aggregate(job(archive, tmp_path, bounds={"mean_iou": 0.1})))


def test_a_drop_is_told_until_something_else_changes(tmp_path):
    """Against the table before the last change, so that a run that is repeated says the same."""
    root = tmp_path / "archive"
    root.mkdir()
    (model,) = make_models(root, ["net"])
    wanted = job(root, tmp_path, drop=0.05)
    make_measured_run(root, 0, model, wrong=0.05, day=1, name="monday")
    assert pipeline.aggregate(wanted)["alerts"] == []
    assert pipeline.aggregate(wanted)["alerts"] == []
    first = (tmp_path / "t.parquet").read_bytes()

    make_measured_run(root, 0, model, wrong=0.2, day=2, name="tuesday")
    found = pipeline.aggregate(wanted)
    assert (tmp_path / "t.previous.parquet").read_bytes() == first
    assert {each["kind"] for each in found["alerts"]} == {"dropped"}
    assert {each["metric"] for each in found["alerts"]} == {"mean_iou", "accuracy", "mean_dice"}
    assert found["alerts"][0]["previous"] > found["alerts"][0]["value"] + 0.05
    assert pipeline.aggregate(wanted)["alerts"] == found["alerts"]

    make_measured_run(root, 0, model, wrong=0.19, day=3, name="wednesday")
    assert pipeline.aggregate(wanted)["alerts"] == []


def test_what_is_gone_since_the_previous_table_is_named(copied, tmp_path):
    pipeline.aggregate(job(copied, tmp_path))
    shutil.rmtree(copied / "volume3")
    found = pipeline.aggregate(job(copied, tmp_path))
    assert {each["model"].rpartition("/")[2] for each in found["gone"]} == {
        "first.safetensors",
        "second.safetensors",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "t.csv"}, "--out t.csv: is a file whose name ends in .parquet"),
        ({"page": "t.txt"}, "--page t.txt: is a file whose name ends in .html"),
        ({"out": "none/t.parquet"}, "--out none/t.parquet: there is no folder"),
        ({"out": "t.previous.parquet"}, "the name of what was there before"),
        (
            {"metrics": ("mean_iou", "iou_wall")},
            "--metrics iou_wall: no evaluation has it; there are accuracy, dice_back",
        ),
        ({"bounds": {"mean_uoi": 0.5}}, "bounds mean_uoi: no evaluation has it"),
        ({"sources": ["none"]}, "none: is not there"),
        ({"out": "other.parquet"}, "other.parquet: cannot be read as a table"),
    ],
)
def test_refusals_write_nothing(archive, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.parquet").write_text("somebody's")
    before = files(tmp_path)
    with pytest.raises(InputError, match=message):
        pipeline.aggregate(job(archive, tmp_path, **options))
    assert files(tmp_path) == before
