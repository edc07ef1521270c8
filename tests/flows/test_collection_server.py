"""A night at the server: a schedule fires by itself, an archive is gone through, and what failed is gone on with."""

import importlib.util
import json
import os
import re
import shutil
import uuid

import numpy as np
import pytest
import tifffile
import yaml
from networks import make_image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowFilter,
    FlowFilterName,
)
from prefect.client.schemas.sorting import FlowRunSort
from waiting import wait_until

from pipeline.run.status import status
from pipeline.run.verify import verify

pytestmark = pytest.mark.slow

FILES = importlib.util.find_spec("pipeline.volume.file_image") is not None
"""Whether images are read as they are."""


@pytest.fixture
def archive(tmp_path, model):
    """Three images, one of them a TIFF where that is read, and one that is none."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a", "b"):
        make_image(scans / f"{name}.zarr", (128, 128), channels=1, shard=(64, 64))
    if FILES:
        voxels = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
        tifffile.imwrite(scans / "c.tif", voxels, resolution=(20000, 20000), resolutionunit="CENTIMETER")
    else:
        make_image(scans / "c.zarr", (128, 128), channels=1, shard=(64, 64))
    shutil.copytree(scans / "a.zarr", scans / "broken.zarr")
    (scans / "broken.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type"')
    shutil.copy(model, tmp_path / "model.safetensors")
    return tmp_path


def deploy_collection(server, root, archive):
    """Register the collection anew, with parameters and a schedule of its own, as an operator would."""
    document = yaml.safe_load((root / "deployments" / "prefect.yaml").read_text())
    (entry,) = [each for each in document["deployments"] if each["name"] == "collection"]
    entry["parameters"]["job"] = {
        "input": str(archive / "scans"),
        "output": str(archive / "out"),
        "model": str(archive / "model.safetensors"),
        "chunk": [64, 64],
        "tile": [64, 64],
        "workers": 1,
        "threads": 1,
        "retries": 0,
        "settle": 0,
        "concurrency": 2,
    }
    entry["parameters"]["with_reports"] = False
    entry["schedules"] = [{"slug": "watch", "interval": 15, "active": True}]
    file = archive / "prefect.yaml"
    file.write_text(yaml.safe_dump(document | {"deployments": [entry]}))
    server.prefect("deploy", "--all", "--prefect-file", str(file), cwd=root)


def collections(client, state):
    """The collection runs that have ended so, the first ones first."""
    flow = FlowFilter(name=FlowFilterName(any_=["collection"]))
    runs = client.read_flow_runs(flow_filter=flow, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=200)
    return [run for run in runs if run.state_name == state]


def table_of(client, run):
    ours = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=["collection-volumes"])
    )
    (artifact,) = client.read_artifacts(artifact_filter=ours)
    return {row["volume"].rpartition("/")[2]: row for row in json.loads(artifact.data)}


def events(client, name):
    wanted = {"filter": {"event": {"name": [name]}, "order": "ASC"}}
    return client._client.post("/events/filter", json=wanted).json()["events"]


def test_a_night(deployed, root, archive):
    third = "c.tif" if FILES else "c.zarr"
    deploy_collection(deployed, root, archive)
    with deployed.process("worker", "start", "--pool", "overtile"), get_client(sync_client=True) as client:
        first = wait_until(lambda: collections(client, "Failed"), seconds=240)[0]
        assert re.search(r"1 of 4 volumes failed: \S*broken\.zarr: ", first.state.message)
        table = table_of(client, first)
        assert {name: row["state"] for name, row in table.items()} == {
            "a.zarr": "sealed",
            "b.zarr": "sealed",
            third: "sealed",
            "broken.zarr": "failed",
        }
        assert table["a.zarr"]["chunks"] == 4
        assert "broken.zarr" in table["broken.zarr"]["error"]
        for name in "abc":
            assert verify(archive / "out" / f"{name}.zarr").ok

        make_image(archive / "new.zarr", (128, 128), channels=1, shard=(64, 64))
        hole = archive / "new.zarr" / "0" / "c" / "0" / "0" / "0"
        hole.rename(archive / "kept")
        os.rename(archive / "new.zarr", archive / "scans" / "new.zarr")

        def with_new():
            ended = collections(client, "Failed")[1:]
            return [found for run in ended if "new.zarr" in (found := table_of(client, run))]

        table = wait_until(with_new, seconds=120)[0]
        client.delete_deployment(client.read_deployment_by_name("collection/collection").id)
        wait_until(lambda: not (collections(client, "Running") or collections(client, "Pending")), seconds=120)
        assert {name: row["state"] for name, row in table.items()} == {
            "a.zarr": "unchanged",
            "b.zarr": "unchanged",
            third: "unchanged",
            "broken.zarr": "failed",
            "new.zarr": "failed",
        }
        assert table["new.zarr"]["failed"] > 0
        assert table["broken.zarr"]["seconds"] == 0, "what was refused is not tried again"

        output = archive / "out" / "new.zarr"
        (archive / "kept").rename(archive / "scans" / "new.zarr" / "0" / "c" / "0" / "0" / "0")
        rerun = client.read_deployment_by_name("rerun-failed/rerun-failed")
        again = client.create_flow_run_from_deployment(rerun.id, parameters={"output": str(output)})
        wait_until(lambda: client.read_flow_run(again.id).state.is_final(), seconds=120)
        assert client.read_flow_run(again.id).state.is_completed()
        assert status(output)["state"] == "sealed"
        assert verify(output).ok

        sealed = wait_until(lambda: [e for e in events(client, "overtile.run.sealed") if str(output) in str(e)])[0]
        related = {each["prefect.resource.role"]: each["prefect.resource.id"] for each in sealed["related"]}
        assert related["flow-run"] == f"prefect.flow-run.{again.id}"
        assert related["deployment"] == f"prefect.deployment.{rerun.id}"
        failed = [e for e in events(client, "overtile.run.failed") if str(output) in str(e)]
        assert [e["payload"]["failed"] for e in failed] == [table["new.zarr"]["failed"]]
        assert uuid.UUID(failed[0]["id"])
