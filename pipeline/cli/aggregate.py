"""``overtile aggregate``: many evaluations and runs as one table and one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

import pipeline
from pipeline.cli.options import Console, TerminalListener, job_command, print_json
from pipeline.cli.texts import columns, table
from pipeline.config import AggregateJob
from pipeline.jobs.aggregation import check_bounds

SHOWN = 20
"""Lines of a kind that are shown at most."""


@job_command(
    AggregateJob,
    arguments=("sources",),
    example="overtile aggregate /data/evaluations /data/results --out metrics.parquet",
)
def aggregate_command(job: AggregateJob, as_json: bool) -> None:
    """Put the metrics of many runs into one table and on one page, and compare their models on the same volumes.

    Folders are searched for evaluations (`overtile evaluate --out`) and runs. Running it again over the same ones gives
    the same table, byte by byte.
    """
    console = Console()
    with TerminalListener(console) as listener:
        found = pipeline.aggregate(job, listener=listener)
    if as_json:
        print_json(found)
    else:
        click.echo(_text(found))
    for alert in found["alerts"][:SHOWN]:
        console.say(alert["text"], style="bold yellow")
    if job.fail_below:
        check_bounds(found)


def _text(found: dict[str, Any]) -> str:
    """Return models and comparisons for people, and where everything is."""
    models = [("model", "metric", "volumes", "mean", "interval")]
    models += [
        (each["model"], each["metric"], f"{each['volumes']}", _number(each["mean"]), _interval(each))
        for each in found["models"]
    ]
    pairs = [("second minus first", "metric", "pairs", "difference", "interval")]
    pairs += [
        (
            f"{each['second']} - {each['first']}",
            each["metric"],
            f"{each['volumes']}",
            _number(each["difference"], "+.4f"),
            _interval(each, "+.4f"),
        )
        for each in found["comparisons"]
    ]
    counts = ", ".join(f"{number} {kind}" for kind, number in found["counts"].items())
    facts = [("found", counts), ("table", found["table"]), ("page", found["page"])]
    if found["unmatched"]:
        facts.insert(1, ("unmatched", f"{len(found['unmatched'])}; the page and --json say which and why"))
    parts = [_some(part) for part in (models, pairs) if len(part) > 1]
    return "\n\n".join([*parts, table(facts)])


def _some(rows: Sequence[tuple[str, ...]]) -> str:
    more = len(rows) - 1 - SHOWN
    lines = columns(rows[: SHOWN + 1])
    return "\n".join([*lines, f"and {more} more (--json lists them)"] if more > 0 else lines)


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _interval(each: dict[str, Any], form: str = ".4f") -> str:
    return "-" if each["low"] is None else f"{each['low']:{form}} to {each['high']:{form}}"
