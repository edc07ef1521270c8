"""What a flow run says of chunks that failed: a table of them, and what tries them again, ready to be pasted."""

from __future__ import annotations

import shlex
from typing import Any

from prefect.runtime import flow_run

from flows.artifacts import show_markdown, show_table
from pipeline.store import absolute

SHOWN = 1000
"""Rows of the table at most."""

DEPLOYMENT = "rerun-failed/rerun-failed"
"""The deployment that goes on with a run."""


def show_failures(found: dict[str, Any], source: str) -> None:
    """Show the failed chunks of a run, if there are any.

    Args:
        found: the run's status, as :func:`pipeline.status` gives it.
        source: the input.
    """
    if not found["failed"]:
        return
    rows = failure_rows(found, source)
    title = f"{found['failed']:,} of {found['total']:,} chunks failed · {found['output']}"
    first = f" (the first {len(rows):,} are listed)" if found["failed"] > len(rows) else ""
    show_table("segment-failed-chunks", rows, title + first)
    show_markdown("segment-rerun", rerun_text(found, flow_run.get_id()), "what tries the failed chunks again")


def failure_rows(found: dict[str, Any], source: str) -> list[dict[str, Any]]:
    """Return the rows of the table of failed chunks, what people look for first in front.

    Args:
        found: the run's status.
        source: the input, whose name is left out of the errors.
    """
    rerun = f"overtile rerun {shlex.quote(absolute(found['output']))} --chunks"
    return [
        {
            "position": each["position"],
            "attempts": each["attempts"],
            "error": each["error"].removeprefix(f"{source}: "),
            "rerun": f"{rerun} {each['position']}",
            "chunk": each["chunk"],
        }
        for each in found["failures"][:SHOWN]
    ]


def rerun_text(found: dict[str, Any], run_id: str | None) -> str:
    """Return what to do about failed chunks, as markdown.

    Args:
        found: the run's status.
        run_id: of the flow run.
    """
    place = absolute(found["output"])
    output = shlex.quote(place)
    return "\n".join(
        [
            f"### {found['failed']:,} of {found['total']:,} chunks failed",
            "",
            "The others are done and stay done. When the cause is gone, **any one** of these does what is lacking:",
            "",
            "**Here:** *Retry* in the menu of this run's page, if it is a run of a deployment; or a run of the"
            f" deployment `{DEPLOYMENT}` with `output` set to",
            "",
            f"```\n{place}\n```",
            "",
            "**In a terminal:**",
            "",
            f"```shell\novertile rerun {output}\n```",
            f"```shell\nprefect deployment run {DEPLOYMENT} \\\n  --param output={output}\n```",
            f"```shell\nprefect flow-run retry {run_id}\n```",
            "",
            f"`overtile status {output}` lists the failed chunks, and so does the artifact `segment-failed-chunks`.",
        ]
    )
