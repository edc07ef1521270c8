"""Real images through the same commands as everything else; writes the numbers of docs/results.md.

Local hold-out: the slices and fields that are measured are never trained on. The images are not part of the
repository (docs/results.md says where they come from); OVERTILE_DATA names their folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import pipeline
from pipeline.config import EvaluateJob, IngestJob, SegmentJob, TrainJob

SIDE = 9
"""Fields along each side of the mosaic; a field has 1000 x 1000 pixels."""


class Printer:
    """Tells what is done, a line a phase."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """Print the phase."""
        print(f"  {name}: {total} {unit}", flush=True)

    def progress(self, done: int, failed: int = 0) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Print the note."""
        print(f"  {text}", flush=True)


def run_isbi(place: Path) -> str:
    """Membranes in electron microscopy (ISBI 2012), local hold-out."""
    return _table(isbi, "em_isbi2012", place)


def run_monuseg(place: Path) -> str:
    """Nuclei in H&E (MoNuSeg), local hold-out, as a mosaic of 9000 x 9000 pixels."""
    return _table(monuseg, "path_monuseg14", place)


def _table(measure: Callable[[Path, Path], str], name: str, place: Path) -> str:
    """Measure one set; the images lie where OVERTILE_DATA says."""
    data = Path(os.environ.get("OVERTILE_DATA", "../shared/data")) / name
    if not data.is_dir():
        return f"skipped: there is no folder {data} (set OVERTILE_DATA)"
    folder = place / name
    folder.mkdir(parents=True, exist_ok=True)
    names = "set, trained on, segmented, IoU, Dice, pixel accuracy, training, segmentation, time in the network"
    return "\n".join([f"| {names.replace(', ', ' | ')} |", "|" + "---|" * 9, measure(data, folder)])


def isbi(data: Path, place: Path) -> str:
    """Membranes in electron microscopy: train on 20 slices, segment the other 4 as one volume."""
    parts = {"train": range(20), "test": range(20, 24)}
    for part, numbers in parts.items():
        for kind in ("image", "label"):
            _links(place / part / kind, [data / kind / f"{i:02d}.png" for i in numbers])
            options = {"classes": ("interior", "membrane"), "values": {0: 1, 255: 0}} if kind == "label" else {}
            _ingest(place / part / kind, place / f"{part}_{kind}.zarr", **options)
    network = {"depth": 4, "width": 16, "padding": "same", "norm": "batch"}
    trained = _train(
        place, [("train_image", "train_label")], ("interior", "membrane"), network, steps=900, patch=192
    )
    return _measure(place, "ISBI 2012 EM", "20 slices", trained, "test", "membrane")


def monuseg(data: Path, place: Path) -> str:
    """Nuclei in H&E: train on 7 fields, segment a mosaic of the other 3."""
    names = sorted(path.name for path in (data / "images").glob("*.jpg"))
    train, test = names[:7], names[7:]
    classes = ("background", "nucleus")
    for name in train:
        stem = name.removesuffix(".jpg")
        _ingest(data / "images" / name, place / f"{stem}_image.zarr")
        _grey(data / "masks" / name).save(place / f"{stem}_mask.png")
        _ingest(place / f"{stem}_mask.png", place / f"{stem}_label.zarr", classes=classes, threshold=127)
    _mosaic([Image.open(data / "images" / name) for name in test], place / "mosaic_image.tif")
    _mosaic([_grey(data / "masks" / name) for name in test], place / "mosaic_label.tif")
    _ingest(place / "mosaic_image.tif", place / "test_image.zarr")
    _ingest(place / "mosaic_label.tif", place / "test_label.zarr", classes=classes, threshold=127)
    stems = [name.removesuffix(".jpg") for name in train]
    network = {"in_channels": 3, "depth": 4, "width": 16, "padding": "same", "norm": "batch"}
    pairs = [(f"{stem}_image", f"{stem}_label") for stem in stems]
    trained = _train(place, pairs, classes, network, steps=900, patch=192)
    return _measure(place, f"MoNuSeg H&E, {SIDE}000 x {SIDE}000 mosaic", "7 fields", trained, "test", "nucleus")


def _train(
    place: Path,
    pairs: Sequence[tuple[str, str]],
    classes: tuple[str, ...],
    network: dict[str, Any],
    *,
    steps: int,
    patch: int,
) -> dict[str, Any]:
    job = TrainJob.model_validate(
        {
            "pairs": [{"image": str(place / f"{i}.zarr"), "target": str(place / f"{t}.zarr")} for i, t in pairs],
            "output": str(place / "model.safetensors"),
            "architecture": network,
            "classes": classes,
            "patch": (patch, patch),
            "batch": 4,
            "steps": steps,
            "learning_rate": 0.005,
            "split": "none",  # what is segmented afterwards is what measures it
            "loss": "cross_entropy",
            "augment": True,
            "seed": 1,
        }
    )
    return pipeline.train(job, listener=Printer())


def _measure(place: Path, name: str, trained_on: str, trained: dict[str, Any], part: str, class_name: str) -> str:
    source, output = place / f"{part}_image.zarr", place / "prediction.zarr"
    job = SegmentJob(input=str(source), output=str(output), model=str(place / "model.safetensors"))
    started = time.monotonic()
    found = pipeline.segment(job, listener=Printer())
    seconds = time.monotonic() - started
    metrics = pipeline.evaluate(
        EvaluateJob(
            prediction=str(output), target=str(place / f"{part}_label.zarr"), out=str(place / "evaluation")
        )
    )
    pipeline.report(
        output,
        out=place / "report.html",
        target=place / f"{part}_label.zarr",
        metrics=place / "evaluation/metrics.json",
    )
    ratios, spent = metrics["classes"][class_name], found["seconds"]
    shape = " x ".join(map(str, pipeline.plan(job).volume.shape))
    share = spent["compute"] / (spent["read"] + spent["compute"] + spent["write"])
    return (
        f"| {name} | {trained_on}, {trained['steps']} steps | {shape} | {ratios['iou']:.3f} | {ratios['dice']:.3f} |"
        f" {metrics['accuracy']:.3f} | {trained['seconds']:.0f} s | {seconds:.0f} s | {100 * share:.0f} % |"
    )


def _ingest(source: Path, output: Path, **options: Any) -> None:
    if not output.exists():
        pipeline.ingest(IngestJob.model_validate({"source": str(source), "output": str(output)} | options))


def _links(folder: Path, files: Sequence[Path]) -> None:
    """Make a folder of links to some slices of a stack."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        link = folder / file.name
        if not link.exists():
            link.symlink_to(file.resolve())


def _grey(file: Path) -> Image.Image:
    """Return a mask that was stored as a colour JPEG with one channel."""
    return Image.open(file).convert("L")


def _mosaic(images: Sequence[Image.Image], output: Path) -> None:
    """Put fields side by side, again and again, each turned and flipped another way."""
    fields = [np.asarray(image) for image in images]
    rows = []
    for y in range(SIDE):
        turned = [np.rot90(fields[(y * SIDE + x) % len(fields)], k=(y + x) % 4) for x in range(SIDE)]
        rows.append(np.concatenate([np.flip(f, 1) if (y + i) % 2 else f for i, f in enumerate(turned)], axis=1))
    Image.fromarray(np.concatenate(rows)).save(output)
