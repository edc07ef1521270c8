"""Membranes in electron microscopy (ISBI 2012): learn from 18 slices, report on 6 that training never saw.

The test labels of the challenge are hidden, so this is a local hold-out: slices 18 to 23 of the training stack. Labels
are 0 on membranes, so that class 1 (membrane) is value 0; the measures take the probability of the interior.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.io import imread

from benchmarks.real import _ingest, _links
from benchmarks.training import budget, data_folder, number, segmented, skipped, table, told, trained
from pipeline.evaluation.isbi import BEST, IsbiStatistics, isbi_metrics
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.statistics import ConfusionStatistics

PARTS = {"train": range(18), "test": range(18, 24)}
CLASSES = ("interior", "membrane")
NETWORK = {
    "in_channels": 1,
    "classes": 1,
    "depth": 4,
    "width": 32,
    "padding": "same",
    "norm": "batch",
    "dropout": 0.2,
}

Maps = npt.NDArray[Any]


def run(place: Path) -> str:
    """ISBI 2012, local hold-out: the challenge's measures on slices 18 to 23, trained on 0 to 17."""
    data = data_folder("em_isbi2012")
    if data is None:
        return skipped("em_isbi2012")
    folder = place / "train_isbi"
    prepare(data, folder)
    found = trained(folder, job(folder))
    rows = []
    for name, turns in (("once", "none"), ("--tta", "all")):
        membrane = segmented(
            folder,
            folder / "test_image.zarr",
            f"probabilities_{turns}",
            kind="probabilities",
            dtype="float32",
            tta=turns,
        )
        rows.append([name, *measures(interior(membrane), truth(data)), told(found)])
    return table(["segmented", *NAMES, "trained", "seconds"], rows)


def prepare(data: Path, folder: Path) -> None:
    """Bring images and labels of both parts into volumes; 0, membrane, becomes class 1."""
    for part, numbers in PARTS.items():
        for kind in ("image", "label"):
            _links(folder / part / kind, [data / kind / f"{i:02d}.png" for i in numbers])
            options = {"classes": CLASSES, "values": {0: 1, 255: 0}} if kind == "label" else {}
            _ingest(folder / part / kind, folder / f"{part}_{kind}.zarr", **options)


def job(folder: Path) -> dict[str, Any]:
    """Return the job: the paper's augmentation, weights averaged, and the best of two slices that are held out."""
    return {
        "pairs": [{"image": str(folder / "train_image.zarr"), "target": str(folder / "train_label.zarr")}],
        "classes": CLASSES,
        "architecture": NETWORK,
        "patch": (256, 256),
        "batch": 4,
        "loss": "cross_entropy",
        "learning_rate": 0.003,
        "schedule": "cosine",
        "ema": 0.99,
        "precision": "bfloat16",
        "split": {"by": "slice", "share": 0.12},
        "augment": {
            "elastic": {},
            "scale": 0.15,
            "brightness": 0.3,
            "contrast": 0.25,
            "gamma": 0.2,
            "noise": 0.15,
        },
        **budget("train_isbi"),
    }


def truth(data: Path) -> Maps:
    """Return the labels of the slices that are reported on, ``(z, y, x)``, 0 on membranes."""
    return np.stack([imread(data / "label" / f"{i:02d}.png") for i in PARTS["test"]])


def interior(membrane: Maps) -> Maps:
    """Return the probability of the interior, ``(z, y, x)``, of what was segmented, ``([c,] z, y, x)``."""
    return 1 - (membrane[-1] if membrane.ndim == 4 else membrane)


NAMES = (
    *("V_rand", "V_info", "Rand error", "pixel error"),
    *("V_rand at 0.5", "pixel error at 0.5", "IoU membrane", "Dice membrane", "IoU interior"),
)


def measures(found: Maps, target: Maps) -> list[str]:
    """Return :data:`NAMES` of some slices.

    The first four as the challenge has them: the best over its thresholds, of means over slices.

    Args:
        found: probability of the interior ``(z, y, x)``.
        target: 0 on membranes ``(z, y, x)``.
    """
    sums = isbi_metrics(IsbiStatistics.of_stack(found, target))["per_slice"]
    best = [sums[name]["value"] for name in BEST if name != "pixel_f_error"]
    half = [sums["at"][name] for name in ("v_rand", "pixel_error")]
    classes = ConfusionStatistics.of((found <= 0.5).astype(np.uint8), (target == 0).astype(np.uint8), classes=2)
    of = metrics(classes, CLASSES)["classes"]
    shared = [of["membrane"]["iou"], of["membrane"]["dice"], of["interior"]["iou"]]
    return [number(value) for value in (*best, *half, *shared)]
