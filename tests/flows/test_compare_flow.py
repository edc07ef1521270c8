"""The flow of a comparison: a task run a network, tables and a link at the end."""

import json

import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from volumes import save

from flows.compare import compare_flow
from pipeline.config import CompareJob


@pytest.mark.slow
def test_variants_become_a_table_and_each_network_is_a_task_run(server, tmp_path):
    save(tmp_path / "image.zarr", np.random.default_rng(0).integers(0, 255, (96, 96), np.uint8), "yx", chunks=96)
    save(tmp_path / "target.zarr", np.eye(96, dtype=np.uint8), "yx", chunks=96)
    network = {"in_channels": 1, "classes": 1, "depth": 2, "width": 2, "padding": "same"}
    pair = {"image": str(tmp_path / "image.zarr"), "target": str(tmp_path / "target.zarr")}
    split = {"by": "block", "block": [32, 32], "guard": 12}
    base = {"pairs": [pair], "classes": ["background", "line"], "architecture": network, "split": split}
    base |= {"patch": [16, 16], "batch": 2, "steps": 2, "threads": 1}
    given = {"base": base, "variants": {"autoencoder": {"architecture": {"skip": "none"}}}, "seeds": [0]}
    job = CompareJob.model_validate(given | {"out": str(tmp_path / "out"), "resamples": 200})
    state = compare_flow(job, return_state=True)
    assert state.is_completed()
    found = state.result()
    assert [row["variant"] for row in found["trials"]] == ["base", "autoencoder"]
    run = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        shown = {each.key: each for each in client.read_artifacts(artifact_filter=ours)}
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
        assert client.read_flow_run(run).name == "compare out"
    assert {each.name for each in tasks} == {"plan", "base, seed 0", "autoencoder, seed 0", "summarise"}
    (row, _) = json.loads(shown["compare-differences"].data)
    assert (row["variant"], row["metric"]) == ("autoencoder", "mean_iou")
    assert [row["variant"] for row in json.loads(shown["compare-variants"].data)][::2] == ["base", "autoencoder"]
    assert "compare-page" in shown
