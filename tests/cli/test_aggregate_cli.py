import json

import pyarrow.parquet as pq
import pytest
from evaluations import make_measured_run, make_models

from pipeline.cli.main import run


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """One volume by two models."""
    monkeypatch.chdir(tmp_path)
    for model, wrong in zip(make_models(tmp_path), (0.1, 0.05), strict=True):
        make_measured_run(tmp_path, 0, model, wrong=wrong, day=1, name=model.stem)
    return tmp_path


def test_aggregate_prints_models_and_pairs(archive, capsys):
    assert run(["aggregate", "volume0", "--out", "t.parquet", "--resamples", "200", "--metrics", "accuracy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "metric", "volumes", "mean", "interval"]
    assert lines[1].split()[:3] == ["first", "accuracy", "1"]
    assert lines[1].split()[-1] == "-", "one volume has no interval over volumes"
    assert lines[5].startswith("second - first")
    assert " to " in lines[5], "but over chunks"
    assert "2 evaluations, 2 runs, 0 broken" in lines[7]
    assert lines[-1].split() == ["page", "t.html"]
    assert pq.read_table("t.parquet").num_rows == 2
    assert (archive / "t.html").exists()


def test_aggregate_prints_one_document(archive, capsys):
    assert (
        run(["aggregate", "volume0/first-metrics", "volume0/second-metrics", "--out", "t.parquet", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"evaluations": 2, "runs": 0, "broken": 0}
    assert found["intervals"] == {"resamples": 2000, "confidence": 0.95, "seed": 0}


def test_a_job_file_holds_everything(archive, capsys):
    (archive / "job.yaml").write_text("sources: [volume0]\nout: t.parquet\nbounds: {mean_iou: 0.99}\n")
    assert run(["aggregate", "--config", "job.yaml"]) == 0
    shown = capsys.readouterr()
    assert "mean_iou of first on target.zarr is 0." in shown.err
    assert "below its bound 0.99" in shown.err
    assert run(["aggregate", "--config", "job.yaml", "--fail-below"]) == 3
    assert "2 metric(s) below their bound or dropped" in capsys.readouterr().err
    assert (archive / "t.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--out", "t.parquet"], "none: is not there"),
        (["volume0"], "--out: is needed"),
        (["--out", "t.parquet"], "--sources: is needed"),
        (["volume0", "--out", "t.txt"], "ends in .parquet"),
        (["volume0", "--out", "t.parquet", "--metrics", "a,a"], "each one once"),
        (["volume0", "--out", "t.parquet", "--metrics", "iou_wall"], "no evaluation has it"),
        (["volume0", "--out", "t.parquet", "--broken", "skip"], "--broken: Input should be 'error' or 'list'"),
        (["volume0", "--out", "t.parquet", "--resamples", "10"], "greater than or equal to 200"),
        (["volume0", "--out", "t.parquet", "--drop", "2"], "--drop: Input should be less than or equal to 1"),
        (["volume0", "--out", "t.parquet", "--fail-below"], "fail_below needs bounds or drop"),
    ],
)
def test_aggregate_refuses_with_exit_code_2(archive, capsys, arguments, message):
    assert run(["aggregate", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(archive.glob("t.*"))


def test_what_is_broken_is_refused_or_listed(archive, capsys):
    (archive / "volume0" / "first-metrics" / "metrics.json").write_text("{")
    assert run(["aggregate", "volume0", "--out", "t.parquet"]) == 2
    assert "first-metrics/metrics.json: cannot be read" in capsys.readouterr().err
    assert run(["aggregate", "volume0", "--out", "t.parquet", "--broken", "list"]) == 0
    assert "1 evaluations, 2 runs, 1 broken" in capsys.readouterr().out


def test_help_tells_of_sources(capsys):
    assert run(["aggregate", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "SOURCES..." in shown
    assert "overtile aggregate /data/evaluations" in shown.split("Example:")[1]
