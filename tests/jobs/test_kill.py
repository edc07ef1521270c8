"""The second promise: kill anything at any time; the same command goes on, and the bytes come out the same."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from networks import make_checkpoint, make_image
from servers import family_of, kill, words_of

from pipeline.run.folder import RunFolder
from pipeline.run.journal import replay
from pipeline.run.records import DONE
from pipeline.run.status import status
from pipeline.run.verify import verify

pytestmark = pytest.mark.slow

OVERTILE = [str(Path(sys.executable).with_name("overtile"))]
WORKERS = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("kill")
    make_image(root / "in.zarr", (900, 900), channels=1, shard=(64, 64))
    make_checkpoint(root / "model.safetensors", depth=3, width=16, padding="same", norm="batch")
    return root


def start(place, output):
    command = [
        *OVERTILE,
        "segment",
        str(place / "in.zarr"),
        str(output),
        "--model",
        str(place / "model.safetensors"),
    ]
    command += ["--chunk", "64,64", "--tile", "64,64", "--workers", str(WORKERS), "--threads", "1", "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def done_lines(output):
    folder = RunFolder(output)
    return [r.chunk for r in replay(folder.journal) if r is not None and r.state == DONE] if folder.exists else []


def wait_for_more(driver, output, count, seconds=120):
    deadline = time.monotonic() + seconds
    while len(done_lines(output)) < count and driver.poll() is None:
        assert time.monotonic() < deadline, "no progress"
        driver_is_gone(driver, 0.05)
    return len(done_lines(output))


def driver_is_gone(driver, seconds):
    try:
        driver.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def worker_processes(driver):
    return [c for c in family_of(driver.pid) if "spawn_main" in " ".join(words_of(c))]


def test_sigkill_of_workers_and_of_the_driver_at_random_moments(place):
    chance = random.Random(7)
    undisturbed = place / "undisturbed.zarr"
    driver = start(place, undisturbed)
    out, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, err
    expected = json.loads(out)["seal"]["root"]
    total = json.loads(out)["total"]
    assert total == 225

    output, kills = place / "killed.zarr", {"driver": 0, "worker": 0}
    driver, orphans = start(place, output), []
    while driver.poll() is None and kills["driver"] < 2:
        seen = wait_for_more(driver, output, len(done_lines(output)) + chance.randint(5, 25))
        if driver.poll() is not None or seen > total - 60:
            break
        workers = worker_processes(driver)
        if kills["worker"] % 3 == 2 or not workers:
            orphans += workers
            driver.kill()
            driver.communicate()
            kills["driver"] += 1
            kills["worker"] += 1
            driver = start(place, output)
        else:
            kill([chance.choice(workers)])
            kills["worker"] += 1
    out, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, err
    found = json.loads(out)
    assert kills["driver"] >= 1
    assert kills["worker"] >= 3
    assert found["state"] == "sealed"
    assert found["done"] == total
    assert found["seal"]["root"] == expected

    assert verify(output).ok
    assert status(output)["failed"] == 0
    lines = done_lines(output)
    assert sorted(lines) == list(range(total)), "what was recorded as done has not been computed again"
    _, alive = psutil.wait_procs(orphans, timeout=30)
    assert not alive, "worker processes outlived their driver"


def test_done_chunks_are_not_computed_again(place):
    output = place / "resumed.zarr"
    driver = start(place, output)
    wait_for_more(driver, output, 60)
    driver.kill()
    driver.communicate()
    before = done_lines(output)
    driver = start(place, output)
    _, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, err
    after = done_lines(output)
    assert sorted(after) == list(range(225)), "each chunk has been done once over both runs"
    assert set(before) <= set(after)
