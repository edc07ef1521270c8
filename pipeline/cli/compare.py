"""``overtile compare``: variants of one training, measured on the same held-out regions."""

from __future__ import annotations

from typing import Any

import click

import pipeline
from pipeline.cli.options import Console, TerminalListener, job_command, print_json
from pipeline.cli.texts import columns, table
from pipeline.config import CompareJob


@job_command(CompareJob, arguments=(), example="overtile compare --config job.yaml")
def compare_command(job: CompareJob, as_json: bool) -> None:
    """Train variants of one job from several seeds, and compare them on the same held-out regions.

    The job file names a base (as for `overtile train`), variants by what they change, and a folder. Running it again
    goes on with what was stopped, and trains nothing twice; variants and seeds may be added.
    """
    with TerminalListener(Console()) as listener:
        found = pipeline.compare(job, listener=listener)
    if as_json:
        print_json(found)
    else:
        click.echo(_text(found))


def _text(found: dict[str, Any]) -> str:
    """Return variants and differences for people, and where everything is."""
    variants = [("variant", "metric", "seeds", "mean", "std")]
    variants += [
        (each["variant"], each["metric"], str(len(each["by_seed"])), _number(each["mean"]), _number(each["std"]))
        for each in found["variants"]
    ]
    differences = [("minus the base", "metric", "difference", "interval", "verdict")]
    differences += [
        (each["variant"], each["metric"], _number(each["mean"], "+.4f"), _interval(each), each["verdict"])
        for each in found["differences"]
    ]
    places = table([(name, found[name]) for name in ("table", "page")])
    return "\n\n".join(["\n".join(columns(variants)), "\n".join(columns(differences)), places])


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _interval(each: dict[str, Any]) -> str:
    return "-" if each["low"] is None else f"{each['low']:+.4f} to {each['high']:+.4f}"
