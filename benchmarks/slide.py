"""A slide of 100,000 x 80,000 pixels, segmented out of its file: coarse, and a region at full resolution."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pipeline
from benchmarks.material import checkpoint
from benchmarks.slide_file import tissue_share, write_slide
from pipeline.config import SegmentJob

SHAPE = (80_000, 100_000)
"""Height and width of level 0."""

NETWORK = {"in_channels": 3, "depth": 4, "width": 8, "padding": "same", "norm": "batch"}

CASES: list[tuple[str, dict[str, Any]]] = [
    ("1/16, all of it", {"level": 2, "chunk": (512, 512)}),
    ("1/16, all of it, no mask", {"level": 2, "chunk": (512, 512), "mask": "none"}),
    ("full, 8,192 x 16,384", {"region": ((14_000, 22_192), (12_000, 28_384)), "chunk": (2048, 2048)}),
]
"""The region at full resolution lies across the outline of a piece of tissue."""


def run(place: Path) -> str:
    """A slide of 24 GB, segmented out of its file: coarse, and a region at full resolution."""
    source = write_slide(place / "slide.tif", SHAPE)
    model = checkpoint(place / "slide_model.safetensors", **NETWORK)
    height, width = SHAPE
    lines = [
        f"{width:,} x {height:,} pixels, {3 * width * height / 1e9:.0f} GB, in a file of"
        f" {source.stat().st_size / 1e6:.0f} MB; {tissue_share(SHAPE):.1%} of it is tissue.",
        "",
        "| what | chunks | skipped | predicted peak | measured peak | ratio | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, settings in CASES:
        lines.append(_case(name, place, {"input": str(source), "model": str(model), "mask": "auto"} | settings))
    return "\n".join(lines)


def _case(name: str, place: Path, settings: dict[str, Any]) -> str:
    output = place / "slide_out.zarr"
    for old in (output, output.with_name("slide_out.zarr.run")):
        shutil.rmtree(old, ignore_errors=True)
    job = SegmentJob.model_validate({"output": str(output), "pixel_size": "any"} | settings)
    predicted = pipeline.plan(job).describe()["memory"]["peak"]
    started = time.perf_counter()
    found = pipeline.segment(job)
    seconds = time.perf_counter() - started
    measured = found["peak_memory"]
    return (
        f"| {name} | {found['total']} | {found['skipped'] / found['total']:.1%} | {predicted / 2**20:.0f} MiB"
        f" | {measured / 2**20:.0f} MiB | {predicted / measured:.2f} | {seconds:.0f} |"
    )
