"""What a flow run says of chunks that failed: a table of them, and what tries them again, ready to be pasted."""

from __future__ import annotations

import json
import shlex
from typing import Any

from prefect.runtime import flow_run

from flows.artifacts import show_markdown, show_table
from pipeline.store import absolute

SHOWN = 1000
"""Rows of the table at most."""

DEPLOYMENT = "rerun-failed/rerun-failed"
"""The deployment that goes on with a run."""


def show_failures(found: dict[str, Any]) -> None:
    """Show the failed chunks of a run, if there are any.

    Args:
        found: the run's status, as :func:`pipeline.status` gives it.
    """
    if not found["failed"]:
        return
    rows = [
        {
            "chunk": each["chunk"],
            "position": each["position"],
            "attempts": each["attempts"],
            "error": each["error"],
            "rerun": f"overtile rerun {shlex.quote(absolute(found['output']))} --chunks {each['position']}",
        }
        for each in found["failures"][:SHOWN]
    ]
    title = f"{found['failed']:,} of {found['total']:,} chunks failed · {found['output']}"
    first = f" (the first {len(rows):,} are listed)" if found["failed"] > len(rows) else ""
    show_table("segment-failed-chunks", rows, title + first)
    show_markdown("segment-rerun", rerun_text(found, flow_run.get_id()))


def rerun_text(found: dict[str, Any], run_id: str | None) -> str:
    """Return what to do about failed chunks, as markdown.

    Args:
        found: the run's status.
        run_id: of the flow run.
    """
    place = absolute(found["output"])
    output, parameters = shlex.quote(place), json.dumps({"output": place})
    return "\n".join(
        [
            f"### {found['failed']:,} of {found['total']:,} chunks failed",
            "",
            "The others are done and stay done. When the cause is gone, any of these does only what is lacking:",
            "",
            "```shell",
            f"overtile rerun {output}",
            f"prefect deployment run {DEPLOYMENT} --params {shlex.quote(parameters)}",
            f"prefect flow-run retry {run_id}   # or the button Retry; a run of a deployment",
            "```",
            "",
            f"In the form of the deployment `{DEPLOYMENT}` the parameters are",
            "",
            "```json",
            json.dumps({"output": place}, indent=2),
            "```",
            "",
            f"`overtile status {output}` lists the failed chunks.",
        ]
    )
