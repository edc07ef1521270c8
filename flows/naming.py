"""What a flow run is called in the server: its flow, and the volume, checkpoint or archive that it is about."""

from __future__ import annotations

from typing import Any

from prefect.runtime import flow_run

from flows.redact import redact

SUBJECTS = ("output", "prediction", "out")
"""Parameters of flows, or fields of their jobs, that say what a run is about; the first one that there is counts."""


def run_name() -> str:
    """Return the name of the current flow run: ``segment nuclei.zarr``."""
    return name_of(flow_run.get_flow_name() or "", flow_run.get_parameters())


def name_of(flow: str, parameters: dict[str, Any]) -> str:
    """Return the name of a run of a flow.

    Args:
        flow: its name.
        parameters: of the run; a job among them may be a model or what it was made of.
    """
    job = parameters.get("job", parameters)
    given = job if isinstance(job, dict) else vars(job)
    subject = next((str(given[name]) for name in SUBJECTS if given.get(name)), "")
    return redact(f"{flow} {subject.rstrip('/').rpartition('/')[2]}").strip()
