"""The Prefect server is killed in the middle of a run: the run goes on, is sealed, and says nothing but the truth."""

import json
import os
import subprocess
import sys

import pytest
from networks import make_image
from servers import end, family_of, kill, prefect_server, words_of
from waiting import wait_until

from pipeline.run.folder import RunFolder
from pipeline.run.status import status
from pipeline.run.verify import verify
from pipeline.store import open_place
from pipeline.volume.state import read_attributes

pytestmark = pytest.mark.slow

FLOW = """
import json, sys
from flows.segment import segment_flow
from pipeline.config import SegmentJob

if __name__ == "__main__":
    segment_flow(SegmentJob(**json.loads(sys.argv[1])), regions=4)
"""

CHUNKS = 256


def kill_server(server):
    """Kill the server and what it has started, by process id and without a word."""
    port = server.url.split(":")[2].split("/")[0]
    for process in family_of(os.getpid()):
        words = words_of(process)
        if "server" in words and port in words:
            kill(family_of(process.pid))


def test_a_run_outlives_the_prefect_server(tmp_path, model):
    make_image(tmp_path / "image.zarr", (1024, 1024), channels=1, shard=(64, 64))
    output = tmp_path / "out.zarr"
    paths = {"input": str(tmp_path / "image.zarr"), "output": str(output), "model": str(model)}
    job = paths | {"chunk": (64, 64), "tile": (64, 64), "workers": 1, "threads": 1}
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "home").mkdir()
    with prefect_server(tmp_path / "home") as server, (tmp_path / "flow.log").open("wb") as log:
        command = [sys.executable, str(tmp_path / "flow.py"), json.dumps(job)]
        flow = subprocess.Popen(command, env=server.environment, stdout=log, stderr=log)
        try:
            wait_until(lambda: RunFolder(output).exists and status(output)["done"] > 10, seconds=120)
            kill_server(server)
            assert status(output)["done"] < CHUNKS, "the server was killed too late for this test to say anything"
            wait_until(
                lambda: flow.poll() is not None or "ome" in read_attributes(open_place(output)), seconds=120
            )
        finally:
            end(flow)
    found = status(output)
    assert (found["state"], found["done"], found["failed"]) == ("sealed", CHUNKS, 0), (
        tmp_path / "flow.log"
    ).read_text()
    assert verify(output).ok
