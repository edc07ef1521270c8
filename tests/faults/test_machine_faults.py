"""A full disk, a clock that jumps, a network that gives NaN, a dead process's lease: each ends well, or is said."""

import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from faults import Crash, Faults, failing_places
from inline import drive, look, stored, tiny_job
from networks import make_checkpoint, make_image
from s3 import S3Server

from pipeline.errors import FailedChunksError
from pipeline.model.checkpoint import read_header
from pipeline.model.weights import load_model, save_checkpoint
from pipeline.run.folder import RunFolder
from pipeline.run.ledger import Ledger

FILL = """
import json, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from inline import REFUSALS, drive, look, tiny_job

def mount(*options):
    subprocess.run(["mount", "-t", "tmpfs", *options], check=True)

root, disk = Path(sys.argv[1]), Path(sys.argv[2])
mount("-o", "size=4k,nr_inodes=400", "tmpfs", str(disk))
job, stopped = tiny_job(root, disk / "out.zarr", kind="probabilities", dtype="float32"), []
for pages in range(2, 100):
    try:
        drive(job)
        break
    except REFUSALS as error:
        stopped.append(str(error))
        look(job.output)
    mount("-o", f"remount,size={4 * pages}k", "tmpfs", str(disk))
found = look(job.output)
print(json.dumps({"state": found.state, "root": found.root, "stopped": stopped}))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("machine")
    make_image(root / "image.zarr", (64, 64), channels=1, shard=(32, 32))
    make_checkpoint(root / "model.safetensors", depth=1, width=2, padding="same")
    return root


@pytest.fixture(scope="module")
def expected(root):
    drive(tiny_job(root, root / "undisturbed.zarr"))
    return look(root / "undisturbed.zarr").root, stored(root / "undisturbed.zarr")


@pytest.fixture(scope="module")
def server():
    with S3Server(patience=0.5) as server:
        yield server


class Impatient:
    """A clock for those who wait for a dead holder's lease: waiting takes no time."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def can_mount():
    """Whether this user may mount a small file system of his own."""
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return tried.returncode == 0


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_run_and_room_lets_it_go_on(root, tmp_path):
    if not can_mount():
        pytest.skip("no user namespaces here: a small disk cannot be mounted")
    job = tiny_job(root, tmp_path / "roomy.zarr", kind="probabilities", dtype="float32")
    drive(job)
    (tmp_path / "disk").mkdir()
    support = str(Path(__file__).parents[1] / "support")
    ended = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", FILL, str(root), str(tmp_path / "disk"), support],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert (found["state"], found["root"]) == ("sealed", look(job.output).root)
    assert len(found["stopped"]) > 5
    assert all("No space left on device" in text for text in found["stopped"]), found["stopped"]


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_a_clock_that_jumps_changes_nothing(root, expected, server, tmp_path, monkeypatch, where):
    output = str(tmp_path / "out.zarr") if where == "disk" else server.url("clock/out.zarr")
    jumps = itertools.cycle([3600.0, -3600.0, 0.0, -1e9, 1e9])
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + next(jumps))

    def die(chunk):
        if chunk == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(tiny_job(root, output), before=die)
    drive(tiny_job(root, output))
    assert (look(output).state, look(output).root) == ("sealed", expected[0])
    assert stored(output) == expected[1]


def test_a_network_that_gives_no_numbers_fails_its_chunks_and_stores_nothing(root, tmp_path):
    model = load_model(root / "model.safetensors")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1e30)  # a number itself, but not what becomes of it
    save_checkpoint(tmp_path / "broken.safetensors", model, read_header(root / "model.safetensors"))
    job = tiny_job(root, tmp_path / "out.zarr", model=str(tmp_path / "broken.safetensors"))
    with pytest.raises(FailedChunksError):
        drive(job)
    assert stored(job.output) == {}
    failures = Ledger(RunFolder(job.output).journal, 4).failures
    assert {record.kind for record in failures.values()} == {"NonFiniteError"}
    assert len(failures) == 4
    assert look(job.output).published is False


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_the_lease_of_a_dead_process_is_taken_over(root, expected, server, tmp_path, monkeypatch, where):
    output = str(tmp_path / "out.zarr") if where == "disk" else server.url("lease/out.zarr")
    with failing_places(Faults()) as counted:
        drive(tiny_job(root, f"{output}.again.zarr"))
    with failing_places(Faults(counted.names.index("append") + 2, "crash")), pytest.raises(Crash):
        drive(tiny_job(root, output))
    left = json.loads(RunFolder(output).place.get("lease.json"))
    assert not left["free"]
    monkeypatch.setattr("pipeline.run.lease.time", Impatient())
    drive(tiny_job(root, output))
    assert (look(output).state, look(output).root) == ("sealed", expected[0])
    assert json.loads(RunFolder(output).place.get("lease.json"))["epoch"] > left["epoch"]
