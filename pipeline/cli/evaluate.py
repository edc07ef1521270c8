"""``overtile evaluate``: how good a prediction is, as a table or as JSON."""

from __future__ import annotations

from typing import Any

import click

import pipeline
from pipeline.cli.evaluated import more_facts, number
from pipeline.cli.options import TerminalListener, job_command, print_json
from pipeline.cli.texts import columns, table
from pipeline.config import EvaluateJob

_SHOWN = {"iou": "IoU", "dice": "Dice", "precision": "precision", "recall": "recall"}


@job_command(
    EvaluateJob,
    arguments=("prediction", "target"),
    example="overtile evaluate nuclei.zarr nuclei-target.zarr --out nuclei-metrics",
)
def evaluate_command(job: EvaluateJob, as_json: bool) -> None:
    """Measure a prediction against a target: classes, and where asked for areas, probabilities, outlines, objects.

    With --out, running it again resumes: only what is lacking is measured.
    """
    with TerminalListener() as listener:
        found = pipeline.evaluate(job, listener=listener)
    if as_json:
        print_json(found)
    else:
        click.echo(_text(found, job.out))


def _text(found: dict[str, Any], out: str | None) -> str:
    """Return the metrics for people: a line a class, then what holds for the whole."""
    head = ("class", *_SHOWN.values(), "target voxels", "prediction voxels")
    rows = [
        (name, *_ratios(each), f"{each['target_voxels']:,}", f"{each['prediction_voxels']:,}")
        for name, each in found["classes"].items()
    ]
    mean = ("mean", *_ratios({ratio: found[f"mean_{ratio}"] for ratio in _SHOWN}), "", "")
    facts = [
        ("accuracy", number(found["accuracy"])),
        ("voxels", f"{found['voxels']:,} compared in {found['chunks']:,} chunk(s), {found['ignored']:,} ignored"),
    ]
    if found["absent"]:
        facts.append(("absent", ", ".join(found["absent"]) + " (in neither volume; not in the means)"))
    if found["holes"]["chunks"]:
        chunks = found["holes"]["chunks"]
        facts.append(
            ("HOLES", f"voxels of {chunks:,} chunk(s) are missing, and were left out (--json names them)")
        )
    if found["worst"]:
        worst = found["worst"][0]
        facts.append(("worst", f"chunk {worst['position']} ({worst['core']}): {worst['wrong']:,} voxels wrong"))
    facts += more_facts(found)
    if out is not None:
        facts.append(("written", f"{out}/metrics.json, {out}/statistics.parquet, {out}/statistics.zarr (maps)"))
    return "\n".join([*columns([head, *rows, mean]), "", table(facts)])


def _ratios(values: dict[str, Any]) -> list[str]:
    return [number(values[ratio]) for ratio in _SHOWN]
