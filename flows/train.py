"""Training as a flow: pairs of volumes and targets become a checkpoint."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

import pipeline
from flows.artifacts import FlowListener, show_markdown
from flows.limits import gpu_slot
from flows.naming import run_name
from flows.redact import redacted
from flows.texts import facts
from pipeline.config import TrainJob
from pipeline.jobs.listener import Listener


@flow(name="train", flow_run_name=run_name, persist_result=False, result_serializer="json")
@redacted
def train_flow(job: TrainJob) -> dict[str, Any]:
    """Train a U-Net. Nothing is written before the end, so running it again begins anew.

    Args:
        job: pairs, output, architecture and classes are needed; the settings are those of overtile train.

    Returns:
        What the checkpoint's ``NAME.metrics.json`` holds.
    """
    with FlowListener("train", job.output) as listener:
        found = train(job, listener)
        shown = {name: found[name] for name in ("digest", "steps", "patches", "seconds", "loss")}
        measured = found["validation"] or {}
        quality = {f"validation {name}": measured.get(name) for name in ("mean_iou", "mean_dice")}
        show_markdown("train-checkpoint", facts(job.output, shown | quality), job.output)
    return found


@task(name="train", task_run_name="train", cache_policy=NO_CACHE)
@redacted
def train(job: TrainJob, listener: Listener) -> dict[str, Any]:
    """Learn, and write the checkpoint; a GPU is waited for."""
    with gpu_slot(job.device):
        return pipeline.train(job, listener=listener)
