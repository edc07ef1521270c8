"""A training that is killed, stopped or breaks down, and what the next one makes of what it left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from waiting import wait_until

from flows.shapes import CLASS_NAMES, render
from pipeline.cli.main import run
from pipeline.config import TrainJob
from pipeline.errors import OvertileError, RunMismatchError
from pipeline.jobs.training import train
from pipeline.model.checkpoint import digest, read_header
from pipeline.model.weights import load_model

NETWORK = {
    "in_channels": 3,
    "classes": 1,
    "depth": 2,
    "width": 4,
    "padding": "same",
    "norm": "batch",
    "dropout": 0.2,
}

KILLED = """
import os, signal, sys
import yaml
from pipeline.config import TrainJob
from pipeline.jobs.listener import Silent
from pipeline.jobs.training import train

class Deadly(Silent):
    def progress(self, done, failed=0):
        if done == int(sys.argv[2]):
            os.kill(os.getpid(), signal.Signals[sys.argv[3]])

if __name__ == "__main__":
    train(TrainJob.model_validate(yaml.safe_load(open(sys.argv[1]))), listener=Deadly())
"""


class Recorder:
    def __init__(self, stops_at=None):
        self.steps, self.notes = [], []
        self._stops_at = stops_at

    def phase(self, name, total, unit):
        self.steps.append([])

    def progress(self, done, failed=0):
        self.steps[-1].append(done)
        if done == self._stops_at:
            raise KeyboardInterrupt

    def note(self, text):
        self.notes.append(text)


class StopsInFold(Recorder):
    """Interrupts the second network at its third step."""

    def progress(self, done, failed=0):
        super().progress(done)
        if len(self.steps) == 2 and done == 3:
            raise KeyboardInterrupt


@pytest.fixture
def job_of(make_pair, tmp_path):
    pairs = [make_pair(*render((0, 0), (160, 160), seed=seed), chunks=(3, 64, 64)) for seed in (1, 2)]

    def make(**changes):
        values = {
            "pairs": pairs[:1],
            "validation": pairs[1:],
            "output": str(tmp_path / "model.safetensors"),
            "architecture": NETWORK,
            "classes": CLASS_NAMES,
            "patch": (32, 32),
            "batch": 2,
            "steps": 8,
            "validate_every": 2,
            "learning_rate": 0.02,
            "ema": 0.9,
            "threads": 1,
            "loaders": 2,
            "augment": {"elastic": {}, "noise": 0.1},
        } | changes
        if values["validation"] is None:
            del values["validation"]
        return TrainJob.model_validate(values)

    return make


def interrupted(job, at):
    with pytest.raises(KeyboardInterrupt):
        train(job, listener=Recorder(stops_at=at))


def states(job):
    return sorted(Path(job.output).with_suffix(".training").glob("state-*.safetensors"))


def same(one, other):
    tensors = load_file(one.output), load_file(other.output)
    return all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_losses_and_bits(job_of, tmp_path):
    whole = job_of(output=str(tmp_path / "whole.safetensors"))
    expected = train(whole)
    killed = job_of()
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(killed.model_dump(mode="json")))
    (tmp_path / "killed.py").write_text(KILLED)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "killed.py"), str(tmp_path / "job.yaml"), "5", "SIGKILL"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not Path(killed.output).exists()
    recorder = Recorder()
    found = train(killed, listener=recorder)
    assert "goes on after step 4" in recorder.notes
    assert recorder.steps == [[4, 5, 6, 7, 8]]
    assert found["losses"] == expected["losses"]
    assert found["validation"] == expected["validation"]
    assert found["kept_step"] == expected["kept_step"]
    assert [p["validation"] for p in found["curve"]] == [p["validation"] for p in expected["curve"]]
    assert found["calibration"] == expected["calibration"]
    assert same(killed, whole)
    assert states(killed) == []
    assert not (Path(killed.output).with_suffix(".training") / "plan.json").exists()


IN_PYTHON = """
import sys, yaml
import pipeline
pipeline.train(pipeline.TrainJob(**yaml.safe_load(open(sys.argv[-1]))))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "told", "code"),
    [
        ("from pipeline.cli.main import main; main()", signal.SIGINT, 130),
        ("from pipeline.cli.main import main; main()", signal.SIGTERM, 130),
        (IN_PYTHON, signal.SIGTERM, 143),
    ],
)
def test_an_interrupted_training_says_so_by_its_exit_code_and_can_go_on(job_of, tmp_path, program, told, code):
    job = job_of(steps=100_000, architecture=NETWORK | {"depth": 3})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(
        [*command, "train", "--config", str(tmp_path / "job.yaml")],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: states(job) or process.poll() is not None, 300)
        process.send_signal(told)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, said
    assert code != 130 or "run the same command again to go on" in " ".join(said.split())
    assert states(job)
    assert not Path(job.output).exists()


def test_a_state_that_is_not_whole_is_passed_over(job_of):
    job = job_of()
    interrupted(job, 5)
    newest = states(job)[-1]
    assert newest.name == "state-00000004.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    recorder = Recorder()
    train(job, listener=recorder)
    assert "state-00000004.safetensors is not whole: passed over" in recorder.notes
    assert recorder.steps == [[2, 3, 4, 5, 6, 7, 8]]


def test_states_are_few_and_none_runs_code(job_of):
    job = job_of()
    interrupted(job, 7)
    assert [path.name for path in states(job)] == ["state-00000004.safetensors", "state-00000006.safetensors"]
    assert {path.suffix for path in Path(job.output).with_suffix(".training").rglob("*") if path.is_file()} <= {
        *(".safetensors", ".json", ".png", ".csv", ".yaml"),
    }


def test_another_job_is_refused_by_name_and_restart_begins_anew(job_of):
    interrupted(job_of(), 3)
    other = job_of(learning_rate=0.01, augment={"elastic": {"sigma": 4}, "noise": 0.1})
    with pytest.raises(RunMismatchError, match=r"another training that is not finished") as refusal:
        train(other)
    assert "(augment.elastic.sigma: 10.0 there, 4.0 here; learning_rate: 0.02 there, 0.01 here)" in str(
        refusal.value
    )
    recorder = Recorder()
    train(other.model_copy(update={"restart": True}), listener=recorder)
    assert recorder.steps == [list(range(1, 9))]


def test_what_does_not_say_what_is_learnt_may_change(job_of):
    interrupted(job_of(), 3)
    recorder = Recorder()
    train(job_of(cache=1 << 20, loaders=1, time_limit=1e6), listener=recorder)
    assert recorder.steps == [[2, 3, 4, 5, 6, 7, 8]]


def test_changed_data_are_refused(job_of):
    job = job_of()
    interrupted(job, 3)
    shard = next(path for path in Path(job.pairs[0].target).rglob("c/*/*") if path.is_file())
    shard.write_bytes(shard.read_bytes())
    with pytest.raises(RunMismatchError, match=r"the data of pairs\.0\.target have changed"):
        train(job)


def test_a_training_that_diverges_keeps_its_last_good_weights_and_the_checkpoint(job_of, tmp_path, capsys):
    first = job_of(steps=2)
    train(first)
    before = digest(first.output)
    job = job_of(learning_rate=1e30, optimiser="sgd", schedule="constant", ema=0, clip=1e30, validate_every=1)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    assert run(["train", "--config", str(tmp_path / "job.yaml")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "training has diverged" in said
    assert "--restart and a learning_rate below 1e+30" in said
    assert digest(job.output) == before
    kept = Path(job.output).with_suffix(".training") / "last_good.safetensors"
    assert str(kept) in said
    assert "diverged" in read_header(kept).provenance["stopped"]
    assert load_model(kept) is not None


def test_a_training_that_diverges_at_once_leaves_nothing(job_of):
    network = NETWORK | {"norm": "none"}
    job = job_of(normalisation={"mean": [0, 0, 0], "std": [1e-36] * 3}, architecture=network)
    with pytest.raises(OvertileError, match=r"loss is (nan|inf) at step 1: .*nothing was written"):
        train(job)
    assert not Path(job.output).exists()
    assert not (Path(job.output).with_suffix(".training") / "last_good.safetensors").exists()


def test_folds_are_measured_apart_and_go_on_where_they_were(job_of, tmp_path):
    job = job_of(validation=None, split={"by": "block", "folds": 2, "guard": 4}, steps=4)
    with pytest.raises(KeyboardInterrupt):
        train(job, listener=StopsInFold())
    recorder = Recorder()
    found = train(job, listener=recorder)
    assert recorder.steps == [[2, 3, 4]], "the first fold is done, the second goes on"
    names = [f"model.fold{number}.safetensors" for number in (1, 2)]
    assert [Path(fold["checkpoint"]).name for fold in found["folds"]] == names
    assert all((tmp_path / name).exists() for name in names)
    assert not (tmp_path / "model.safetensors").exists()
    values = [fold["validation"]["mean_iou"] for fold in found["folds"]]
    assert found["summary"]["mean_iou"] == {
        "mean": pytest.approx(np.mean(values)),
        "std": pytest.approx(np.std(values, ddof=1)),
        "folds": 2,
    }
    boxes = [read_header(tmp_path / name).provenance["held_out"] for name in names]
    assert boxes[0] != boxes[1]
    assert states(job) == []


def test_a_worse_checkpoint_does_not_take_a_better_one_s_place_without_a_word(job_of):
    good = job_of(steps=60, ema=0, validate_every=20)
    found = train(good)
    recorder = Recorder()
    worse = train(job_of(steps=1, learning_rate=1e-9), listener=recorder)
    assert worse["validation"]["mean_iou"] < found["validation"]["mean_iou"]
    assert any("is replaced: the checkpoint there measured a mean IoU" in note for note in recorder.notes)
