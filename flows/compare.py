"""A comparison as a flow: variants of one training, each from several seeds, become one table and one page."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.artifacts import FlowListener, show_link, show_table
from flows.limits import gpu_slot
from flows.naming import run_name
from flows.redact import redacted
from flows.texts import difference_rows, variant_rows
from pipeline.config import CompareJob
from pipeline.jobs.comparing import Comparison, Trial, begin, run_trial, summarise_all
from pipeline.jobs.listener import Listener


@flow(name="compare", flow_run_name=run_name, persist_result=False, result_serializer="json")
@redacted
def compare_flow(job: CompareJob) -> dict[str, Any]:
    """Train every variant from every seed, and compare them on the same held-out regions.

    A run that was stopped goes on when it is run again: what is trained and measured is not done twice.

    Args:
        job: `base`, `variants` and `out` are needed; the settings are those of `overtile compare`.

    Returns:
        What `compare.json` holds.
    """
    with FlowListener("compare", job.out) as listener:
        comparison = plan(job, listener)
        records = [learn(trial, trial.name, comparison, listener) for trial in comparison.trials]
        found = summarise(comparison, records)
    show(found)
    return found


@task(name="plan", task_run_name="plan", cache_policy=NO_CACHE)
@redacted
def plan(job: CompareJob, listener: Listener) -> Comparison:
    """Plan the base, and refuse what cannot be trained or compared."""
    return begin(job, listener)


@task(name="trial", task_run_name="{name}", cache_policy=NO_CACHE)
@redacted
def learn(trial: Trial, name: str, comparison: Comparison, listener: Listener) -> dict[str, Any]:
    """Train one network and measure it; a GPU is waited for."""
    with gpu_slot(trial.job.device):
        return run_trial(trial, comparison.tile, listener)


@task(name="summarise", task_run_name="summarise", cache_policy=NO_CACHE)
@redacted
def summarise(comparison: Comparison, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Write the table and the page."""
    return summarise_all(comparison, records)


def show(found: dict[str, Any]) -> None:
    """Show each variant, and its difference to the base."""
    show_table("compare-variants", variant_rows(found), f"Mean and spread over seeds · {found['table']}")
    show_table("compare-differences", difference_rows(found), f"Minus the base · {found['table']}")
    show_link("compare-page", found["page"], "The page")
