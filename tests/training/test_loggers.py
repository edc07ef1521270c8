"""Losses and metrics are logged beside the checkpoint: one folder for each life of a training."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.config import TrainJob
from pipeline.errors import InputError
from pipeline.jobs.listener import Silent
from pipeline.jobs.training import train
from pipeline.training.loggers import NEEDS, check_loggers


class Stops(Silent):
    def progress(self, done, failed=0):
        if done == 12:
            raise KeyboardInterrupt


@pytest.fixture
def job(make_pair, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (1, 48, 48)).astype("u1")
    return TrainJob(
        pairs=(make_pair(image),),
        validation=(make_pair(image),),
        output=str(tmp_path / "m.safetensors"),
        classes=("even", "odd"),
        architecture={"classes": 1, "depth": 2, "width": 2, "padding": "same"},
        patch=(16, 16),
        batch=1,
        steps=20,
        validate_every=10,
        threads=1,
        loaders=1,
        loggers="csv,tensorboard",
    )


def test_each_life_of_a_training_has_its_logs(job, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(job, listener=Stops())
    found = train(job)
    logs = tmp_path / "m.training" / "logs"
    for kind in ("csv", "tensorboard"):
        lives = sorted(path.name for path in (logs / kind).iterdir())
        assert lives == ["step-00000000", "step-00000010"]
        assert all(any(life.iterdir()) for life in (logs / kind).iterdir())
    settings = yaml.safe_load((logs / "csv" / "step-00000010" / "hparams.yaml").read_text())
    assert (settings["batch"], settings["classes"]) == (1, ["even", "odd"])
    with (logs / "csv" / "step-00000010" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = next(row for row in rows if row["mean_iou"])
    assert int(last["step"]) == 20
    point = found["curve"][-1]
    assert float(last["mean_iou"]) == pytest.approx(point["validation"]["mean_iou"])
    assert float(last["iou_odd"]) == pytest.approx(point["validation"]["classes"]["odd"]["iou"])
    assert float(last["mean_loss"]) == pytest.approx(point["loss"])
    losses = {int(row["step"]): float(row["loss"]) for row in rows if row["loss"]}
    assert losses == {20: pytest.approx(found["losses"][19])}


def test_no_logger_writes_no_logs(job, tmp_path):
    train(job.model_copy(update={"loggers": (), "steps": 2}))
    assert not (tmp_path / "m.training" / "logs").exists()


def test_a_logger_whose_package_is_not_there_is_refused(monkeypatch):
    monkeypatch.setitem(NEEDS, "tensorboard", ("no_such_package", "nor_this"))
    check_loggers(("csv",))
    with pytest.raises(
        InputError, match=r"tensorboard needs the package no_such_package.*'overtile\[tensorboard\]'"
    ):
        check_loggers(("csv", "tensorboard"))


def test_every_logger_that_needs_a_package_has_an_extra():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert all(f"\n{name} = [" in text for name, packages in NEEDS.items() if packages)
