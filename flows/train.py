"""Training as a flow: pairs of volumes and targets become a checkpoint."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

import pipeline
from flows.artifacts import FlowListener
from flows.limits import gpu_slot
from flows.naming import run_name
from flows.redact import redacted
from flows.trained import show_trained
from pipeline.config import TrainJob
from pipeline.jobs.listener import Listener


@flow(name="train", flow_run_name=run_name, persist_result=False, result_serializer="json")
@redacted
def train_flow(job: TrainJob) -> dict[str, Any]:
    """Train a U-Net. A run that was stopped goes on when it is run again.

    Args:
        job: pairs, output and classes are needed, the rest is planned; the settings are those of overtile train.

    Returns:
        What the checkpoint's ``NAME.metrics.json`` holds.
    """
    with FlowListener("train", job.output) as listener:
        found = train(job, listener)
        show_trained(found, job.output)
    return found


@task(name="train", task_run_name="train", cache_policy=NO_CACHE)
@redacted
def train(job: TrainJob, listener: Listener) -> dict[str, Any]:
    """Learn, and write the checkpoint; its GPUs are waited for."""
    with gpu_slot(job.device, job.devices):
        return pipeline.train(job, listener=listener)
