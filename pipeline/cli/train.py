"""``overtile train``: learn a network from volumes and their targets."""

from __future__ import annotations

import os
from typing import Any

import pipeline
from pipeline.cli.options import Console, TerminalListener, job_command, print_json
from pipeline.cli.texts import duration, table
from pipeline.config import TrainJob
from pipeline.training.choices import Choice


@job_command(TrainJob, arguments=(), example="overtile train --config job.yaml --dry-run")
def train_command(job: TrainJob, as_json: bool) -> None:
    """Train a U-Net, or go on with a training that was stopped.

    Pairs, output and classes are needed; what else is left out is planned from the data, with a reason for each choice.
    """
    console = Console()
    with TerminalListener(console) as listener:
        found = pipeline.train(job, listener=listener)
    if int(os.environ.get("RANK", 0)):  # of several processes that train together, the first one tells
        return
    if as_json:
        print_json(found)
        return
    if job.dry_run:
        console.say(f"{job.output}: would be trained", style="bold green")
        console.say(_plan_text(found))
        return
    console.say(f"{job.output}: trained", style="bold green")
    console.say(_folds_text(found) if "folds" in found else _text(found))
    if "folds" not in found:
        console.say(f"next    overtile segment VOLUME.zarr OUT.zarr --model {found['checkpoint']}")


def _plan_text(found: dict[str, Any]) -> str:
    choices = [Choice(**each) for each in found["plan"]]
    rows = [(choice.name, f"{choice.shown}  ({choice.reason})") for choice in choices]
    rows += [("split", _split_text(each)) for each in found["split"]]
    if found["resumed"]:
        rows.append(("state", "begun before: it would go on"))
    return table(rows)


def _split_text(split: dict[str, Any]) -> str:
    voxels = split.get("voxels")
    if voxels is None:
        return f"by {split['by']}"
    return f"by {split['by']}: {voxels['learnt']:,} voxels learnt, {voxels['measured']:,} measured"


def _text(found: dict[str, Any]) -> str:
    waited = found["waited"] / max(found["seconds"], 1e-9)
    rows = [
        ("steps", f"{found['steps']}, {found['patches']} patches, {duration(found['seconds'])}"),
        ("waited", f"{waited:.1%} of the time for data"),
        ("loss", f"{found['loss']:.4f}"),
        ("digest", found["digest"]),
    ]
    if found["kept_step"] != found["steps"]:
        rows.append(("kept", f"weights of step {found['kept_step']}, the best that were measured"))
    measured = found["validation"] or {"classes": {}}
    rows += [
        (f"IoU {name}", "undefined" if of["iou"] is None else f"{of['iou']:.4f}")
        for name, of in measured["classes"].items()
    ]
    calibration = found["calibration"]
    if calibration is not None:
        errors = [calibration[side]["ece"] for side in ("raw", "calibrated")]
        rows.append(("threshold", f"{calibration['threshold']:.3f}"))
        rows.append(
            (
                "temperature",
                f"{calibration['temperature']:.3f} (ECE {errors[0]:.3f} without, {errors[1]:.3f} with)",
            )
        )
    return table(rows)


def _folds_text(found: dict[str, Any]) -> str:
    rows: list[tuple[str, Any]] = [
        (f"fold {number}", f"{fold['checkpoint']}, mean IoU {_ratio(fold['validation']['mean_iou'])}")
        for number, fold in enumerate(found["folds"], start=1)
    ]
    summary = found["summary"]
    named = {"mean": summary["mean_iou"], **{name: of["iou"] for name, of in summary["classes"].items()}}
    rows += [
        (f"IoU {name}", f"{_ratio(spread['mean'])}, standard deviation {_ratio(spread['std'])}")
        for name, spread in named.items()
    ]
    return table(rows)


def _ratio(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
