"""A hundred processes and threads start one run at the same moment: one writes, ninety-nine are refused."""

import json
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from s3 import S3Server

PROCESSES, THREADS = 4, 20
STARTS = (PROCESSES + 1) * THREADS

STARTER = """
import json, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pipeline.errors import RunMismatchError
from pipeline.run.folder import RunFolder
from pipeline.run.lease import hold

PERIOD = 3.0  # seconds between two renewals on an object store

def start(output, name, other, wait):
    folder = RunFolder(output)
    try:
        recorded = folder.begin({"a": name if other else 1}, {"who": name})
        with hold(folder.place, period=PERIOD) as lease:
            say({"won": name, "who": recorded["who"], "epoch": lease.epoch})
            wait()
    except RunMismatchError as error:
        say({"refused": name, "text": str(error)})

lock = threading.Lock()

def say(document):
    with lock:
        print(json.dumps(document), flush=True)

def main(output, name, threads, other):
    print("ready", flush=True)
    sys.stdin.readline()
    ended = threading.Event()
    with ThreadPoolExecutor(int(threads)) as pool:
        for i in range(int(threads)):
            pool.submit(start, output, f"{name}.{i}", other == "other", ended.wait)
        sys.stdin.readline()
        ended.set()

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.fixture(scope="module")
def server():
    with S3Server(patience=30) as server:
        yield server


@pytest.fixture(params=["disk", "s3"])
def output(request, tmp_path):
    if request.param == "disk":
        return str(tmp_path / "out.zarr")
    return request.getfixturevalue("server").url(f"{tmp_path.name}/out.zarr")


class Starters:
    """Processes of many starting threads each; they wait for one word, and the winner for another."""

    def __init__(self, output, *, other):
        script = [sys.executable, "-c", STARTER, output]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self.all = [
            subprocess.Popen([*script, f"p{i}", str(THREADS), "other" if other else "same"], **pipes)
            for i in range(PROCESSES + 1)
        ]
        self.words = []
        self.enough = threading.Semaphore(0)

    def run(self):
        try:
            for process in self.all:
                assert process.stdout.readline() == "ready\n"
            with ThreadPoolExecutor(len(self.all)) as pool:
                listening = [pool.submit(self.listen, process) for process in self.all]
                self.tell()
                for _ in range(STARTS):
                    assert self.enough.acquire(timeout=120), self.words
                self.tell()
                for listened in listening:
                    listened.result()
        finally:
            for process in self.all:
                process.kill()
                process.communicate()
        return self.words

    def tell(self):
        for process in self.all:
            process.stdin.write("go\n")
            process.stdin.flush()

    def listen(self, process):
        for line in process.stdout:
            self.words.append(json.loads(line))
            self.enough.release()


def test_of_a_hundred_starts_of_one_run_one_writes(output):
    words = Starters(output, other=False).run()
    won = [word for word in words if "won" in word]
    refused = [word for word in words if "refused" in word]
    assert (len(won), len(refused)) == (1, STARTS - 1)
    assert STARTS == 100
    assert all("another process is writing to this run" in word["text"] for word in refused)
    assert won[0]["epoch"] == 1


def test_of_a_hundred_starts_of_different_runs_one_is_recorded(output):
    words = Starters(output, other=True).run()
    won = [word for word in words if "won" in word]
    reasons = Counter("another run" in word["text"] for word in words if "refused" in word)
    assert len(won) == 1
    assert reasons == {True: STARTS - 1}
    assert won[0]["won"] == won[0]["who"]
