"""An archive as a flow: a flow run for each volume that is new or has changed, and a table of all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from flows.artifacts import FlowListener, show_table
from flows.ingest import ingest_flow
from flows.naming import name_of, run_name
from flows.redact import redacted
from flows.segment import segment_flow
from pipeline import errors
from pipeline.config import CollectionJob
from pipeline.errors import OvertileError
from pipeline.jobs.collection import Collection, VolumeTask, Work
from pipeline.jobs.roster import Row, check_summary, summary
from pipeline.run.status import status

SHOWN = 1000
"""Rows of the table at most; volumes that need somebody come first."""

_ORDER = ("failed", "partial", "busy", "waiting", "sealed", "unchanged")


@flow(name="collection", flow_run_name=run_name, persist_result=False, result_serializer="json")
@redacted
def collection_flow(
    job: CollectionJob, deployment: str | None = None, with_reports: bool = True
) -> dict[str, Any]:
    """Segment every volume of an archive that is new or has changed. A volume that fails never stops the others.

    Args:
        job: input, output and model are needed; the settings are those of overtile collection.
        deployment: of the flow segment, as segment/segment, to run each volume with: on other workers, as many at
            a time as concurrency and the deployment's own limit allow; by default in this flow run's process.
        with_reports: make the page of each run, report.html.

    Returns:
        What ``overtile collection --json`` prints.
    """
    with FlowListener("collection", job.output) as listener:
        work = by_deployment(deployment, with_reports) if deployment else by_subflow(with_reports)
        found = go_through(Collection(job, work), listener)
        show_table("collection-volumes", table_rows(found), title_of(found))
    check_summary(found)
    return found


def go_through(collection: Collection, listener: FlowListener) -> dict[str, Any]:
    """Do all volumes, and tell of each."""
    rows: list[Row] = []
    listener.phase("archive", collection.total, "volumes")
    for row in collection.rows():
        rows.append(row)
        listener.progress(len(rows), sum(each.state in ("failed", "partial") for each in rows))
        if row.state != "unchanged":
            listener.note(f"{row.volume}: {row.state} {row.error}".rstrip())
    return summary(collection.job.output, rows)


def by_subflow(with_report: bool) -> Work:
    """Return what does a volume as a flow run below this one, in this process."""

    def work(task: VolumeTask) -> Mapping[str, Any]:
        if task.ingest is not None:
            ingest_flow(task.ingest)
        return segment_flow(task.job, stale=task.stale, with_report=with_report)

    return work


def by_deployment(deployment: str, with_report: bool) -> Work:
    """Return what does a volume as a run of a deployment, and waits for it."""

    def work(task: VolumeTask) -> Mapping[str, Any]:
        if task.ingest is not None:
            ingest_flow(task.ingest)
        parameters = {"job": task.job.model_dump(mode="json"), "stale": task.stale, "with_report": with_report}
        run = run_deployment(deployment, parameters=parameters, flow_run_name=name_of("segment", parameters))
        assert isinstance(run, FlowRun)  # no coroutine: the flows are synchronous
        if run.state is None or not run.state.is_completed():
            raise failure(f"{run.state.name}: {run.state.message}" if run.state else "the run has no state")
        return status(task.job.output)

    return work


def failure(message: str) -> OvertileError:
    """Return the error that the message of a run's final state tells of, of the class that it names."""
    found = re.search(r"\b([A-Z]\w*Error)\b", message)
    kind = getattr(errors, found.group(1), OvertileError) if found else OvertileError
    return kind(message) if issubclass(kind, OvertileError) else OvertileError(message)


def table_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table, those first that need somebody."""
    return sorted(found["volumes"], key=lambda row: _ORDER.index(row["state"]))[:SHOWN]


def title_of(found: Mapping[str, Any]) -> str:
    """Return what the table is about."""
    counts = ", ".join(f"{count:,} {state}" for state, count in found["counts"].items())
    more = f" (the first {SHOWN:,} are listed)" if found["total"] > SHOWN else ""
    return f"{found['total']:,} volumes: {counts or 'none'} · {found['output']}{more}"
