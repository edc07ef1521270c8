"""The whole comparison, one training after the other."""

from __future__ import annotations

from typing import Any

from pipeline.config import CompareJob
from pipeline.jobs.comparing.plan import begin
from pipeline.jobs.comparing.summary import summarise_all
from pipeline.jobs.comparing.trial import run_trial
from pipeline.jobs.listener import Listener, Silent


def compare(job: CompareJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Train every variant from every seed, measure all networks on the same regions, and write one table and one page.

    Everything lies in the folder ``out``: ``VARIANT/seedN/model.safetensors`` with what :func:`pipeline.train` writes
    beside it and ``trial.json``; ``compare.parquet``, ``compare.json`` and ``compare.html``. The same job again goes on
    with what was stopped and trains nothing twice; variants and seeds may be added.

    Args:
        job: the settings.
        listener: who is told what is done.

    Returns:
        What ``compare.json`` holds, see :func:`pipeline.jobs.comparing.summary.summarise_all`.

    Raises:
        InputError: refused before the first step: a variant cannot be trained, or networks would be measured on other
            regions.
        RunMismatchError: the folder holds another comparison.
        OvertileError, EnvironmentFaultError: as :func:`pipeline.train`; what was done before is kept.
    """
    told = listener or Silent()
    comparison = begin(job, told)
    records = [run_trial(trial, comparison.tile, told) for trial in comparison.trials]
    return summarise_all(comparison, records)
