"""``overtile seams``: whether a prediction has seams, ours or not."""

from __future__ import annotations

from typing import Any

import click

import pipeline
from pipeline.cli.options import TerminalListener, job_command, print_json
from pipeline.cli.texts import borders_text, columns
from pipeline.config import SeamsJob


@job_command(SeamsJob, arguments=("volume",), example="overtile seams other.zarr --chunk 512,512 --kind labels")
def seams_command(job: SeamsJob, as_json: bool) -> None:
    """Measure the seams of a prediction: what changes at borders of chunks and tiles, against what does nearby."""
    with TerminalListener() as listener:
        found = pipeline.seams(job, listener=listener)
    if as_json:
        print_json(found)
    else:
        click.echo(_text(found))


def _text(found: dict[str, Any]) -> str:
    head = ("borders", "gap", "places", "cells", "share", "ratio", "p")
    rows = [
        (f"{each['borders']} {each['axis']}", each["scale"], f"{each['strips']:,}", f"{each['cells']:,}",
         f"{each['share']:.4f}", "-" if each["ratio"] is None else f"{each['ratio']:.3f}", f"{each['p']:.2g}")
        for each in found["contrasts"]
    ]  # fmt: skip
    silent = [f"{each['borders']} borders along {each['axis']}: {each['reason']}" for each in found["unmeasured"]]
    return "\n".join([*(columns([head, *rows]) if rows else []), *silent, "", borders_text(found)]).lstrip()
