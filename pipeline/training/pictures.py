"""Pictures of what a network does while it learns: image, target, prediction and error, side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch as Swatch

from pipeline.store import put_file
from pipeline.training.validation import Seen

Voxels = npt.NDArray[Any]

ROWS = 3
"""Tiles in a picture."""

EDGE = 320
"""Most voxels of a tile along an axis that are shown; more are thinned out."""

KEPT = 40
"""Pictures that are kept: the first, and the newest."""

# Okabe and Ito (2008): told apart with any form of colour blindness; the ground is dark.
CLASSES = ("#202020", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
RIGHT, WRONG, UNKNOWN = "#D9D9D9", "#D55E00", "#FFFFFF"


def draw(tiles: Sequence[Seen], names: Sequence[str], title: str) -> bytes:
    """Draw tiles as a PNG: a row a tile; image, target, prediction, error.

    Args:
        tiles: at least one, at most ``ROWS`` are drawn; of a solid one, the middle slice.
        names: of the classes.
        title: what the picture shows.
    """
    rows = tiles[:ROWS]
    figure = Figure(figsize=(11, 0.8 + 2.8 * len(rows)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    grid = figure.subplots(len(rows), 4, squeeze=False)
    for axes, seen in zip(grid, rows, strict=True):
        image, target, found = (_flat(voxels) for voxels in (seen.image, seen.target[None], seen.found[None]))
        shown = (_grey(image), _coloured(target[0]), _coloured(found[0]), _errors(target[0], found[0]))
        for each, picture, name in zip(axes, shown, ("image", "target", "prediction", "error"), strict=True):
            each.imshow(picture, interpolation="nearest")
            each.set_title(name, fontsize=9)
            each.set_axis_off()
    swatches = [Swatch(color=_colour(i), label=name) for i, name in enumerate(names)]
    swatches += [Swatch(color=WRONG, label="wrong"), Swatch(color=RIGHT, label="right")]
    figure.legend(handles=swatches, loc="outside lower center", ncols=min(8, len(swatches)), fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def keep(folder: Path, step: int, picture: bytes) -> Path:
    """Write the picture of a step, and delete the oldest but the first where there are too many.

    Args:
        folder: made if needed.
        step: steps that are done.
        picture: PNG.
    """
    path = folder / f"step-{step:08d}.png"
    put_file(path, picture)
    for old in sorted(folder.glob("step-*.png"))[1 : 1 - KEPT]:
        old.unlink()
    return path


def _flat(voxels: Voxels) -> Voxels:
    """Return ``(c, y, x)`` of ``(c, [z,] y, x)``: the middle slice of solid voxels, thinned out."""
    if voxels.ndim > 3:
        voxels = voxels[:, voxels.shape[1] // 2]
    step = max(1, -(-max(voxels.shape[-2:]) // EDGE))
    return voxels[..., ::step, ::step]


def _grey(image: Voxels) -> Voxels:
    """Return ``(y, x, 3)`` between 0 and 1: three channels as colours, else the first as grey."""
    chosen = image[:3] if image.shape[0] == 3 else image[:1]
    low, high = np.percentile(chosen, (0.5, 99.5))
    scaled = np.clip((chosen.astype(np.float64) - low) / max(float(high - low), 1e-12), 0, 1)
    return np.moveaxis(np.broadcast_to(scaled, (3, *scaled.shape[1:])), 0, -1)


def _colour(number: int) -> str:
    return CLASSES[number % len(CLASSES)]


def _coloured(classes: Voxels) -> Voxels:
    table = np.array([to_rgb(_colour(number)) for number in range(256)])
    return np.where((classes >= 0)[..., np.newaxis], table[np.clip(classes, 0, 255)], to_rgb(UNKNOWN))


def _errors(target: Voxels, found: Voxels) -> Voxels:
    wrong = np.where((target == found)[..., np.newaxis], to_rgb(RIGHT), to_rgb(WRONG))
    return np.where((target >= 0)[..., np.newaxis], wrong, to_rgb(UNKNOWN))
