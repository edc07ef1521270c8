"""From a bare server to a run of a deployment, with the commands of deployments/README.md."""

import json
import re
from pathlib import Path

import psutil
import pytest
import yaml
from networks import make_image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.flows import load_flow_from_entrypoint
from prefect.states import Cancelling
from waiting import wait_until

import pipeline
from pipeline.config import EvaluateJob, IngestJob, SegmentJob, TrainJob
from pipeline.run.folder import RunFolder
from pipeline.run.status import status

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]
JOBS = {"ingest": IngestJob, "segment": SegmentJob, "train": TrainJob, "evaluate": EvaluateJob}


@pytest.fixture(scope="module")
def deployed(server):
    server.prefect("work-pool", "create", "overtile", "--type", "process")
    server.prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml", cwd=ROOT)
    return server


@pytest.mark.parametrize("each", DEPLOYMENTS, ids=lambda each: each["name"])
def test_every_deployment_names_a_flow_and_gives_it_valid_parameters(each):
    flow = load_flow_from_entrypoint(each["entrypoint"], use_placeholder_flow=False)
    assert flow.name == each["name"]
    flow.validate_parameters(each["parameters"])
    if each["name"] in JOBS:
        JOBS[each["name"]].model_validate(each["parameters"]["job"])
    assert not any(schedule["active"] for schedule in each["schedules"])
    assert each["concurrency_limit"] >= 1
    assert each["work_pool"]["job_variables"] == {"stream_output": False}


def test_the_guide_names_every_deployment():
    guide = (ROOT / "deployments" / "README.md").read_text()
    assert all(f"`{each['name']}/{each['name']}`" in guide for each in DEPLOYMENTS)


@pytest.mark.slow
def test_a_run_of_a_deployment_seals_the_volume(deployed, model, tmp_path):
    make_image(tmp_path / "image.zarr", (960, 960), channels=1, shard=(64, 64))
    output = tmp_path / "out.zarr"
    job = {
        "input": str(tmp_path / "image.zarr"),
        "output": str(output),
        "model": str(model),
        "chunk": [64, 64],
        "tile": [64, 64],
        "workers": 1,
        "threads": 1,
    }
    parameters = json.dumps({"job": job, "regions": 2})
    watching = (
        "deployment",
        "run",
        "segment/segment",
        "--params",
        parameters,
        "--watch",
        "--watch-timeout",
        "120",
    )
    with deployed.process(*watching) as run, get_client(sync_client=True) as client:
        scheduled = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Scheduled"])))
        (flow_run,) = wait_until(lambda: client.read_flow_runs(flow_run_filter=scheduled))
        deployed.prefect("worker", "start", "--pool", "overtile", "--run-once")
        assert run.wait(120) == 0, (deployed.home / "deployment.log").read_text()
        ours = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
        task_runs = wait_until(
            lambda: found if len(found := client.read_task_runs(flow_run_filter=ours)) > 7 else []
        )
    assert len(task_runs) == 8, "6 phases and 2 regions, for 225 chunks"
    assert status(output)["state"] == "sealed"
    assert status(output)["done"] == 225


@pytest.mark.slow
def test_a_cancelled_run_stops_leaves_no_process_and_is_resumed(deployed, model, tmp_path):
    make_image(tmp_path / "image.zarr", (2560, 2560), channels=1, shard=(64, 64))
    output = tmp_path / "out.zarr"
    paths = {"input": str(tmp_path / "image.zarr"), "output": str(output), "model": str(model)}
    job = paths | {"chunk": [64, 64], "tile": [64, 64], "workers": 1, "threads": 1}
    parameters = json.dumps({"job": job, "regions": 2})
    with (
        deployed.process("worker", "start", "--pool", "overtile") as worker,
        get_client(sync_client=True) as client,
    ):
        deployed.prefect("deployment", "run", "segment/segment", "--params", parameters)
        wait_until(lambda: RunFolder(output).exists and status(output)["done"] > 20, seconds=120)
        ours = psutil.Process(worker.pid).children(recursive=True)
        assert ours, "the flow run and its Dask worker are processes below Prefect's worker"
        running = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Running"])))
        (flow_run,) = client.read_flow_runs(flow_run_filter=running)
        client.set_flow_run_state(flow_run.id, Cancelling())
        wait_until(lambda: not any(process.is_running() for process in ours), seconds=90)
        wait_until(lambda: client.read_flow_run(flow_run.id).state_name == "Cancelled", seconds=60)
    found = status(output)
    assert found["state"] == "incomplete"
    assert 20 < found["done"] < found["total"]
    assert found["failed"] == 0, "nobody is to blame for a run that was cancelled"
    resumed = pipeline.segment(SegmentJob(**job))
    assert (resumed["state"], resumed["done"]) == ("sealed", 1600)


@pytest.mark.slow
def test_the_server_refuses_what_no_job_can_be(deployed):
    job = json.dumps({"input": "a", "output": "b.zarr", "model": "c", "retries": -1})
    with pytest.raises(AssertionError, match="less than the minimum of 0"):
        deployed.prefect("deployment", "run", "segment/segment", "--param", f"job={job}")


@pytest.mark.slow
def test_a_schedule_that_is_switched_on_makes_runs_with_the_parameters(deployed):
    listed = deployed.prefect("deployment", "schedule", "ls", "report/report")
    schedule = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", listed).group()
    deployed.prefect("deployment", "schedule", "resume", "report/report", schedule)
    with get_client(sync_client=True) as client:
        flow = FlowFilter(name=FlowFilterName(any_=["report"]))
        runs = wait_until(lambda: client.read_flow_runs(flow_filter=flow), seconds=90)
    assert [run.parameters for run in runs] == [{"output": "/data/prediction.zarr"}] * len(runs)
    deployed.prefect("deployment", "schedule", "pause", "report/report", schedule)
