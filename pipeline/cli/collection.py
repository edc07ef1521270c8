"""``overtile collection``: a whole archive, volume by volume."""

from __future__ import annotations

from typing import Any

import pipeline
from pipeline.cli.options import Console, TerminalListener, job_command, print_json
from pipeline.cli.texts import duration, table
from pipeline.config import CollectionJob
from pipeline.jobs.roster import check_summary

SHOWN = 20
"""Volumes that are listed at most."""


@job_command(
    CollectionJob,
    arguments=("input", "output"),
    example="overtile collection /data/scans /data/nuclei --model nuclei.safetensors",
)
def collection_command(job: CollectionJob, as_json: bool) -> None:
    """Segment every volume of an archive; running it again does what is new or has changed since.

    A volume that fails never stops the others; the exit code is 3 then. Results, and collection.json, which lists
    them, lie in OUTPUT.
    """
    console = Console()
    with TerminalListener(console) as listener:
        found = pipeline.collect(job, listener=listener)
    if as_json:
        print_json(found)
    else:
        counts = ", ".join(f"{count} {state}" for state, count in found["counts"].items())
        console.say(f"{job.output}: {counts or 'no volumes'}", style="bold green")
        news = [each for each in found["volumes"] if each["state"] != "unchanged"]
        if news:
            console.say(_rows_text(news))
    check_summary(found)


def _rows_text(news: list[dict[str, Any]]) -> str:
    rows = [
        (each["state"], f"{each['volume']}  {duration(each['seconds'])}  {each['error'] or each['result']}")
        for each in news[:SHOWN]
    ]
    if len(news) > SHOWN:
        rows.append(("", f"and {len(news) - SHOWN} more (--json lists them)"))
    return table(rows)
