"""Nuclei in a confocal stack: a 3-D network with three-class targets, out of HDF5 as it is.

A part of the stack is learnt from (``boxes``), a guard is left out, and the rest is reported on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.objects import connected, counted, objects, scores
from benchmarks.training import budget, data_folder, number, segmented, skipped, table, told, trained
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.statistics import ConfusionStatistics

CLASSES = ("background", "interior", "boundary")
NETWORK = {"dims": 3, "in_channels": 1, "classes": 3, "depth": 3, "width": 8, "padding": "same", "norm": "batch"}
LEARNT, REPORTED = "0:100,0:100,0:56", slice(70, 100)
"""What is learnt from (z, y, x), and the columns x that are reported on; 14 columns lie between."""

LEAST = 8
"""Voxels of a seed."""


def run(place: Path) -> str:
    """A 3-D run: nuclei of a confocal stack of 100 x 100 x 100 voxels, 30 columns held out."""
    data = data_folder("vol3d")
    if data is None:
        return skipped("vol3d")
    folder, file = place / "train_3d", data / "nuclei_1135_mini.h5"
    found = trained(folder, job(file))
    classes = segmented(folder, f"{file}::/raw", "prediction", tta="flips")[..., REPORTED]
    with h5py.File(file) as stack:
        target = np.asarray(stack["label"])[..., REPORTED]
    total = ConfusionStatistics.of((classes > 0).astype(np.uint8), (target > 0).astype(np.uint8), classes=2)
    iou = metrics(total, ("background", "nucleus"))["classes"]["nucleus"]["iou"]
    rows = []
    for name, make in (("seeds and watershed", objects), ("connected parts", connected)):
        of = scores(counted(make(classes, least=LEAST), target, number=0))
        ratios = [number(of[each]) for each in ("f1", "precision", "recall", "pq", "aji")]
        rows.append([name, number(iou), *ratios, of["objects"], told(found)])
    heads = [
        "objects by",
        "IoU of nuclei",
        "F1",
        "precision",
        "recall",
        "PQ",
        "AJI",
        "nuclei",
        "trained",
        "seconds",
    ]
    return table(heads, rows)


def job(file: Path) -> dict[str, Any]:
    """Return the job; the stack is too small to hold out a further part, so the last weights are kept, averaged."""
    return {
        "pairs": [{"image": f"{file}::/raw", "target": f"{file}::/label", "boxes": [LEARNT]}],
        "classes": CLASSES,
        "instances": "three_class",
        "boundary": 1,
        "architecture": NETWORK,
        "patch": (32, 48, 48),
        "batch": 2,
        "loss": {"kind": "dice_cross_entropy", "class_weights": "balanced"},
        "ema": 0.99,
        "learning_rate": 0.003,
        "split": "none",
        "augment": {"scale": 0.15, "brightness": 0.2, "contrast": 0.2, "noise": 0.1},
        **budget("train_3d"),
    }
