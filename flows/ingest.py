"""Ingest as a flow: an image of any format becomes an OME-Zarr volume."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

import pipeline
from flows.artifacts import FlowListener, show_markdown
from flows.naming import run_name
from flows.redact import redacted
from flows.texts import facts
from pipeline.config import IngestJob
from pipeline.jobs.listener import Listener


@flow(name="ingest", flow_run_name=run_name, persist_result=False, result_serializer="json")
@redacted
def ingest_flow(job: IngestJob) -> dict[str, Any]:
    """Bring an image into OME-Zarr. After an interruption, running it again goes on.

    Args:
        job: source and output are needed; the settings are those of overtile ingest.

    Returns:
        What ``overtile ingest --json`` prints.
    """
    with FlowListener("ingest", job.output) as listener:
        found = ingest(job, listener)
        shown = ("axes", "shape", "dtype", "voxel_size", "unit", "classes", "bytes")
        did = {"MB/s": found["ingest"]["mb_per_s"], "seconds": found["ingest"]["seconds"]}
        show_markdown("ingest-volume", facts(job.output, {name: found[name] for name in shown} | did), job.output)
    return found


@task(name="ingest", task_run_name="ingest", cache_policy=NO_CACHE)
@redacted
def ingest(job: IngestJob, listener: Listener) -> dict[str, Any]:
    """Copy the image, out of core."""
    return pipeline.ingest(job, listener=listener)
