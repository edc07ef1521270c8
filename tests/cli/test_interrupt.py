"""A run that is interrupted says so with 130, leaves no process behind, and is resumed by the same command."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from networks import make_checkpoint, make_image
from servers import family_of
from waiting import wait_until

from pipeline.run.folder import RunFolder
from pipeline.run.journal import replay
from pipeline.run.records import DONE
from pipeline.run.verify import verify

pytestmark = pytest.mark.slow

OVERTILE = str(Path(sys.executable).with_name("overtile"))
CHUNKS = 16 * 16


@pytest.fixture
def job(tmp_path):
    make_image(tmp_path / "in.zarr", (512, 512), shard=(256, 256))
    make_checkpoint(tmp_path / "model.safetensors", depth=2, width=4, padding="same")
    return [OVERTILE, "segment", "in.zarr", "out.zarr", "--model", "model.safetensors", "--chunk", "32,32",
            "--workers", "1", "--threads", "1", "--no-pyramid", "--json"]  # fmt: skip


def done(output):
    return {r.chunk for r in replay(RunFolder(output).journal) if r is not None and r.state == DONE}


def interrupt(job, folder, stop):
    """Start the job, stop it when a few more chunks are done, and return the process and what it said."""
    before = len(done(folder / "out.zarr"))
    process = subprocess.Popen(
        job,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_IGN
        ),  # as a shell starts what is in the background
    )
    try:
        wait_until(lambda: process.poll() is not None or len(done(folder / "out.zarr")) >= before + 3, 120)
        assert process.poll() is None, process.communicate()
        _, *children = family_of(process.pid)
        stop(process.pid)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert children, "there were workers"
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == [], "workers outlived the command"
    return process.returncode, out, err


WAYS = (
    lambda pid: os.kill(pid, signal.SIGINT),
    lambda pid: os.killpg(pid, signal.SIGINT),  # as a terminal does it: the workers get it too
    lambda pid: os.kill(pid, signal.SIGTERM),
)


def test_interrupted_in_every_way_and_resumed(job, tmp_path):
    kept = set()
    for stop in WAYS:
        code, out, err = interrupt(job, tmp_path, stop)
        assert code == 130, err
        assert out == ""
        assert "interrupted: what is finished is kept" in " ".join(err.split())
        assert "This is a fault in Overtile" not in err
        now = done(tmp_path / "out.zarr")
        assert kept < now, "what was done stays done"
        kept = now
        assert not RunFolder(tmp_path / "out.zarr").is_sealed
    assert len(kept) < CHUNKS

    state = subprocess.run(
        [OVERTILE, "status", "out.zarr", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = json.loads(state.stdout)
    assert (found["state"], found["done"], found["failed"]) == ("incomplete", len(kept), 0)
    assert found["pending"] == CHUNKS - len(kept)
    assert state.stderr == ""

    finished = subprocess.run(job, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["state"] == "sealed", "one document, and nothing else on stdout"
    assert verify(tmp_path / "out.zarr").ok
    records = [
        r.chunk for r in replay(RunFolder(tmp_path / "out.zarr").journal) if r is not None and r.state == DONE
    ]
    assert sorted(records) == list(range(CHUNKS)), "no chunk was recorded twice"
