"""The measures of the ISBI 2012 challenge on its own labels, as they are and spoilt: do the numbers make sense?

The last six slices of the labels, 0 on membranes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, gaussian_filter
from skimage.io import imread

from pipeline.evaluation.isbi import IsbiStatistics, isbi_metrics

LABELS = Path(__file__).resolve().parents[2] / "shared" / "data" / "em_isbi2012" / "label"

MEASURES = ("v_rand", "v_info", "rand_error", "pixel_error")

Maps = npt.NDArray[np.float64]


def predictions(target: npt.NDArray[np.bool_]) -> Iterator[tuple[str, Maps]]:
    """Yield maps of interior ``(z, y, x)`` that are more or less like the target, with what was done."""
    interior = target.astype(float)
    yield "the target itself", interior
    yield "membranes 2 px thicker on each side", np.stack([_thicker(each) for each in target])
    yield "Gaussian blur of 3 px", _blurred(interior, 3)
    noise = np.random.default_rng(0)
    yield (
        "Gaussian blur of 2 px, noise of 0.2",
        np.clip(_blurred(interior, 2) + noise.normal(0, 0.2, target.shape), 0, 1),
    )
    yield "noise alone, uniform", np.random.default_rng(0).random(target.shape)
    yield "no membrane at all", np.ones(target.shape)


def run(place: Path) -> str:
    """The ISBI 2012 challenge's measures on its own labels, as they are and spoilt."""
    if not LABELS.is_dir():
        return f"Skipped: there are no labels in {LABELS}."
    target = np.stack([imread(path) > 127 for path in sorted(LABELS.glob("*.png"))[-6:]])
    lines = [f"| prediction | {' | '.join(MEASURES)} |", "|---" * (len(MEASURES) + 1) + "|"]
    for name, interior in predictions(target):
        found = isbi_metrics(IsbiStatistics.of_stack(interior, target))["per_slice"]
        lines.append(f"| {name} | {' | '.join(format(found[m]['value'], '.4f') for m in MEASURES)} |")
    return "\n".join(lines)


def _thicker(target: npt.NDArray[np.bool_]) -> Maps:
    return np.asarray(binary_erosion(target, iterations=2, border_value=1), float)


def _blurred(interior: Maps, pixels: float) -> Maps:
    return np.stack([gaussian_filter(each, pixels) for each in interior])
