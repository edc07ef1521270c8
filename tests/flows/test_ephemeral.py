"""The main flow where there is no server: Prefect starts one of its own, for this process alone."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from networks import make_image

from pipeline.run.status import status
from pipeline.run.verify import verify

pytestmark = pytest.mark.slow

FLOW = """
import json, sys
from flows.segment import segment_flow

if __name__ == "__main__":
    segment_flow(json.loads(sys.argv[1]), regions=2)
"""


def test_the_flow_seals_a_volume_with_an_ephemeral_server(tmp_path, model):
    make_image(tmp_path / "image.zarr", (128, 128), channels=1, shard=(64, 64))
    output, home = tmp_path / "out.zarr", tmp_path / "home"
    paths = {"input": str(tmp_path / "image.zarr"), "output": str(output), "model": str(model)}
    job = paths | {"chunk": [64, 64], "tile": [64, 64], "workers": 1, "threads": 1}
    (tmp_path / "flow.py").write_text(FLOW)
    nobody = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    ours = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, str(tmp_path / "flow.py"), json.dumps(job)]
    done = subprocess.run(command, env=nobody | ours, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (status(output)["state"], status(output)["done"]) == ("sealed", 4)
    assert verify(output).ok
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        runs = database.execute("SELECT state_type FROM flow_run").fetchall()
    assert runs == [("COMPLETED",)]
