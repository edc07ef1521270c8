"""Buildings in an aerial image (Massachusetts): polygons as targets, and how far four folds lie apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.training import budget, data_folder, number, skipped, table, trained

CLASSES = ("ground", "building")
NETWORK = {"in_channels": 3, "classes": 1, "depth": 4, "width": 16, "padding": "same", "norm": "batch"}
FOLDS = 4


def run(place: Path) -> str:
    """Buildings from polygons, IoU over four folds of blocks of one scene, with guards."""
    data = data_folder("sat_labelled")
    if data is None:
        return skipped("sat_labelled")
    found = trained(place / "train_buildings", job(data / "massachusetts"))
    rows = [
        [
            f"{i} of {FOLDS}",
            number(fold["validation"]["classes"]["building"]["iou"]),
            number(fold["validation"]["classes"]["building"]["dice"]),
            f"{fold['split']['voxels']['learnt']:,}",
            f"{fold['split']['voxels']['measured']:,}",
            fold["steps"],
            f"{fold['seconds']:.0f}",
        ]
        for i, fold in enumerate(found["folds"], start=1)
    ]
    of = found["summary"]["classes"]["building"]
    spread = [f"{number(of[name]['mean'])} ± {number(of[name]['std'])}" for name in ("iou", "dice")]
    rows.append(["mean ± standard deviation", *spread, "", "", found["steps"], f"{found['seconds']:.0f}"])
    return table(["fold", "IoU", "Dice", "pixels learnt", "pixels measured", "steps", "seconds"], rows)


def job(data: Path) -> dict[str, Any]:
    """Return the job. The curve has one point, the end, so that no fold chooses its own weights."""
    limits = budget("train_buildings")
    return {
        "pairs": [
            {"image": str(data / "22978945_15.tif"), "target": str(data / "22978945_15_buildings.gpkg")},
        ],
        "classes": CLASSES,
        "architecture": NETWORK,
        "patch": (128, 128),
        "batch": 8,
        "loss": "dice_cross_entropy",
        "learning_rate": 0.003,
        "precision": "bfloat16",
        "split": {"by": "block", "folds": FOLDS},
        "augment": {"scale": 0.2, "brightness": 0.3, "contrast": 0.2, "noise": 0.1},
        **limits,
        "validate_every": limits["steps"],
    }
