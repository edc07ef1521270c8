"""The classic comparisons, through ``overtile compare``: skips, upsamplings, padding and losses.

On generated shapes, whose truth is exact, and on membranes in electron microscopy (ISBI 2012).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

import pipeline
from benchmarks import train_isbi
from benchmarks.real import Printer
from benchmarks.training import budget, data_folder, number, skipped, table
from flows.paint import Canvas, paint
from flows.shapes import CLASS_NAMES
from pipeline.config import CompareJob

LESSON, EXAM = 2048, 1024
"""Pixels along the sides of what is learnt from, and of the exam."""

SKIPS: dict[str, Any] = {"autoencoder": {"architecture": {"skip": "none"}}}
CLASSICS: dict[str, Any] = {
    **SKIPS,
    "added skips": {"architecture": {"skip": "add"}},
    "bilinear": {"architecture": {"upsampling": "bilinear"}},
    "pixel shuffle": {"architecture": {"upsampling": "pixel_shuffle"}},
    "max unpooling": {"architecture": {"upsampling": "max_unpool"}},
    "valid padding": {"architecture": {"padding": "valid"}},
    "dice": {"loss": "dice"},
    "dice_cross_entropy": {"loss": "dice_cross_entropy"},
    "focal": {"loss": "focal"},
    "tversky": {"loss": "tversky"},
}
"""Against the base: concatenated skips, transposed convolutions, same padding, cross-entropy."""

LIGHT = {"depth": 4, "width": 8, "padding": "same", "norm": "batch", "classes": 1}


def run_shapes(place: Path) -> str:
    """The U-Net against the autoencoder without skips, on generated shapes, 3 seeds."""
    return compared(place / "train_shapes", shapes(place / "shapes", "train_shapes"), SKIPS)


def run_classics(place: Path) -> str:
    """Skips, four upsamplings, padding and losses, 3 seeds each, on generated shapes and on ISBI 2012."""
    data, folder = data_folder("em_isbi2012"), place / "train_isbi"
    parts = ["Shapes", compared(place / "classics_shapes", shapes(place / "shapes", "train_classics"), CLASSICS)]
    if data is None:
        return "\n\n".join([*parts, skipped("em_isbi2012")])
    train_isbi.prepare(data, folder)
    parts += ["ISBI 2012", compared(place / "classics_isbi", membranes(folder), CLASSICS)]
    return "\n\n".join(parts)


def shapes(folder: Path, name: str) -> dict[str, Any]:
    """Return base and exam of generated shapes, painted where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = []
    for part, side, seed in (("lesson", LESSON, 2), ("exam", EXAM, 3)):
        image, target = folder / f"{part}.tif", folder / f"{part}_target.zarr"
        if not target.exists():
            paint(Canvas(image, target, side, seed), processes=1, on_progress=lambda done: None)
        pairs.append({"image": str(image), "target": str(target)})
    base = {"classes": CLASS_NAMES, "architecture": {**LIGHT, "in_channels": 3}, "patch": (128, 128)}
    return {"base": base | settings(name, pairs[0]), "exam": pairs[1:]}


def membranes(folder: Path) -> dict[str, Any]:
    """Return base and exam of ISBI 2012: slices 0 to 17, and 18 to 23."""
    learnt, exam = (
        {"image": str(folder / f"{part}_image.zarr"), "target": str(folder / f"{part}_label.zarr")}
        for part in ("train", "test")
    )
    base = {"classes": train_isbi.CLASSES, "architecture": {**LIGHT, "in_channels": 1}, "patch": (192, 192)}
    return {"base": base | settings("train_classics", learnt), "exam": [exam]}


def settings(name: str, pair: dict[str, str]) -> dict[str, Any]:
    """Return what all bases share: the last weights are kept, so that nothing is chosen by what is measured.

    There is no limit of time: all variants take the same steps, whatever a step of theirs costs.
    """
    limits = budget(name)
    return {
        "pairs": [pair],
        "batch": 8,
        "loss": "cross_entropy",
        "learning_rate": 0.005,
        "augment": True,
        "split": "none",
        "steps": limits["steps"],
        "validate_every": limits["validate_every"],
    }


def compared(folder: Path, data: dict[str, Any], variants: dict[str, Any]) -> str:
    """Compare, with the job's file in the folder, and return means, spreads and differences as a table."""
    named = {name.replace(" ", "_"): changes for name, changes in variants.items()}
    values = data | {"variants": named, "seeds": [0, 1, 2], "out": str(folder)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False))
    found = pipeline.compare(CompareJob.model_validate(values), listener=Printer())
    differences = {each["variant"]: each for each in found["differences"] if each["metric"] == "mean_iou"}
    rows = [
        row(each, differences.get(each["variant"]), found)
        for each in found["variants"]
        if each["metric"] == "mean_iou"
    ]
    heads = ["variant", "mean IoU", "±", "minus base", "interval", "verdict", "steps", "seconds a training"]
    return table(heads, rows)


def row(each: dict[str, Any], difference: dict[str, Any] | None, found: dict[str, Any]) -> list[object]:
    """Return a variant's row."""
    trials = [trial for trial in found["trials"] if trial["variant"] == each["variant"]]
    seconds = sum(trial["seconds"] for trial in trials) / len(trials)
    against = ["", "", ""]
    if difference is not None:
        ends = "–" if difference["low"] is None else f"{difference['low']:+.4f} to {difference['high']:+.4f}"
        against = [f"{difference['mean']:+.4f}", ends, difference["verdict"]]
    return [
        each["variant"],
        number(each["mean"]),
        number(each["std"]),
        *against,
        trials[0]["steps"],
        f"{seconds:.0f}",
    ]
