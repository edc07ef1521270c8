"""Peak resident memory of a worker: the plan's prediction beside what was measured, and flat in the volume's size."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import Any

import pipeline
from benchmarks.material import checkpoint, image
from pipeline.config import SegmentJob

LIGHT = {"in_channels": 3, "depth": 4, "width": 8, "padding": "same", "norm": "batch"}
PAPER = {"in_channels": 3, "depth": 5, "width": 32}
WIDE = {"in_channels": 3, "depth": 5, "width": 64}
SOLID = {"dims": 3, "depth": 3, "width": 8, "padding": "same"}
SOLID_VALID = {"dims": 3, "depth": 3, "width": 16}

CASES: list[tuple[str, dict[str, Any], tuple[int, ...], dict[str, Any]]] = [
    ("light, default", LIGHT, (4096, 4096), {}),
    ("light, one worker of two threads", LIGHT, (4096, 4096), {"workers": 1}),
    ("light, tile 512", LIGHT, (4096, 4096), {"tile": (512, 512)}),
    ("light, chunk 512 tile 256", LIGHT, (2048, 2048), {"chunk": (512, 512), "tile": (256, 256)}),
    ("light, limit 640 MiB", LIGHT, (4096, 4096), {"memory_limit": 640 << 20}),
    ("light, bfloat16", LIGHT, (4096, 4096), {"precision": "bfloat16"}),
    ("light, float32 probabilities", LIGHT, (8192, 4096), {"kind": "probabilities", "dtype": "float32"}),
    ("paper at width 32, tile 512", PAPER, (2048, 2048), {"chunk": (1024, 1024), "tile": (512, 512)}),
    ("paper, tile 256", WIDE, (1024, 1024), {"chunk": (512, 512), "tile": (256, 256)}),
    ("3-D same, tile 64", SOLID, (128, 256, 256), {"chunk": (64, 128, 128), "tile": (64, 64, 64)}),
    ("3-D valid, tile 32", SOLID_VALID, (64, 128, 128), {"chunk": (32, 64, 64), "tile": (32, 32, 32)}),
]


SIZES = (4096, 8192, 16384)


def run(place: Path) -> str:
    """Run all cases and return the tables."""
    lines = ["| case | tile | predicted | measured | ratio |", "|---|---|---|---|---|"]
    for name, network, shape, settings in CASES:
        planned, outcome = _measure(place, network, shape, settings)
        tile = "x".join(map(str, planned["tile"]))
        lines.append(_row(name, tile, planned["memory"]["peak"], outcome["peak_memory"]))
    lines += ["", "| volume | chunks | predicted | median (range) of 3 | to the first |", "|---|---|---|---|---|"]
    found: dict[int, list[tuple[dict[str, Any], dict[str, Any]]]] = {size: [] for size in SIZES}
    for _ in range(3):
        for size in SIZES:
            settings = {"chunk": (512, 512), "workers": 1}
            found[size].append(_measure(place, LIGHT, (size, size), settings))
    first = _median(found[SIZES[0]])
    for size, runs in found.items():
        peaks = [outcome["peak_memory"] for _, outcome in runs]
        planned, median = runs[0][0], _median(runs)
        lines.append(
            f"| {(size // SIZES[0]) ** 2} x | {planned['chunks']} | {_mib(planned['memory']['peak'])} "
            f"| {_mib(median)} ({_mib(min(peaks))} to {_mib(max(peaks))}) | {median / first:.3f} |"
        )
    return "\n".join(lines)


def _measure(
    place: Path, network: dict[str, Any], shape: tuple[int, ...], settings: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    source = image(place / f"{'x'.join(map(str, shape))}.zarr", shape)
    model = checkpoint(place / "model.safetensors", **network)
    output = place / "out.zarr"
    for old in (output, output.with_name("out.zarr.run")):
        shutil.rmtree(old, ignore_errors=True)
    job = SegmentJob.model_validate(
        {"input": str(source), "output": str(output), "model": str(model), "pyramid": False} | settings
    )
    return pipeline.plan(job).describe(), pipeline.segment(job)


def _median(runs: list[tuple[dict[str, Any], dict[str, Any]]]) -> int:
    return int(statistics.median(outcome["peak_memory"] for _, outcome in runs))


def _row(name: str, tile: str, predicted: int, measured: int) -> str:
    return f"| {name} | {tile} | {_mib(predicted)} | {_mib(measured)} | {predicted / measured:.2f} |"


def _mib(number: int) -> str:
    return f"{number / (1 << 20):.0f} MiB"
