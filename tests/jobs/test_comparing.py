"""A comparison of tiny networks: what is trained once is not trained again, and all see the same regions."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from volumes import save

import pipeline
from flows.shapes import CLASS_NAMES, render
from pipeline.cli.main import run
from pipeline.config import CompareJob
from pipeline.config.compare import merged
from pipeline.errors import InputError, RunMismatchError
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.jobs.comparing import begin, trial
from pipeline.jobs.listener import Silent
from pipeline.model.checkpoint import read_header
from pipeline.model.weights import load_model

NETWORK = {"in_channels": 3, "classes": 1, "depth": 2, "width": 2, "padding": "same", "norm": "batch"}
VARIANTS = {"autoencoder": {"architecture": {"skip": "none"}}, "valid": {"architecture": {"padding": "valid"}}}


class Recorder(Silent):
    def __init__(self):
        self.notes, self.phases = [], []

    def phase(self, name, total, unit):
        self.phases.append(name)

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pairs(tmp_path):
    """Two pairs of shapes: what is learnt from, and the exam."""
    found = []
    for seed, side in ((1, 160), (2, 300)):
        image, target = render((0, 0), (side, side), seed=seed)
        save(tmp_path / f"image{seed}.zarr", image, "cyx", chunks=(3, 64, 64))
        save(tmp_path / f"target{seed}.zarr", target, "yx", chunks=64)
        found.append(
            {"image": str(tmp_path / f"image{seed}.zarr"), "target": str(tmp_path / f"target{seed}.zarr")}
        )
    return found


@pytest.fixture
def values(pairs, tmp_path):
    base = {
        "pairs": pairs[:1],
        "classes": list(CLASS_NAMES),
        "architecture": NETWORK,
        "patch": [32, 32],
        "batch": 2,
        "steps": 3,
        "split": "none",
        "threads": 1,
    }
    return {
        "base": base,
        "variants": VARIANTS,
        "seeds": [0, 1],
        "exam": pairs[1:],
        "out": str(tmp_path / "out"),
        "resamples": 200,
    }


def test_every_variant_is_trained_from_every_seed_and_measured_on_the_exam(values, tmp_path):
    found = pipeline.compare(CompareJob.model_validate(values))
    rows = pq.read_table(tmp_path / "out" / "compare.parquet").to_pylist()
    assert [(row["variant"], row["seed"]) for row in rows] == [
        (name, seed) for seed in (0, 1) for name in ("base", "autoencoder", "valid")
    ]
    assert {row["tiles"] for row in rows} == {4}
    assert {row["voxels"] for row in rows} == {300 * 300}
    assert all(row["low_mean_iou"] <= row["mean_iou"] <= row["high_mean_iou"] for row in rows)
    assert len({row["digest"] for row in rows}) == 6
    by_seed = [row["mean_iou"] for row in rows if row["variant"] == "valid"]
    (valid,) = (e for e in found["variants"] if (e["variant"], e["metric"]) == ("valid", "mean_iou"))
    assert list(valid["by_seed"].values()) == by_seed
    assert valid["mean"] == pytest.approx(np.mean(by_seed))
    assert valid["std"] == pytest.approx(np.std(by_seed, ddof=1))
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == found
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "autoencoder" in page
    assert "skip" in page
    assert "<script" not in page
    assert read_header(rows[1]["checkpoint"]).architecture.skip == "none"


def test_the_exam_is_what_the_network_says_of_the_whole_image(values, pairs, tmp_path):
    pipeline.compare(CompareJob.model_validate(values | {"variants": {"again": {}}, "seeds": [3]}))
    row = pq.read_table(tmp_path / "out" / "compare.parquet").to_pylist()[0]
    image, target = render((0, 0), (300, 300), seed=2)
    header = read_header(row["checkpoint"])
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (header.normalisation.mean, header.normalisation.std))
    mirrored = torch.from_numpy(np.pad(image, ((0, 0), (32, 32), (32, 32)), mode="reflect"))
    logits = load_model(row["checkpoint"])(((mirrored - mean) / std)[None])[0, 0, 32:-32, 32:-32].numpy()
    counts = ConfusionStatistics.of(logits >= 0, target, classes=2).counts
    record = json.loads((tmp_path / "out" / "base" / "seed3" / "trial.json").read_text())
    assert np.abs(np.sum(record["counts"], axis=0) - counts).max() <= 2, (
        "but for the last bits of logits near zero"
    )
    assert row["accuracy"] == pytest.approx(np.trace(counts) / counts.sum(), abs=1e-4)


def test_what_is_done_is_not_done_again_and_more_may_be_asked(values, tmp_path, monkeypatch):
    trained = []
    real = trial.train
    monkeypatch.setattr(trial, "train", lambda job, **options: trained.append(job.output) or real(job, **options))
    values |= {"variants": {"autoencoder": VARIANTS["autoencoder"]}, "seeds": [0]}
    first = pipeline.compare(CompareJob.model_validate(values))
    assert len(trained) == 2
    recorder = Recorder()
    assert pipeline.compare(CompareJob.model_validate(values), listener=recorder) == first
    assert [note for note in recorder.notes if "done before" in note] == [
        "base, seed 0: done before",
        "autoencoder, seed 0: done before",
    ]
    (tmp_path / "out" / "base" / "seed0" / "trial.json").unlink()
    assert pipeline.compare(CompareJob.model_validate(values)) == first
    assert len(trained) == 2, "a network that was trained and not measured is only measured"
    more = values | {"variants": values["variants"] | {"dice": {"loss": "dice"}}, "seeds": [0, 1]}
    assert len(pipeline.compare(CompareJob.model_validate(more))["trials"]) == 6
    assert len(trained) == 2 + 4
    changed = more | {"variants": more["variants"] | {"dice": {"loss": "tversky"}}}
    pipeline.compare(CompareJob.model_validate(changed))
    assert len(trained) == 6 + 2, "of a variant that has changed, its networks alone"


def test_a_comparison_that_was_stopped_goes_on_to_the_same_networks(values, tmp_path, monkeypatch):
    values |= {"variants": {"autoencoder": VARIANTS["autoencoder"]}, "seeds": [0]}
    whole = pipeline.compare(CompareJob.model_validate(values | {"out": str(tmp_path / "whole")}))
    real = trial.train

    def stopped(job, **options):
        if "autoencoder" in job.output:
            raise KeyboardInterrupt
        return real(job, **options)

    monkeypatch.setattr(trial, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        pipeline.compare(CompareJob.model_validate(values))
    assert not (tmp_path / "out" / "compare.html").exists()
    trained = []
    monkeypatch.setattr(trial, "train", lambda job, **options: trained.append(job.output) or real(job, **options))
    found = pipeline.compare(CompareJob.model_validate(values))
    assert len(trained) == 1
    assert found["variants"] == whole["variants"]
    assert found["differences"] == whole["differences"]


def test_another_exam_at_its_place_is_taken_by_the_networks_that_there_are(values, tmp_path):
    values |= {"variants": {"again": {}}, "seeds": [0]}
    first = pipeline.compare(CompareJob.model_validate(values))
    image, target = render((0, 0), (300, 300), seed=9)
    for name, array, axes, chunks in (("image2", image, "cyx", (3, 64, 64)), ("target2", target, "yx", 64)):
        shutil.rmtree(tmp_path / f"{name}.zarr")
        save(tmp_path / f"{name}.zarr", array, axes, chunks=chunks)
    second = pipeline.compare(CompareJob.model_validate(values))
    assert first["trials"][0]["digest"] == second["trials"][0]["digest"]
    assert first["trials"][0]["accuracy"] != second["trials"][0]["accuracy"]


def test_another_base_is_refused_and_restart_begins_anew(values, tmp_path):
    values |= {"variants": {"again": {}}, "seeds": [0]}
    pipeline.compare(CompareJob.model_validate(values))
    other = values | {"base": values["base"] | {"steps": 2}}
    with pytest.raises(RunMismatchError, match="another base"):
        pipeline.compare(CompareJob.model_validate(other))
    refused = other | {"restart": True, "variants": {"wide": {"patch": [4096, 4096]}}}
    with pytest.raises(InputError, match="wide, seed 0"):
        pipeline.compare(CompareJob.model_validate(refused))
    assert (tmp_path / "out" / "again" / "seed0" / "trial.json").exists(), "nothing is thrown away for nothing"
    found = pipeline.compare(CompareJob.model_validate(other | {"restart": True}))
    assert [row["steps"] for row in found["trials"]] == [2, 2]


def test_without_an_exam_all_are_measured_on_what_the_base_holds_out(values):
    values["base"] |= {"split": {"by": "block", "block": [32, 32], "guard": 12}}
    values |= {"exam": [], "seeds": [0, 1]}
    found = begin(CompareJob.model_validate(values), Silent())
    assert len(found.trials) == 6
    values["base"]["split"] = {"by": "block"}
    values["variants"] = {"larger": {"patch": [96, 96]}}
    values["out"] += "2"
    with pytest.raises(InputError, match="larger, seed 0: would be measured on other regions than base, seed 0"):
        begin(CompareJob.model_validate(values), Silent())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {}}, "nothing to compare"),
        ({"variants": {"base": {}}}, "is the name of a folder"),
        ({"variants": {"a/b": {}}}, "is the name of a folder"),
        (
            {"variants": {"x": {"architecure": {}}}},
            "x: job: unknown key 'architecure'; did you mean 'architecture'",
        ),
        ({"variants": {"x": {"architecture": {"skip": "nothing"}}}}, "x: architecture.skip: "),
        ({"variants": {"x": {"seed": 3}}}, "x: seed is given by the comparison itself"),
        ({"variants": {"x": {"split": {"folds": 3}}}}, r"x: split\.folds"),
        ({"variants": {"x": {"classes": ["a", "b"]}}}, "other classes"),
        ({"seeds": [1, 1]}, "seeds 1,1: each one once"),
    ],
)
def test_what_is_no_comparison_is_refused(values, changes, message):
    with pytest.raises(ValueError, match=message):
        CompareJob.model_validate(values | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {"deep": {"architecture": {"dims": 3}, "patch": [8, 8, 8]}}}, "deep, seed 0: "),
        ({"metrics": ["iou_cell"]}, "metrics iou_cell: there is no such metric"),
        ({"variants": {"wide": {"patch": [4096, 4096]}}}, "wide, seed 0: "),
        ({"exam": []}, "split none: nothing is held out"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(values, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        pipeline.compare(CompareJob.model_validate(values | changes))
    assert not (tmp_path / "out").exists()


def test_mappings_are_changed_inside_and_kinds_replaced():
    base = {
        "architecture": {"depth": 4, "skip": "concat"},
        "loss": {"kind": "focal", "gamma": 3.0},
        "patch": [8, 8],
    }
    changes = {"architecture": {"skip": "none"}, "loss": {"kind": "dice"}, "patch": [4, 4]}
    assert merged(base, changes) == {
        "architecture": {"depth": 4, "skip": "none"},
        "loss": {"kind": "dice"},
        "patch": [4, 4],
    }


def test_the_command_says_what_was_found(values, tmp_path, capsys):
    values |= {"variants": {"again": {}}, "seeds": [0]}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(values))
    assert run(["compare", "--config", str(tmp_path / "job.yaml"), "--metrics", "iou_ellipse"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["variant", "metric", "seeds", "mean", "std"]
    assert "again" in shown
    assert str(tmp_path / "out" / "compare.html") in shown
    assert run(["compare", "--config", str(tmp_path / "job.yaml"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {d["verdict"] for d in document["differences"]} == {"not told apart"}
    assert {d["mean"] for d in document["differences"]} == {0.0}, "the same job from the same seed"
