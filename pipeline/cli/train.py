"""``overtile train``: learn a network from volumes and their targets."""

from __future__ import annotations

from typing import Any

import pipeline
from pipeline.cli.options import Console, TerminalListener, job_command, print_json
from pipeline.cli.texts import duration, table
from pipeline.config import TrainJob


@job_command(TrainJob, arguments=(), example="overtile train --config job.yaml")
def train_command(job: TrainJob, as_json: bool) -> None:
    """Train a U-Net. Pairs, validation and architecture stand in the job file, the rest may too."""
    console = Console()
    with TerminalListener(console) as listener:
        found = pipeline.train(job, listener=listener)
    if as_json:
        print_json(found)
        return
    console.say(f"{found['checkpoint']}: trained", style="bold green")
    console.say(_text(found))
    console.say(f"next    overtile segment VOLUME.zarr OUT.zarr --model {found['checkpoint']}")


def _text(found: dict[str, Any]) -> str:
    rows = [
        ("steps", f"{found['steps']}, {found['patches']} patches, {duration(found['seconds'])}"),
        ("loss", f"{found['loss']:.4f}"),
        ("digest", found["digest"]),
    ]
    measured = found["validation"] or {"classes": {}}
    rows += [
        (f"IoU {name}", "undefined" if of["iou"] is None else f"{of['iou']:.4f}")
        for name, of in measured["classes"].items()
    ]
    return table(rows)
