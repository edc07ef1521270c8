"""Nuclei in H&E (Data Science Bowl 2018): instance F1 with three-class targets, split by field.

Tiles of one field are neighbours (2 x 2), so that fields are held out whole: every fourth one, by its number.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from skimage.io import imread

from benchmarks.objects import Ids, connected, counted, objects, scores
from benchmarks.real import _ingest, _links
from benchmarks.training import budget, data_folder, number, segmented, skipped, table, told, trained
from pipeline.evaluation.contingency import ContingencyTable

CLASSES = ("background", "interior", "boundary")
NETWORK = {"in_channels": 3, "classes": 3, "depth": 4, "width": 16, "padding": "same", "norm": "batch"}
LEAST = 12
"""Pixels of a seed."""

SHAPE = (256, 320)


def run(place: Path) -> str:
    """Nuclei in H&E: instance F1 at IoU 0.5 on fields never seen, three-class targets."""
    data = data_folder("nuclei_dsb2018")
    if data is None:
        return skipped("nuclei_dsb2018")
    folder = place / "train_nuclei"
    learnt, reported = fields(data / "index.csv")
    for part, names in (("train", learnt), ("test", reported)):
        for kind in ("image", "label"):
            _links(folder / part / kind, [data / "he" / kind / f"{name}.png" for name in names])
            _ingest(folder / part / kind, folder / f"{part}_{kind}.zarr")
    found = trained(folder, job(folder))
    classes = segmented(folder, folder / "test_image.zarr", "prediction", tta="all")
    truth = [imread(data / "he" / "label" / f"{name}.png") for name in sorted(reported)]
    rows = [[name, *measures(classes, truth, make), told(found)] for name, make in WAYS.items()]
    heads = ["objects by", "F1", "precision", "recall", "PQ", "AJI", "nuclei", "trained", "seconds"]
    return f"{len(learnt)} tiles learnt, {len(reported)} reported.\n\n{table(heads, rows)}"


WAYS = {"seeds and watershed": objects, "connected parts": connected}
"""The second ignores what the boundaries say: what they are worth."""


def fields(index: Path) -> tuple[list[str], list[str]]:
    """Return the tiles that are learnt from and those that are reported on; a field is on one side."""
    with index.open() as file:
        rows = [row for row in csv.DictReader(file) if row["class"] == "he"]
    rows = [row for row in rows if (int(row["height"]), int(row["width"])) == SHAPE]
    held = sorted({row["mosaic_group"] for row in rows})[3::4]
    sides: tuple[list[str], list[str]] = [], []
    for row in rows:
        sides[row["mosaic_group"] in held].append(row["file"])
    return sides


def job(folder: Path) -> dict[str, Any]:
    """Return the job; tiles are slices of a stack, and a tenth of them chooses the weights."""
    return {
        "pairs": [{"image": str(folder / "train_image.zarr"), "target": str(folder / "train_label.zarr")}],
        "classes": CLASSES,
        "instances": "three_class",
        "boundary": 2,
        "architecture": NETWORK,
        "patch": (128, 128),
        "batch": 8,
        "loss": {"kind": "dice_cross_entropy", "class_weights": "balanced"},
        "ema": 0.99,
        "learning_rate": 0.003,
        "precision": "bfloat16",
        "split": {"by": "slice", "share": 0.1},
        "augment": {"elastic": {}, "scale": 0.2, "brightness": 0.2, "contrast": 0.2, "stain": 0.2, "blur": 0.7},
        **budget("train_nuclei"),
    }


def measures(classes: Ids, truth: Sequence[Ids], make: Callable[..., Ids]) -> list[str]:
    """Return the scores of all tiles together."""
    total = ContingencyTable.zero()
    for place, (found, target) in enumerate(zip(classes, truth, strict=True)):
        total += counted(make(found, least=LEAST), np.asarray(target), number=place)
    found = scores(total)
    return [number(found[name]) for name in ("f1", "precision", "recall", "pq", "aji")] + [str(found["objects"])]
