"""From a bare server to a run of a deployment, with the commands of docs/operations.md."""

import json
import re
from pathlib import Path

import prefect
import pytest
import yaml
from networks import make_image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.templating import apply_values
from prefect.workers.base import BaseJobConfiguration
from prefect.workers.process import ProcessJobConfiguration
from waiting import wait_until

from pipeline.config import AggregateJob, CollectionJob, CompareJob, EvaluateJob, IngestJob, SegmentJob, TrainJob
from pipeline.run.status import status

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]
JOBS = {
    "aggregate": AggregateJob,
    "collection": CollectionJob,
    "compare": CompareJob,
    "evaluate": EvaluateJob,
    "ingest": IngestJob,
    "segment": SegmentJob,
    "train": TrainJob,
}
POOLS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "deployments" / "pools").glob("*.json")}
AUTOMATIONS = sorted((ROOT / "deployments" / "automations").glob("*.yaml"))
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize("each", DEPLOYMENTS, ids=lambda each: each["name"])
def test_every_deployment_names_a_flow_and_gives_it_valid_parameters(each):
    flow = load_flow_from_entrypoint(each["entrypoint"], use_placeholder_flow=False)
    assert flow.name == each["name"]
    flow.validate_parameters(each["parameters"])
    if each["name"] in JOBS:
        JOBS[each["name"]].model_validate(each["parameters"]["job"])
    assert not any(schedule["active"] for schedule in each["schedules"])
    limit = each["concurrency_limit"]
    assert (limit["limit"] if isinstance(limit, dict) else limit) >= 1
    variables = each["work_pool"]["job_variables"]
    assert variables["stream_output"] is False
    assert variables["env"] == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}


def test_there_is_a_deployment_of_every_flow_that_an_operator_needs():
    names = {each["name"] for each in DEPLOYMENTS}
    assert names == {
        *("ingest", "segment", "collection", "rerun-failed", "verify"),
        *("train", "compare", "evaluate", "aggregate", "report"),
    }
    schedules = [schedule for each in DEPLOYMENTS for schedule in each["schedules"]]
    assert any("cron" in schedule for schedule in schedules)
    assert any("interval" in schedule for schedule in schedules)


def test_the_guide_names_every_deployment():
    guide = (ROOT / "docs" / "operations.md").read_text()
    assert all(f"`{each['name']}/{each['name']}`" in guide for each in DEPLOYMENTS)


@pytest.mark.parametrize("kind", POOLS)
def test_a_pool_s_template_fits_its_kind_of_worker(kind):
    template = POOLS[kind]
    variables = template["variables"]["properties"]
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert used == set(variables), "each variable is used, and each that is used is described"
    assert variables["stream_output"]["default"] is False
    known = ProcessJobConfiguration if kind == "process" else BaseJobConfiguration
    defaults = {name: each["default"] for name, each in variables.items() if "default" in each}
    filled = apply_values(template["job_configuration"], defaults | {"name": "a run", "env": {"A": "b"}})
    assert known(**filled).env == {"A": "b"}
    assert "{{" not in json.dumps(filled)
    views = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
    (theirs,) = [found[kind] for found in json.loads(views.read_text()).values() if kind in found]
    assert set(variables) - set(theirs["default_base_job_configuration"]["variables"]["properties"]) <= {
        *("data_claim", "secret_name", "cpu", "memory", "gpus"),
    }
    assert set(template["job_configuration"]) <= set(theirs["default_base_job_configuration"]["job_configuration"])


@pytest.mark.slow
def test_pools_and_automations_are_made_with_the_commands_of_their_files(deployed, tmp_path):
    for kind in ("docker", "kubernetes"):
        template = str(ROOT / "deployments" / "pools" / f"{kind}.json")
        made = ("work-pool", "create", f"overtile-{kind}", "--type", kind, "--base-job-template", template)
        deployed.prefect(*made)
    with get_client(sync_client=True) as client:
        assert client.read_work_pool("overtile-docker").base_job_template == POOLS["docker"]
        rerun = client.read_deployment_by_name("rerun-failed/rerun-failed")
        for path in AUTOMATIONS:
            file = tmp_path / path.name
            file.write_text(path.read_text().replace(NOBODY, str(rerun.id)))
            deployed.prefect("automation", "create", "--from-file", str(file))
        found = {each["name"]: each for each in client._client.post("/automations/filter", json={}).json()}
        assert len(found) == 5
        assert all(name.startswith("overtile: ") and each["enabled"] for name, each in found.items())
        for each in found.values():
            client._client.delete(f"/automations/{each['id']}")


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
        segment = DeploymentFilter(name=DeploymentFilterName(any_=["segment"]))
        asked = {"flow_run_filter": scheduled, "deployment_filter": segment}
        (flow_run,) = wait_until(lambda: client.read_flow_runs(**asked))
        deployed.prefect("worker", "start", "--pool", "overtile", "--run-once")
        assert run.wait(120) == 0, (deployed.home / "deployment.log").read_text()
        ours = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
        task_runs = wait_until(
            lambda: found if len(found := client.read_task_runs(flow_run_filter=ours)) > 8 else []
        )
    assert len(task_runs) == 9, "7 phases and 2 regions, for 225 chunks"
    assert status(output)["state"] == "sealed"
    assert status(output)["done"] == 225


@pytest.mark.slow
def test_the_server_refuses_what_no_job_can_be(deployed):
    job = json.dumps({"input": "a", "output": "b.zarr", "model": "c", "retries": -1})
    with pytest.raises(AssertionError, match="less than the minimum of 0"):
        deployed.prefect("deployment", "run", "segment/segment", "--param", f"job={job}")


@pytest.mark.slow
def test_the_server_refuses_credentials_in_an_address(deployed):
    job = json.dumps({"input": "s3://key:CANARY@bucket/image.zarr", "output": "b.zarr", "model": "c"})
    with pytest.raises(AssertionError, match="does not match"):
        deployed.prefect("deployment", "run", "segment/segment", "--param", f"job={job}")
    with get_client(sync_client=True) as client:
        assert "CANARY" not in client._client.post("/flow_runs/filter", json={}).text


@pytest.mark.slow
def test_a_schedule_that_is_switched_on_makes_runs_with_the_parameters(deployed):
    listed = deployed.prefect("deployment", "schedule", "ls", "report/report")
    schedule = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", listed).group()
    deployed.prefect("deployment", "schedule", "resume", "report/report", schedule)
    with get_client(sync_client=True) as client:
        ours = DeploymentFilter(name=DeploymentFilterName(any_=["report"]))
        runs = wait_until(lambda: client.read_flow_runs(deployment_filter=ours), seconds=90)
    assert [run.parameters for run in runs] == [{"output": "/data/prediction.zarr"}] * len(runs)
    deployed.prefect("deployment", "schedule", "pause", "report/report", schedule)
