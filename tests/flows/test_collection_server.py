"""A night at the server: a schedule fires by itself, an archive is gone through, and what failed is gone on with."""

import json
import os
import re
import shutil
import uuid
from dataclasses import replace

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

from flows.collection import collection_flow
from pipeline.config import CollectionJob
from pipeline.run.status import status
from pipeline.run.verify import verify
from pipeline.store import open_place

pytestmark = pytest.mark.slow

GOOD = ("a.zarr", "b.zarr", "c.zarr", "d.tif", "e.tif")
SETTINGS = {
    "chunk": [64, 64],
    "tile": [64, 64],
    "workers": 1,
    "threads": 1,
    "retries": 0,
    "settle": 0,
    "concurrency": 2,
}


@pytest.fixture
def archive(tmp_path, model):
    """Six images in two formats, one of which is none."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in "abc":
        make_image(scans / f"{name}.zarr", (128, 128), channels=1, shard=(64, 64))
    for seed, name in enumerate("de"):
        voxels = np.random.default_rng(seed).integers(0, 255, (128, 128), np.uint8)
        tifffile.imwrite(scans / f"{name}.tif", voxels, resolution=(20000, 20000), resolutionunit="CENTIMETER")
    shutil.copytree(scans / "a.zarr", scans / "broken.zarr")
    (scans / "broken.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type"')
    shutil.copy(model, tmp_path / "model.safetensors")
    return tmp_path


def deploy_collection(server, root, archive):
    """Register the collection anew, with parameters and a schedule of its own, as an operator would."""
    document = yaml.safe_load((root / "deployments" / "prefect.yaml").read_text())
    (entry,) = [each for each in document["deployments"] if each["name"] == "collection"]
    paths = {name: str(archive / name) for name in ("scans", "out", "model.safetensors")}
    entry["parameters"]["job"] = SETTINGS | dict(zip(("input", "output", "model"), paths.values(), strict=True))
    entry["parameters"]["with_reports"] = False
    entry["schedules"] = [{"slug": "watch", "interval": 15, "active": True}]
    file = archive / "prefect.yaml"
    file.write_text(yaml.safe_dump(document | {"deployments": [entry]}))
    server.prefect("deploy", "--all", "--prefect-file", str(file), cwd=root)


def stop_watching(client):
    """Switch the schedules of the collection off, with the runs that they have planned, and wait for those that are."""
    deployment = client.read_deployment_by_name("collection/collection")
    for schedule in deployment.schedules:
        client.update_deployment_schedule(deployment.id, schedule.id, active=False)
    begun = ("Running", "Pending", "Submitting")
    wait_until(lambda: not any(collections(client, state) for state in begun), seconds=180)


def collections(client, state):
    """The collection runs that have ended so, the first ones first."""
    flow = FlowFilter(name=FlowFilterName(any_=["collection"]))
    runs = client.read_flow_runs(flow_filter=flow, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=200)
    return [run for run in runs if run.state_name == state]


def artifact_of(client, run, key):
    ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=[key]))
    (artifact,) = client.read_artifacts(artifact_filter=ours)
    return json.loads(artifact.data)


def table_of(client, run):
    return {row["volume"].rpartition("/")[2]: row for row in artifact_of(client, run, "collection-volumes")}


def segments_of(client, output):
    """The flow runs that segment a volume, by its result."""
    flow = FlowFilter(name=FlowFilterName(any_=["segment"]))
    runs = client.read_flow_runs(flow_filter=flow, limit=200)
    return [run for run in runs if run.parameters["job"]["output"] == str(output)]


def events(client, name):
    wanted = {"filter": {"event": {"name": [name]}, "order": "ASC"}}
    return client._client.post("/events/filter", json=wanted).json()["events"]


def states(table):
    return {name: row["state"] for name, row in table.items()}


@pytest.mark.timeout(1500)
def test_a_night(deployed, root, archive):
    deploy_collection(deployed, root, archive)
    with deployed.process("worker", "start", "--pool", "overtile"), get_client(sync_client=True) as client:
        first = wait_until(lambda: collections(client, "Failed"), seconds=420)[0]
        assert re.search(r"1 of 6 volumes failed: \S*broken\.zarr: ", first.state.message)
        table = table_of(client, first)
        assert states(table) == dict.fromkeys(GOOD, "sealed") | {"broken.zarr": "failed"}
        assert table["a.zarr"]["chunks"] == 4
        assert "broken.zarr" in table["broken.zarr"]["error"]
        for name in "abcde":
            assert verify(archive / "out" / f"{name}.zarr").ok

        make_image(archive / "new.zarr", (128, 128), channels=1, shard=(64, 64))
        hole = archive / "new.zarr" / "0" / "c" / "0" / "0" / "0"
        hole.rename(archive / "kept")
        os.rename(archive / "new.zarr", archive / "scans" / "new.zarr")

        def with_new():
            ended = collections(client, "Failed")[1:]
            return [found for run in ended if "new.zarr" in (found := table_of(client, run))]

        table = wait_until(with_new, seconds=300)[0]
        stop_watching(client)
        assert states(table) == dict.fromkeys(GOOD, "unchanged") | {"broken.zarr": "failed", "new.zarr": "failed"}
        assert table["broken.zarr"]["seconds"] == 0, "what was refused is not tried again"
        done = {f"{name}.zarr": len(segments_of(client, archive / "out" / f"{name}.zarr")) for name in "abcde"}
        assert set(done.values()) == {1}, "later runs did nothing but what was new"
        assert len(segments_of(client, archive / "out" / "new.zarr")) == 1

        (failing,) = segments_of(client, archive / "out" / "new.zarr")
        rows = artifact_of(client, failing, "segment-failed-chunks")
        assert len(rows) == table["new.zarr"]["failed"] > 0
        assert all("c/0/0/0" in row["error"] and row["position"] in row["rerun"] for row in rows)

        output = archive / "out" / "new.zarr"
        (archive / "kept").rename(archive / "scans" / "new.zarr" / "0" / "c" / "0" / "0" / "0")
        rerun = client.read_deployment_by_name("rerun-failed/rerun-failed")
        again = client.create_flow_run_from_deployment(rerun.id, parameters={"output": str(output)})
        wait_until(lambda: client.read_flow_run(again.id).state.is_final(), seconds=240)
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


def put_tree(folder, url):
    """Upload a folder."""
    place = open_place(url)
    for path in folder.rglob("*"):
        if path.is_file():
            place.put(path.relative_to(folder).as_posix(), path.read_bytes())


def test_each_volume_as_a_run_of_a_deployment_from_disks_and_buckets(deployed, model, s3, tmp_path):
    make_image(tmp_path / "far.zarr", (128, 128), channels=1, shard=(64, 64))
    put_tree(tmp_path / "far.zarr", s3.url("scans/far.zarr"))
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    manifest = tmp_path / "archive.csv"
    manifest.write_text(f"path\n{s3.url('scans/far.zarr')}\n{tmp_path / 'broken.zarr'}\n")
    paths = {"input": str(manifest), "output": str(tmp_path / "out"), "model": str(model)}
    job = CollectionJob(**SETTINGS | paths)
    with_store = replace(deployed, environment=deployed.environment | s3.environment)
    with with_store.process("worker", "start", "--pool", "overtile"), get_client(sync_client=True) as client:

        def collect():
            state = collection_flow(job, "segment/segment", with_reports=False, return_state=True)
            assert re.search(r"1 of 2 volumes failed: \S*broken\.zarr: ", state.message)
            return states(table_of(client, client.read_flow_run(state.state_details.flow_run_id)))

        assert collect() == {"far.zarr": "sealed", "broken.zarr": "failed"}
        segment = client.read_deployment_by_name("segment/segment").id
        (far,) = segments_of(client, tmp_path / "out" / "far.zarr")
        (broken,) = segments_of(client, tmp_path / "out" / "broken.zarr")
        assert (far.deployment_id, far.state_name) == (segment, "Completed")
        assert (broken.deployment_id, broken.state_name) == (segment, "Failed")
        assert far.parent_task_run_id is not None, "it is shown below the collection's run"
        assert verify(tmp_path / "out" / "far.zarr").ok
        assert collect() == {"far.zarr": "unchanged", "broken.zarr": "failed"}
        assert len(segments_of(client, tmp_path / "out" / "far.zarr")) == 1
        assert len(segments_of(client, tmp_path / "out" / "broken.zarr")) == 1
