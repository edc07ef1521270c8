"""What the analysis says of the zoo of the tests, and how tiles compare with the whole in float32."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.geometry import Box, Reach, Tile, TileLayout
from pipeline.model.constructed import Analysis
from pipeline.model.exactness import analyse
from pipeline.model.exactness.numbers import Real, difference, noise

ZOO = Path(__file__).parents[1] / "tests" / "support" / "zoo.py"
MARGIN = 8


def run(place: Path) -> str:
    """Analyse every network and return the table; nothing is written to ``place``."""
    del place
    torch.set_num_threads(1)
    zoo = _zoo()
    rows = [_row(specimen) for specimen in zoo.ZOO]
    right = sum(row[1] in ("exact", "not exact") for row in rows)
    slowest = max(float(row[6]) for row in rows)
    table = [
        "| network | verdict | halo | stride | voxels that differ | bfloat16, other tiles | seconds | reason |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join([*table, "", f"{right} of {len(rows)} verdicts are right; the slowest took {slowest:.1f} s."])


def _row(specimen: Any) -> list[str]:
    model = specimen.make()
    started = time.monotonic()
    analysis = analyse(model, dims=specimen.dims, in_channels=specimen.in_channels).analysis
    seconds = time.monotonic() - started
    verdict = ("exact" if analysis.exact else "not exact") + (
        "" if analysis.exact == specimen.exact else " (wrong)"
    )
    differs = rounding = "–"
    if analysis.exact:
        differs = str(_differing(specimen, analysis, torch.float32)[0])
        rounding = f"{_differing(specimen, analysis, torch.bfloat16)[1]:.1g}"
    reason = analysis.reasons[0].split(":")[0] if analysis.reasons else ""
    halo = _along([f"{b}+{a}" if a != b else str(b) for b, a in (r.halo for r in analysis.reaches)])
    stride = _along([str(r.stride) for r in analysis.reaches])
    return [
        specimen.name,
        verdict,
        halo if analysis.exact else "–",
        stride,
        differs,
        rounding,
        f"{seconds:.1f}",
        reason,
    ]


def _along(values: Sequence[str]) -> str:
    """Write one value for all axes where they agree."""
    return values[0] if len(set(values)) == 1 else " x ".join(values)


def _differing(specimen: Any, analysis: Analysis, dtype: torch.dtype) -> tuple[int, float]:
    """Compare tiles of three shapes with the whole, with the network's own weights.

    Returns:
        Voxels that differ, and the largest difference relative to the largest value; of class ids, the share.
    """
    model = Real(specimen.make(), specimen.dims, dtype)
    reaches = tuple(axis.reach() for axis in analysis.reaches)
    size = 64 if specimen.dims == 2 else 16
    box = Box((0,) * specimen.dims, tuple(size + 5 * axis for axis in range(specimen.dims)))
    whole = _layout(reaches, max(box.shape))
    tile = next(whole.tiles(box))
    layouts = [_layout(reaches, size // part) for part in (4, 3, 2)]
    most = max(n for layout in layouts for n in layout.input_shape)
    read = tile.input.grow((0,) * specimen.dims, (2 * most + MARGIN,) * specimen.dims)
    image = noise(specimen.in_channels, read.shape, seed=1)
    wanted = _run(model, image, read, tile)
    total, largest = 0, 0.0
    for layout in layouts:
        for one in layout.tiles(box):
            part = one.core.intersect(tile.core)
            found = _run(model, image, read, one)[:, :, *part.relative_to(one.core.start).slices]
            same = wanted[:, :, *part.relative_to(tile.core.start).slices]
            total += int((found != same).any(1).sum())
            largest = max(largest, difference(found, same))
    return total, largest


def _layout(reaches: Sequence[Reach], length: int) -> TileLayout:
    return TileLayout(tuple(reaches), tuple(-(-length // r.stride) * r.stride for r in reaches))


def _run(model: Real, image: torch.Tensor, read: Box, tile: Tile) -> torch.Tensor:
    output = model(image[:, :, *tile.input.relative_to(read.start).slices])
    return output[:, :, *(slice(c, c + n) for c, n in zip(tile.crop, tile.core.shape, strict=True))]


def _zoo() -> Any:
    """Import the networks of the tests, which are no package."""
    spec = importlib.util.spec_from_file_location("zoo", ZOO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
