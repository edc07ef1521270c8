"""Several processes that train one network: as one process would, to rounding; and what happens when one dies."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from flows.shapes import CLASS_NAMES, render
from pipeline.config import TrainJob
from pipeline.errors import EnvironmentFaultError, InputError
from pipeline.jobs.training import train

NETWORK = {"in_channels": 3, "classes": 1, "depth": 2, "width": 4, "padding": "same", "norm": "none"}
ROOT = Path(__file__).parents[2]


class Recorder:
    """Notes everything; does something at a step."""

    def __init__(self, at=None, act=None):
        self.steps, self.notes = [], []
        self._at, self._act = at, act

    def phase(self, name, total, unit):
        pass

    def progress(self, done, failed=0):
        self.steps.append(done)
        if done == self._at:
            self._act()

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def job_of(make_pair, tmp_path):
    pairs = [make_pair(*render((0, 0), (160, 160), seed=seed), chunks=(3, 64, 64)) for seed in (1, 2)]

    def make(name="model", **changes):
        values = {
            "pairs": pairs[:1],
            "validation": pairs[1:],
            "output": str(tmp_path / f"{name}.safetensors"),
            "architecture": NETWORK,
            "classes": CLASS_NAMES,
            "patch": (32, 32),
            "batch": 4,
            "steps": 8,
            "validate_every": 2,
            "learning_rate": 0.02,
            "ema": 0.9,
            "device": "cpu",
            "threads": 1,
            "loaders": 1,
        } | changes
        return TrainJob.model_validate(values)

    return make


def close(one, other):
    """Whether weights are the same, but for the order of sums."""
    tensors = load_file(one.output), load_file(other.output)
    return all((tensors[0][name] - tensors[1][name]).abs().max() < 1e-4 for name in tensors[0])


@pytest.mark.slow
def test_two_processes_learn_what_one_does(job_of):
    one, two = job_of("one"), job_of("two", devices=2)
    recorder = Recorder()
    alone, together = train(one), train(two, listener=recorder)
    assert recorder.steps == list(range(1, 9))
    assert together["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    scores = [[point["validation"]["mean_iou"] for point in found["curve"]] for found in (alone, together)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert close(one, two)
    assert multiprocessing.active_children() == []


def children():
    """Return the processes of this one that train."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            command = (process / "cmdline").read_text()
        except OSError:
            continue
        if parent == os.getpid() and "spawn_main" in command:
            found.append(int(process.name))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds its processes in /proc")
def test_a_process_that_dies_ends_all_of_them_and_the_training_goes_on(job_of):
    job = job_of(devices=2, steps=400)
    with pytest.raises(EnvironmentFaultError, match=r"died \(signal SIGKILL\); run it again to go on"):
        train(job, listener=Recorder(7, lambda: os.kill(children()[-1], signal.SIGKILL)))
    assert children() == []

    class StopError(Exception):
        pass

    def stop():
        raise StopError

    recorder = Recorder(50, stop)
    with pytest.raises(StopError):
        train(job, listener=recorder)
    assert children() == []
    (went_on,) = [note for note in recorder.notes if note.startswith("goes on after step")]
    assert recorder.steps[0] == int(went_on.rpartition(" ")[2]) > 0


@pytest.mark.slow
def test_what_is_refused_is_refused_as_by_one_process(job_of):
    with pytest.raises(InputError, match=r"batch 3: 2 processes train together.* make it 4"):
        train(job_of(devices=2, batch=3))
    assert children() == []
    assert not Path(job_of().output).with_suffix(".training").exists()


def test_a_dry_run_plans_a_batch_that_can_be_shared(job_of):
    found = train(job_of(devices=3, batch=None, dry_run=True))
    (batch,) = [each for each in found["plan"] if each["name"] == "batch"]
    assert batch["value"] % 3 == 0
    assert "3 devices take" in batch["reason"]
    with pytest.raises(InputError, match="make it 6"):
        train(job_of(devices=3, batch=4, dry_run=True))


@pytest.mark.slow
def test_torchrun_starts_the_command_as_on_several_machines(job_of, tmp_path):
    job = job_of("torchrun", steps=4)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    program = tmp_path / "program.py"
    program.write_text("from pipeline.cli.main import main; main()")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *(str(program), "train", "--config", str(tmp_path / "job.yaml"), "--json"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = train(job_of("one", steps=4))
    assert len(re.findall("step 4: loss", done.stderr)) == 1
    found = json.loads(done.stdout)
    assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5)
    assert close(job, job_of("one"))
