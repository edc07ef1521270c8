"""The main flow against a real server: what it says is true, and running it again does only what is lacking."""

from pathlib import Path

import pytest
from networks import make_image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.exceptions import ParameterTypeError
from waiting import wait_until

from flows.segment import segment_flow
from pipeline.config import SegmentJob
from pipeline.errors import FailedChunksError, InputError
from pipeline.run.folder import RunFolder
from pipeline.run.journal import replay
from pipeline.run.records import DONE
from pipeline.run.status import status
from pipeline.run.verify import verify

pytestmark = pytest.mark.slow

PHASES = {"plan", "prepare", "verify", "pyramid", "seal", "publish", "report"}


@pytest.fixture
def job(tmp_path, model):
    """36 chunks of 64 x 64 voxels, six by six."""
    make_image(tmp_path / "image.zarr", (384, 384), channels=1, shard=(64, 64))
    return SegmentJob(
        input=str(tmp_path / "image.zarr"),
        output=str(tmp_path / "out.zarr"),
        model=str(model),
        chunk=(64, 64),
        tile=(64, 64),
        workers=1,
        threads=1,
        retries=0,
    )


@pytest.fixture
def client(server):
    with get_client(sync_client=True) as client:
        yield client


def task_runs(client, state, count):
    """State by name of so many task runs of a flow run; they reach the server's database a little later."""
    flow_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))

    def final():
        runs = client.read_task_runs(flow_run_filter=flow_run)
        found = {run.name: run.state_name for run in runs if run.state and run.state.is_final()}
        return found if len(found) >= count else {}

    return wait_until(final)


def artifacts(client, state):
    flow_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    return {artifact.key: artifact for artifact in client.read_artifacts(artifact_filter=flow_run)}


def log_lines(client, state):
    flow_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    return [line.message for line in client.read_logs(log_filter=flow_run)]


def done_chunks(job):
    return [r.chunk for r in replay(RunFolder(job.output).journal) if r is not None and r.state == DONE]


def test_a_run_is_sealed_and_its_task_runs_are_phases_and_regions(job, client):
    state = segment_flow(job, regions=3, return_state=True)
    assert state.is_completed()
    assert state.result()["state"] == "sealed"
    assert verify(Path(job.output)).ok
    regions = {f"region {n} of 3" for n in (1, 2, 3)}
    assert task_runs(client, state, 10) == dict.fromkeys(PHASES | regions, "Completed")
    shown = artifacts(client, state)
    bars = {"segment-predict", "segment-verify", "segment-pyramid"}
    assert shown.keys() == {*bars, "segment-grid", "segment-report"}
    assert {shown[bar].data for bar in bars} == {100}
    assert shown["segment-grid"].data.startswith("data:image/png;base64,")
    assert f"{job.output}.run/report.html" in shown["segment-report"].data
    assert Path(f"{job.output}.run/report.html").exists()
    assert shown["segment-predict"].description.startswith("36 of 36 chunks")
    assert shown["segment-grid"].description == f"36 done (blue) · {job.output}"

    again = segment_flow(job, regions=3, return_state=True)
    assert again.is_completed()
    assert task_runs(client, again, 2) == {"plan": "Completed", "prepare": "Completed"}
    assert sorted(done_chunks(job)) == list(range(36))


def test_a_failed_chunk_fails_its_region_and_the_run_and_is_all_that_is_done_again(job, client, tmp_path):
    hole = tmp_path / "image.zarr" / "0" / "c" / "0" / "0" / "0"
    hole.rename(tmp_path / "kept")
    state = segment_flow(job, regions=3, return_state=True)
    assert state.is_failed()
    with pytest.raises(FailedChunksError, match="4 of 36 chunks failed, 0 are pending"):
        state.result()
    assert "4 of 36 chunks failed" in state.message
    recorded = client.read_flow_run(state.state_details.flow_run_id)
    assert recorded.name == "segment out.zarr"
    assert recorded.state.data.serializer.type == "json", "what a server keeps of a failure is no pickle"

    assert task_runs(client, state, 5) == {
        "plan": "Completed",
        "prepare": "Completed",
        "region 1 of 3": "Failed",
        "region 2 of 3": "Completed",
        "region 3 of 3": "Completed",
    }
    shown = artifacts(client, state)
    assert shown["segment-predict"].data == pytest.approx(100 * 32 / 36)
    assert "4 failed" in shown["segment-predict"].description
    table = shown["segment-failed-chunks"].data
    assert '"position": "0/0", "attempts": 1, "error": "1 stored chunk(s) below' in table
    assert "are missing" in table
    assert f"overtile rerun {job.output} --chunks 0/0" in table
    assert f"overtile rerun {job.output}" in shown["segment-rerun"].data
    assert "prefect deployment run rerun-failed/rerun-failed" in shown["segment-rerun"].data
    assert str(state.state_details.flow_run_id) in shown["segment-rerun"].data
    wait_until(lambda: any("chunk 0/0, attempt 1 failed" in line for line in log_lines(client, state)))

    partial = segment_flow(job.model_copy(update={"accept_failures": 4}), regions=3, return_state=True)
    assert partial.is_failed(), "accepted or not, a result with holes is no success"
    assert "partial: 4 of 36 chunks failed" in partial.message
    assert status(job.output)["state"] == "partial"
    assert '"position": "0/0", "attempts": 2' in artifacts(client, partial)["segment-failed-chunks"].data

    lacking = {0, 1, 6, 7}
    assert set(done_chunks(job)) == set(range(36)) - lacking
    (tmp_path / "kept").rename(hole)
    again = segment_flow(job, regions=3, return_state=True)
    assert again.is_completed()
    assert sorted(done_chunks(job)) == list(range(36))
    assert {r.chunk for r in replay(RunFolder(job.output).journal) if r.attempt == 3} == lacking
    expected = dict.fromkeys({*PHASES, "region 1 of 3"}, "Completed")
    assert task_runs(client, again, 8) == expected
    assert "segment-failed-chunks" not in artifacts(client, again)
    assert status(Path(job.output))["state"] == "sealed"


def test_a_refused_job_fails_the_run_and_writes_nothing(job, server, tmp_path):
    refused = job.model_copy(update={"input": str(tmp_path / "nowhere.zarr")})
    state = segment_flow(refused, return_state=True)
    assert state.is_failed()
    with pytest.raises(InputError, match=r"nowhere\.zarr"):
        state.result()
    assert not (tmp_path / "out.zarr").exists()
    assert not RunFolder(job.output).exists


@pytest.mark.parametrize("regions", [0, 257])
def test_a_run_has_a_sane_number_of_regions(job, regions):
    with pytest.raises(ParameterTypeError, match="regions"):
        segment_flow.validate_parameters({"job": job, "regions": regions})
