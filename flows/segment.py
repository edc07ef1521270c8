"""The main job as a flow: Prefect sees its phases and regions, Dask its chunks, and the ledger is the truth."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from flows.naming import run_name
from flows.redact import redacted
from flows.session import MOST_REGIONS, REGIONS_AT_ONCE, Session
from pipeline.config import SegmentJob

RUNNER: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=REGIONS_AT_ONCE)
Regions = Annotated[int, Field(ge=1, le=MOST_REGIONS)]


@flow(name="segment", task_runner=RUNNER, flow_run_name=run_name, persist_result=False, result_serializer="json")
@redacted
def segment_flow(
    job: SegmentJob, regions: Regions | None = None, stale: bool = False, with_report: bool = True
) -> dict[str, Any]:
    """Segment a volume. Run it again, or retry it, to go on: only what the ledger lacks is done.

    Args:
        job: input, output and model are needed; the settings are those of overtile segment.
        regions: into how many regions (task runs) the chunks are split; by default so many that each one is at
            least half a minute of work, at most 256. The result does not depend on it.
        stale: compute chunks again, in place, that were made from an input or a model that has changed since;
            otherwise such a run is refused.
        with_report: make the run's page, report.html, at the end.

    Returns:
        The run's status, as ``overtile status --json`` prints it.
    """
    with Session(job, regions=regions, stale=stale) as run:
        return carry_out(run, with_report=with_report)


def carry_out(run: Session, *, with_report: bool) -> dict[str, Any]:
    """Take a run through its phases; only what the ledger lacks is done."""
    plan(run)
    if prepare(run):
        if run.masked:
            make_mask(run)
        predict_lacking(run)
        verify(run)
        build_pyramid(run)
        seal(run)
        publish(run)
        if with_report:
            report(run)
        run.conclude()
    return run.status()


def predict_lacking(run: Session) -> None:
    """Predict every region that lacks something, on workers that live just as long."""
    lacking = run.lacking()
    if lacking:
        with run.workers():
            wait([predict.submit(run, region, run.regions) for region in lacking])
    run.check()


@task(name="plan", task_run_name="plan", cache_policy=NO_CACHE)
@redacted
def plan(run: Session) -> dict[str, Any]:
    """Settle and check everything before any work."""
    return run.plan()


@task(name="prepare", task_run_name="prepare", cache_policy=NO_CACHE)
@redacted
def prepare(run: Session) -> bool:
    """Begin or resume the run; returns whether there is work left."""
    return run.prepare()


@task(name="mask", task_run_name="mask", cache_policy=NO_CACHE)
@redacted
def make_mask(run: Session) -> dict[str, Any]:
    """Find out what is foreground, and skip the chunks that have none."""
    return run.make_mask()


@task(name="predict", task_run_name="region {region} of {regions}", cache_policy=NO_CACHE)
@redacted
def predict(run: Session, region: int, regions: int) -> None:
    """Process what one region lacks; fails if one of its chunks does."""
    run.predict(region)


@task(name="verify", task_run_name="verify", cache_policy=NO_CACHE)
@redacted
def verify(run: Session) -> dict[str, Any]:
    """Compare every stored byte with the ledger."""
    return run.verify()


@task(name="pyramid", task_run_name="pyramid", cache_policy=NO_CACHE)
@redacted
def build_pyramid(run: Session) -> None:
    """Make the coarser levels."""
    run.build_pyramid()


@task(name="seal", task_run_name="seal", cache_policy=NO_CACHE)
@redacted
def seal(run: Session) -> str:
    """Write the seal; returns the digest of the whole result."""
    return run.seal()


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE)
@redacted
def publish(run: Session) -> None:
    """Let viewers see the result."""
    run.publish()


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
@redacted
def report(run: Session) -> None:
    """Make the run's page."""
    run.report()
