"""The pictures of docs/training.md, made of generated shapes.

``python -m benchmarks training_pictures --keep docs/images`` draws them. What they show is what training does: patches
are changed by its own code, and the split is the one that a dry run tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

import pipeline
from flows.paint import Canvas, paint
from flows.shapes import CLASS_NAMES, render
from pipeline.config.training import Augmentation, Elastic, TrainJob
from pipeline.model.checkpoint import Normalisation
from pipeline.training.augment import Augment
from pipeline.training.patches import Patch

Shown = tuple[npt.NDArray[Any], npt.NDArray[Any]]

SIDE, SEED = 128, 1
AT = 512
"""First row and column of the patch that is shown."""

SCALE = Normalisation(mean=(105.0,) * 3, std=(45.0,) * 3)
PLAIN: dict[str, Any] = {"flips": False, "turns": False}
SHOWN: dict[str, dict[str, Any]] = {
    "as it is": PLAIN,
    "flips, turns": {},
    "elastic": PLAIN | {"elastic": Elastic(probability=1)},
    "scale 0.5": PLAIN | {"scale": 0.5},
    "rotation 45": PLAIN | {"rotation": 45},
    "brightness 1": PLAIN | {"brightness": 1},
    "contrast 0.7": PLAIN | {"contrast": 0.7},
    "gamma 0.6": PLAIN | {"gamma": 0.6},
    "noise 0.6": PLAIN | {"noise": 0.6},
    "blur 2.5": PLAIN | {"blur": 2.5},
    "stain 0.6": PLAIN | {"stain": 0.6},
}
"""Far stronger than one would train with, so that it can be seen."""

MEASURED, GUARD, LEARNT = "#D55E00", "#F0E442", "#0072B2"


def run(place: Path) -> str:
    """Draw augmentations and a split of generated shapes, as training does them."""
    for name, figure in (("training-augment.png", augmentations()), ("training-split.png", split(place))):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        picture.quantize(128).save(place / name, optimize=True)
    return f"training-augment.png and training-split.png are in {place}"


def augmentations() -> Figure:
    """Return a figure of one patch and its target, changed in each way alone."""
    figure = Figure(figsize=(10, 7.2), dpi=80, layout="constrained")
    columns = -(-len(SHOWN) // 2)
    axes = figure.subplots(4, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (name, settings) in enumerate(SHOWN.items()):
        row, column = divmod(number, columns)
        image, target = strongest(Augmentation(**settings))
        axes[2 * row, column].imshow(image)
        axes[2 * row, column].set_title(name, fontsize=10)
        axes[2 * row + 1, column].imshow(
            target, cmap=ListedColormap(["#E69F00", "#dddddd", "#222222"]), vmin=-1, vmax=1
        )
    return figure


def strongest(settings: Augmentation) -> Shown:
    """Return the patch that is changed most of a dozen, as each change has its chance and its amount."""
    plain, _ = changed(Augmentation(**PLAIN), 0)
    drawn = [changed(settings, seed) for seed in range(12)]
    return max(drawn, key=lambda each: float(np.abs(each[0].astype(float) - plain).mean()))


def changed(settings: Augmentation, seed: int) -> Shown:
    """Return one patch, changed: image ``(y, x, 3)`` uint8 and target ``(y, x)``, -1 where nothing is known."""
    change = Augment(settings, SCALE)((SIDE, SIDE), np.random.default_rng(seed))
    start = (change.seen.start[0] + AT, change.seen.start[1] + AT)
    image, target = render(start, (change.seen.shape[0], change.seen.shape[1]), seed=SEED)
    found = change(Patch(image, target.astype(np.int64)))
    return np.clip(np.moveaxis(found.image, 0, -1), 0, 255).astype(np.uint8), found.target


def split(place: Path) -> Figure:
    """Return a figure of what is learnt from, measured on, and left out between, as a dry run splits one image."""
    image, target = place / "training-split.tif", place / "training-split.zarr"
    if not target.exists():
        paint(Canvas(image, target, 1024, SEED), processes=1, on_progress=lambda done: None)
    record = pipeline.train(TrainJob.model_validate(lesson(image, target)))["split"][0]
    figure = Figure(figsize=(5.4, 5), dpi=80, layout="constrained")
    axes = figure.subplots()
    shown, _ = render((0, 0), (1024, 1024), seed=SEED)
    axes.imshow(shown.mean(axis=0), cmap="gray")
    axes.add_patch(Rectangle((0, 0), 1024, 1024, color=LEARNT, alpha=0.35, label="learnt from"))
    draw(axes, record)
    axes.set_xlim(0, 1024)
    axes.set_ylim(1024, 0)
    axes.set_title(f"split by {record['by']}, guard of {max(record['guard'])} pixels", fontsize=10)
    axes.legend(loc="lower right")
    for path in (image, target):
        remove(path)
    return figure


def lesson(image: Path, target: Path) -> Mapping[str, Any]:
    """Return the job of the split that is shown."""
    network = {"in_channels": 3, "classes": 1, "depth": 4, "width": 4, "padding": "same", "norm": "batch"}
    return {
        "pairs": [{"image": str(image), "target": str(target)}],
        "output": str(image.with_suffix(".safetensors")),
        "classes": CLASS_NAMES,
        "architecture": network,
        "patch": (128, 128),
        "split": {"by": "block", "block": (256, 256)},
        "dry_run": True,
        "device": "cpu",
    }


def draw(axes: Axes, record: Mapping[str, Any]) -> None:
    """Draw the measured boxes of a split, and the guard around them."""
    guard = max(record["guard"])
    boxes = [box for each in record["measured"] for box in each["boxes"]]
    for grown, colour, name in ((guard, GUARD, "guard, unused"), (0, MEASURED, "measured")):
        for number, box in enumerate(boxes):
            top, bottom, left, right = map(int, re.findall(r"\d+", box))
            corner = (left - grown, top - grown)
            size = (right - left + 2 * grown, bottom - top + 2 * grown)
            label = name if number == 0 else None
            axes.add_patch(Rectangle(corner, *size, color=colour, alpha=0.6 if grown else 0.9, label=label))


def remove(path: Path) -> None:
    """Delete a file, or a volume."""
    for each in sorted(path.rglob("*"), reverse=True):
        each.rmdir() if each.is_dir() else each.unlink()
    path.rmdir() if path.is_dir() else path.unlink()
