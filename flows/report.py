"""The report as a flow: a run becomes one page."""

from __future__ import annotations

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

import pipeline
from flows.artifacts import show_link
from flows.naming import run_name
from flows.redact import redacted


@flow(name="report", flow_run_name=run_name, persist_result=False, result_serializer="json")
@redacted
def report_flow(output: str, target: str | None = None, metrics: str | None = None, out: str | None = None) -> str:
    """Make one self-contained HTML page of a run.

    Args:
        output: the result, OUT.zarr, with its run beside it.
        target: class ids of the result's shape; adds pictures of the errors.
        metrics: metrics.json of an evaluation; adds its numbers.
        out: page to write; by default report.html in the run's folder.

    Returns:
        Path of the page.
    """
    page = report(output, target, metrics, out)
    show_link("report-page", page, "The report")
    return page


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
@redacted
def report(output: str, target: str | None, metrics: str | None, out: str | None) -> str:
    """Draw and write the page."""
    return str(pipeline.report(output, out=out, target=target, metrics=metrics))
