"""Mitochondria in a FIB-SEM volume (EPFL hippocampus): a block of all slices is held out, with a guard before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.io import imread

from benchmarks.real import _ingest
from benchmarks.training import budget, data_folder, number, segmented, skipped, table, told, trained
from pipeline import EvaluateJob, evaluate

LEARNT, REPORTED = "0:20,0:768,0:640", "0:20,0:768,736:1024"
"""Boxes z, y, x. Slices are near copies of their neighbours, so that none is learnt from where another is reported on;
the network sees 46 pixels far, and 96 lie between."""

CLASSES = ("background", "mitochondrion")
NETWORK = {"in_channels": 1, "classes": 1, "depth": 4, "width": 16, "padding": "same", "norm": "batch"}


def run(place: Path) -> str:
    """Mitochondria, IoU on a held-out block of 288 columns of all slices, trained on 640 columns."""
    data = data_folder("em_epfl6")
    if data is None:
        return skipped("em_epfl6")
    folder = place / "train_mito"
    folder.mkdir(parents=True, exist_ok=True)
    for name, options in (("slices", {}), ("mitochondrion", {"classes": CLASSES, "threshold": 127})):
        np.save(folder / f"{name}.npy", stack(data / name))
        _ingest(folder / f"{name}.npy", folder / f"{name}.zarr", axes="zyx", **options)
    found = trained(folder, job(folder))
    rows = [[name, *measured(folder, turns), told(found)] for name, turns in (("once", "none"), ("--tta", "all"))]
    return table(["segmented", "IoU", "Dice", "precision", "recall", "trained", "seconds"], rows)


def stack(folder: Path) -> npt.NDArray[np.uint8]:
    """Return the slices of a folder, ``(z, y, x)``; some are stored with alpha, or as three equal channels."""
    slices = [imread(path) for path in sorted(folder.glob("*.png"))]
    return np.stack([each if each.ndim == 2 else each[..., 0] for each in slices])


def job(folder: Path) -> dict[str, Any]:
    """Return the job: only what lies in the box is learnt from, and weights are chosen by blocks of it."""
    return {
        "pairs": [
            {
                "image": str(folder / "slices.zarr"),
                "target": str(folder / "mitochondrion.zarr"),
                "boxes": [LEARNT],
            },
        ],
        "classes": CLASSES,
        "architecture": NETWORK,
        "patch": (128, 128),
        "batch": 8,
        "loss": "dice_cross_entropy",
        "ema": 0.99,
        "learning_rate": 0.003,
        "precision": "bfloat16",
        "split": {"by": "block", "share": 0.15},
        "augment": {"scale": 0.15, "brightness": 0.3, "contrast": 0.25, "gamma": 0.2, "noise": 0.15},
        **budget("train_mito"),
    }


def measured(folder: Path, turns: str) -> list[str]:
    """Segment the volume, and return the ratios of the mitochondria in the reported block."""
    segmented(folder, folder / "slices.zarr", f"prediction_{turns}", tta=turns)
    target = {"target": str(folder / "mitochondrion.zarr"), "region": REPORTED}
    ratios = evaluate(
        EvaluateJob.model_validate({"prediction": str(folder / f"prediction_{turns}.zarr"), **target})
    )["classes"]["mitochondrion"]
    return [number(ratios[name]) for name in ("iou", "dice", "precision", "recall")]
