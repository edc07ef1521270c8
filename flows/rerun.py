"""Going on with a run by its path alone: what failed or is lacking is done, with the settings that it recorded."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.naming import run_name
from flows.redact import redacted
from flows.segment import RUNNER, Regions, carry_out
from flows.session import Session
from pipeline.jobs.segment import recorded_job


@flow(
    name="rerun-failed", task_runner=RUNNER, flow_run_name=run_name, persist_result=False, result_serializer="json"
)
@redacted
def rerun_failed_flow(
    output: str,
    accept_failures: Annotated[int, Field(ge=0)] | None = None,
    regions: Regions | None = None,
    with_report: bool = True,
) -> dict[str, Any]:
    """Try the chunks of a run again that failed, and do those that are lacking; the others are left as they are.

    Args:
        output: the result, OUT.zarr, with its run beside it.
        accept_failures: publish the result, as partial, with up to so many failed chunks; else as the run recorded.
        regions: into how many regions (task runs) the chunks are split, as of the flow segment.
        with_report: make the run's page, report.html, at the end.

    Returns:
        The run's status, as ``overtile status --json`` prints it.
    """
    with Session(recorded_job(output, accept_failures=accept_failures), regions=regions) as run:
        return carry_out(run, with_report=with_report)
