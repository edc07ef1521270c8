"""The flow: tables and a link in the server, an event where a metric drops, failure only where it is wished."""

import json

import pytest
from evaluations import make_measured_run, make_models
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from waiting import wait_until

from flows import events
from flows.aggregate import aggregate_flow
from flows.events import MOST_EVENTS, announce_metrics
from pipeline.config import AggregateJob
from pipeline.errors import MetricDroppedError


@pytest.fixture
def archive(tmp_path):
    """One volume by two models."""
    for model, wrong in zip(make_models(tmp_path), (0.2, 0.05), strict=True):
        make_measured_run(tmp_path, 0, model, wrong=wrong, day=1, name=model.stem)
    return tmp_path


def job(root, **options):
    given = {"sources": [str(root / "volume0")], "out": str(root / "t.parquet"), "resamples": 200}
    return AggregateJob(**given | options)


def artifacts(state):
    ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        return {each.key: each for each in client.read_artifacts(artifact_filter=ours)}


def emitted(flow_run):
    """Events about metrics of a flow run, as the server has them."""
    with get_client(sync_client=True) as client:
        found = client._client.post(
            "/events/filter",
            json={
                "filter": {
                    "event": {"prefix": ["overtile.metric."]},
                    "related": {"id": [f"prefect.flow-run.{flow_run}"]},
                }
            },
        )
    return found.json()["events"]


@pytest.mark.slow
def test_a_table_is_made_and_shown(server, archive):
    state = aggregate_flow(job(archive), return_state=True)
    assert state.is_completed()
    found = state.result()
    assert found["counts"] == {"evaluations": 2, "runs": 2, "broken": 0}
    assert (archive / "t.parquet").exists()
    shown = artifacts(state)
    assert {"aggregate-models", "aggregate-pairs", "aggregate-volumes", "aggregate-alerts"} <= shown.keys()
    models = json.loads(shown["aggregate-models"].data)
    assert [(row["model"], row["metric"]) for row in models][:1] == [("first", "mean_iou")]
    (volume, _) = json.loads(shown["aggregate-volumes"].data)
    assert volume["target"] == str(archive / "volume0" / "target.zarr")
    assert volume["mean_iou"] == f"{found['series'][0]['values']['mean_iou']:.4f}"
    assert json.loads(shown["aggregate-alerts"].data) == []
    pair = json.loads(shown["aggregate-pairs"].data)[0]
    assert (pair["first"], pair["second"], pair["over"]) == ("first", "second", "chunks")
    assert pair["low"] <= pair["difference"] <= pair["high"]


@pytest.mark.slow
def test_a_low_metric_is_an_event_and_no_failure(server, archive):
    state = aggregate_flow(job(archive, bounds={"mean_iou": 0.8}), return_state=True)
    assert state.is_completed()
    (alert,) = state.result()["alerts"]
    (event,) = wait_until(lambda: emitted(state.state_details.flow_run_id), seconds=60)
    assert event["event"] == "overtile.metric.dropped"
    assert event["payload"]["metric"] == "mean_iou"
    assert event["payload"]["value"] == alert["value"]
    assert event["payload"]["all"] == 1
    assert event["resource"]["overtile.table"] == str(archive / "t.parquet")
    (row,) = json.loads(artifacts(state)["aggregate-alerts"].data)
    assert (row["metric"], row["limit"], row["source"]) == ("mean_iou", 0.8, alert["source"])


@pytest.mark.slow
def test_it_fails_where_that_is_wished_when_all_is_written(server, archive):
    state = aggregate_flow(job(archive, bounds={"mean_iou": 0.8}, fail_below=True), return_state=True)
    assert state.is_failed()
    with pytest.raises(MetricDroppedError, match=r"mean_iou of first on target\.zarr is .* below its bound 0\.8"):
        state.result()
    assert (archive / "t.parquet").exists()
    assert "aggregate-models" in artifacts(state)


def test_one_metric_of_one_volume_is_one_resource_and_there_are_never_many(monkeypatch):
    said = []
    monkeypatch.setattr(events, "emit_event", lambda **event: said.append(event))
    alert = {"metric": "accuracy", "model": "m", "target": "t", "region": None, "text": "s3://a:CANARY@b"}
    found = {"table": "t.parquet", "page": "t.html", "alerts": [alert, alert, {**alert, "target": "u"}] * 100}
    announce_metrics(found)
    assert len(said) == MOST_EVENTS
    ids = [each["resource"]["prefect.resource.id"] for each in said[:3]]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("overtile.metric.")
    assert said[0]["payload"]["all"] == 300
    assert "CANARY" not in str(said)
