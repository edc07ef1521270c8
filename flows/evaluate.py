"""Evaluation as a flow: a prediction and its target become metrics."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

import pipeline
from flows.artifacts import FlowListener, show_table
from flows.naming import run_name
from flows.redact import redacted
from flows.texts import class_rows
from pipeline.config import EvaluateJob
from pipeline.jobs.listener import Listener


@flow(name="evaluate", flow_run_name=run_name, persist_result=False, result_serializer="json")
@redacted
def evaluate_flow(job: EvaluateJob, stale: bool = False) -> dict[str, Any]:
    """Measure a prediction against a target. Run it again, or retry it, to go on.

    Args:
        job: prediction and target are needed; the settings are those of overtile evaluate.
        stale: measure chunks again whose voxels changed since; otherwise a run whose volumes changed is refused.

    Returns:
        What ``overtile evaluate --json`` prints.
    """
    with FlowListener("evaluate", job.prediction) as listener:
        found = evaluate(job, listener, stale)
        title = f"{job.prediction} against {job.target}: {found['voxels']:,} voxels, {found['ignored']:,} ignored"
        show_table("evaluate-metrics", class_rows(found), title)
    return found


@task(name="evaluate", task_run_name="evaluate", cache_policy=NO_CACHE)
@redacted
def evaluate(job: EvaluateJob, listener: Listener, stale: bool) -> dict[str, Any]:
    """Compare what the run lacks, chunk by chunk, and add up."""
    return pipeline.evaluate(job, stale=stale, listener=listener)
