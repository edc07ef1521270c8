"""The flows around the main one: each does its job, says so, and shows the result."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from inline import drive, tiny_job
from networks import make_checkpoint, make_image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from runs import make_run
from volumes import save

from flows.evaluate import evaluate_flow
from flows.ingest import ingest_flow
from flows.report import report_flow
from flows.train import train_flow
from flows.verify import verify_flow
from pipeline.config import EvaluateJob, IngestJob, Pair, TrainJob
from pipeline.errors import DamageError, InputError, RunMismatchError
from pipeline.model.architecture import UNetArchitecture
from pipeline.run.status import status

pytestmark = pytest.mark.slow


@pytest.fixture
def shown(server):
    """What a finished flow run shows: artifacts by key."""

    def read(state):
        ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
        with get_client(sync_client=True) as client:
            return {artifact.key: artifact for artifact in client.read_artifacts(artifact_filter=ours)}

    return read


def test_an_image_becomes_a_volume(shown, tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((70, 90), np.uint8))
    job = IngestJob(source=str(tmp_path / "image.npy"), output=str(tmp_path / "image.zarr"))
    state = ingest_flow(job, return_state=True)
    assert state.is_completed()
    assert state.result()["shape"] == [70, 90]
    assert shown(state).keys() == {"ingest-ingest", "ingest-volume"}
    assert shown(state)["ingest-ingest"].data == 100
    assert "| shape | 70, 90 |" in shown(state)["ingest-volume"].data


def test_pairs_become_a_checkpoint(shown, tmp_path):
    save(tmp_path / "image.zarr", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8), "yx", chunks=64)
    save(tmp_path / "target.zarr", np.eye(64, dtype=np.uint8), "yx", chunks=64)
    job = TrainJob(
        pairs=(Pair(image=str(tmp_path / "image.zarr"), target=str(tmp_path / "target.zarr")),),
        output=str(tmp_path / "model.safetensors"),
        architecture=UNetArchitecture(in_channels=1, classes=2, depth=2, width=2, padding="same"),
        classes=("background", "line"),
        patch=(32, 32),
        batch=2,
        steps=2,
        threads=1,
        split="none",
    )
    state = train_flow(job, return_state=True)
    assert state.is_completed()
    assert state.result()["steps"] == 2
    assert shown(state)["train-train"].data == 100
    found = shown(state)
    assert "| steps | 2 |" in found["train-checkpoint"].data
    assert '"choice": "batch", "value": "2", "reason": "as the job says"' in found["train-plan"].data
    assert found["train-curve"].data.startswith("data:image/png;base64,")


def test_a_prediction_becomes_metrics_and_a_page(shown, tmp_path):
    ids = np.zeros((64, 128), np.uint8)
    ids[:, 64:] = 1
    output = make_run(tmp_path, ids)
    save(tmp_path / "target.zarr", ids, "yx", chunks=64)
    job = EvaluateJob(prediction=str(output), target=str(tmp_path / "target.zarr"), out=str(tmp_path / "metrics"))
    state = evaluate_flow(job, return_state=True)
    assert state.is_completed()
    assert state.result()["mean_iou"] == 1.0
    assert '"class": "cell", "IoU": 1.0' in shown(state)["evaluate-metrics"].data
    assert shown(state)["evaluate-evaluate"].data == 100

    state = report_flow(str(output), job.target, str(tmp_path / "metrics" / "metrics.json"), return_state=True)
    assert state.is_completed()
    page = state.result()
    assert "<html" in Path(page).read_text()
    assert page in shown(state)["report-page"].data


def test_what_changed_is_measured_again_where_it_is_asked_for(server, tmp_path):
    ids = np.zeros((64, 128), np.uint8)
    output = make_run(tmp_path, ids)
    save(tmp_path / "target.zarr", ids, "yx", chunks=64)
    job = EvaluateJob(prediction=str(output), target=str(tmp_path / "target.zarr"), out=str(tmp_path / "metrics"))
    assert evaluate_flow(job)["accuracy"] == 1.0
    zarr.open_array(str(tmp_path / "target.zarr"), mode="r+")[0, 0] = 1
    with pytest.raises(RunMismatchError, match="has changed since 1 of 2 chunks were measured"):
        evaluate_flow(job)
    assert evaluate_flow(job, stale=True)["accuracy"] == 1 - 1 / ids.size


def test_a_refused_job_fails_its_flow(server, tmp_path):
    with pytest.raises(InputError, match="there is no run"):
        report_flow(str(tmp_path / "out.zarr"))


def test_a_result_is_verified_and_damage_fails_the_flow(shown, tmp_path):
    make_image(tmp_path / "image.zarr", (64, 64), shard=(32, 32))
    make_checkpoint(tmp_path / "model.safetensors", depth=2, width=2, padding="same")
    output = tmp_path / "out.zarr"
    drive(tiny_job(tmp_path, output))
    state = verify_flow(str(output), return_state=True)
    assert state.is_completed()
    assert state.result()["ok"]
    assert shown(state)["verify-verify"].data == 100
    assert "| ok | True |" in shown(state)["verify-found"].data

    next(path for path in (output / "0" / "c").rglob("*") if path.is_file()).write_bytes(b"none")
    for repair, message in ((False, "run this again with repair"), (True, r"1 chunk\(s\) are pending now")):
        state = verify_flow(str(output), repair, return_state=True)
        assert state.is_failed()
        with pytest.raises(DamageError, match=message):
            state.result()
    assert status(output)["pending"] == 1
