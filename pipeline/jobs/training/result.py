"""What a training leaves behind: the checkpoint with its provenance, the metrics, and the figures."""

from __future__ import annotations

import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import EnvironmentFaultError, ModelError
from pipeline.jobs.training.lesson import Lesson
from pipeline.jobs.training.prepared import Prepared
from pipeline.model.checkpoint import Scalar, read_header
from pipeline.model.unet import UNet
from pipeline.model.weights import save_checkpoint
from pipeline.store import put_file
from pipeline.training.calibrate import Calibration, calibrate
from pipeline.training.figure import curve_png, reliability_png
from pipeline.training.learner import History
from pipeline.training.validation import Measured

FORMAT = "overtile-training/1"

LONGEST = 2000
"""Characters of the boxes that are held out, in a checkpoint's header; the metrics document has all of them."""


def provenance(prepared: Prepared, lesson: Lesson, history: History, validation: Any) -> dict[str, Scalar]:
    """Return where the weights come from, for the checkpoint's header."""
    plan, found = prepared.plan, validation or {}
    kept = history.best or history.step
    held = json.dumps(lesson.split.get("measured", []))
    return {
        "overtile": importlib.metadata.version("overtile"),
        "torch": torch.__version__,
        "trained": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "images": ", ".join(Path(pair.image).name for pair in plan.job.pairs),
        "validation_images": ", ".join(Path(pair.image).name for pair in plan.job.validation) or None,
        "split": str(lesson.split["by"]),
        "held_out": held if len(held) <= LONGEST else f"{held[:LONGEST]}...",
        "seed": plan.job.seed,
        "steps": history.step,
        "kept_step": kept,
        "patches": history.step * plan.batch,
        "seconds": round(history.seconds, 3),
        "loss": history.curve[-1]["loss"] if history.curve else None,
        "validation_mean_iou": found.get("mean_iou"),
        "validation_mean_dice": found.get("mean_dice"),
    }


def write(
    prepared: Prepared, lesson: Lesson, output: Path, model: UNet, history: History, measured: Measured | None
) -> dict[str, Any]:
    """Write the checkpoint, the metrics and the figures; return the metrics.

    Args:
        prepared: the training.
        lesson: what the network learnt from.
        output: the checkpoint.
        model: the network with the weights that are kept, on the CPU.
        history: what happened.
        measured: what those weights are worth.

    Raises:
        EnvironmentFaultError: something cannot be written.
    """
    plan = prepared.plan
    validation = None if measured is None else measured.metrics(plan.job.classes)
    calibration = calibrate(measured) if plan.job.calibrate else Calibration()
    header = prepared.header.model_copy(
        update={
            "threshold": calibration.threshold,
            "temperature": calibration.temperature,
            "normalisation": lesson.normalisation,
            "provenance": provenance(prepared, lesson, history, validation),
        }
    )
    digest = save_checkpoint(output, model.eval(), header)
    document = {
        "format": FORMAT,
        "checkpoint": str(output),
        "digest": digest,
        "steps": history.step,
        "kept_step": history.best or history.step,
        "patches": history.step * plan.batch,
        "seconds": round(history.seconds, 3),
        "waited": round(history.waited, 3),
        "loss": history.curve[-1]["loss"],
        "validation": validation,
        "calibration": calibration.document,
        "curve": history.curve,
        "losses": history.losses,
        "normalisation": lesson.normalisation.model_dump(mode="json"),
        "split": lesson.split,
        "plan": plan.document(),
        "provenance": header.provenance,
        "job": plan.job.model_dump(mode="json"),
    }
    put_document(output.with_suffix(".metrics.json"), document)
    _put(output.with_suffix(".curve.png"), curve_png(history, f"Training of {output.name}", loss=plan.loss.kind))
    if calibration.document is not None:
        found = calibration.document
        figure = reliability_png(found["raw"], found["calibrated"], f"Calibration of {output.name}")
        _put(output.with_suffix(".reliability.png"), figure)
    return document


def write_stopped(prepared: Prepared, lesson: Lesson, path: Path, model: UNet, history: History, why: str) -> None:
    """Write the best weights of a training that broke down, and say so in their provenance."""
    found = provenance(prepared, lesson, history, None) | {"stopped": why}
    known = {"provenance": found, "normalisation": lesson.normalisation}
    save_checkpoint(path, model.eval(), prepared.header.model_copy(update=known))


def replaced(output: Path, validation: dict[str, Any] | None) -> str | None:
    """Return what to say of a checkpoint that is to be replaced, if there is one that measured better."""
    try:
        before = read_header(output).provenance.get("validation_mean_iou")
    except ModelError:  # none, or not one of ours: nothing to compare with
        return None
    after = (validation or {}).get("mean_iou")
    if not isinstance(before, float) or after is None or before <= after:
        return None
    return (
        f"{output} is replaced: the checkpoint there measured a mean IoU of {before:.4f} on what it held out, the new"
        f" one {after:.4f}"
    )


def put_document(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON document. Errors as :func:`write`."""
    _put(path, (json.dumps(document, indent=2) + "\n").encode())


def _put(path: Path, content: bytes) -> None:
    try:
        put_file(path, content)
    except OSError as error:
        raise EnvironmentFaultError(f"{path}: what was measured cannot be written ({error})") from error
