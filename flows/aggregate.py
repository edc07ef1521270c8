"""Aggregation as a flow: many evaluations and runs become one table, and somebody is told when a metric drops."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

import pipeline
from flows.artifacts import FlowListener, show_link, show_table
from flows.events import announce_metrics
from flows.naming import run_name
from flows.redact import redacted
from flows.texts import alert_rows, model_rows, pair_rows, series_rows
from pipeline.config import AggregateJob
from pipeline.jobs.aggregation import check_bounds
from pipeline.jobs.listener import Listener


@flow(name="aggregate", flow_run_name=run_name, persist_result=False, result_serializer="json")
@redacted
def aggregate_flow(job: AggregateJob) -> dict[str, Any]:
    """Put the metrics of many runs into one table and on one page, and compare their models.

    A metric below its bound, or one that has dropped, is an event, `overtile.metric.dropped`. The flow completes all
    the same, unless the job says `fail_below`.

    Args:
        job: `sources` and `out` are needed; the settings are those of ``overtile aggregate``.

    Returns:
        What ``overtile aggregate --json`` prints.
    """
    with FlowListener("aggregate", job.out) as listener:
        found = aggregate(job, listener)
        show(found)
        announce_metrics(found)
    if job.fail_below:
        check_bounds(found)
    return found


@task(name="aggregate", task_run_name="aggregate", cache_policy=NO_CACHE)
@redacted
def aggregate(job: AggregateJob, listener: Listener) -> dict[str, Any]:
    """Find, compare, and write."""
    return pipeline.aggregate(job, listener=listener)


def show(found: dict[str, Any]) -> None:
    """Show each model, models in pairs, every volume with what it was before, and what is to be looked at."""
    counts = ", ".join(f"{number:,} {kind}" for kind, number in found["counts"].items())
    title = f"{found['table']}: {counts}; {len(found['alerts']):,} to look at"
    show_table("aggregate-models", model_rows(found), title)
    show_table("aggregate-pairs", pair_rows(found), f"Paired differences, second minus first · {found['table']}")
    show_table("aggregate-volumes", series_rows(found), f"The newest of each volume and model · {found['table']}")
    show_table("aggregate-alerts", alert_rows(found), f"Below a bound, or dropped · {found['table']}")
    show_link("aggregate-page", found["page"], "The page")
