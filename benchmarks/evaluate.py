"""A volume of more than four gigavoxels whose metrics are known in closed form: time, memory, killed and resumed.

In each tile of 512 x 512 voxels the target is a rectangle, and the prediction is the same one moved by (7, 11): every
count is a number of tiles times a product of lengths. The volumes are measured twice: as classes, and as ids of objects
(each rectangle is one, and those at the edges of chunks are cut by them).

``OVERTILE_EVALUATE_SIDE`` sets the voxels along each axis (65,536), a multiple of 2,048.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box, Grid
from pipeline.run.folder import MAPS, RunFolder
from pipeline.run.status import status
from pipeline.volume import ArraySpec, ShardWriter, Space, create_level, inner_chunk

SIDE = int(os.environ.get("OVERTILE_EVALUATE_SIDE", 65_536))

TILE = 512
"""Voxels of a tile of the pattern along each axis."""

HEIGHT, WIDTH, PLACE = 300, 200, (150, 220)
"""The rectangle of the target, and where it begins in its tile."""

MOVED = (7, 11)
"""How far the prediction is off."""

SHARD = 4096

KILL_AT = 0.4
"""Share of the chunks after which the run is killed."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of the pattern.

    Attributes:
        tiles: how many there are.
    """

    tiles: int

    @property
    def common(self) -> int:
        """Voxels of a tile that are of the rectangle in both."""
        return (HEIGHT - MOVED[0]) * (WIDTH - MOVED[1])

    @property
    def confusion(self) -> list[list[int]]:
        """Voxels by target class and prediction class."""
        alone = HEIGHT * WIDTH - self.common
        neither = TILE * TILE - 2 * HEIGHT * WIDTH + self.common
        return [[self.tiles * neither, self.tiles * alone], [self.tiles * alone, self.tiles * self.common]]

    @property
    def iou(self) -> float:
        """IoU of the class, and of each object."""
        return self.common / (2 * HEIGHT * WIDTH - self.common)


def write_pair(folder: Path, side: int, *, objects: bool) -> None:
    """Write prediction and target; one shard is encoded, and where all are alike it is stored again and again."""
    shard = min(SHARD, side)
    shape, dtype = (side, side), np.dtype("u4" if objects else "u1")
    spec = ArraySpec(shape, None, dtype, (shard,) * 2, inner_chunk((shard,) * 2), Space.unscaled("yx"))
    for name, moved in (("target", (0, 0)), ("prediction", MOVED)):
        array = create_level(folder / f"{name}.zarr", "0", spec)
        writer, grid = ShardWriter(array), Grid(shape, (shard, shard))
        first: Path | None = None
        for core in grid.cores():
            path = folder / f"{name}.zarr" / "0" / "c" / "/".join(str(a // shard) for a in core.start)
            if objects or first is None or core.shape != (shard, shard):
                writer.write(core, pattern(core, side, moved, objects=objects).astype(dtype))
                first = first or path
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(first, path)


def pattern(core: Box, side: int, moved: tuple[int, int], *, objects: bool) -> npt.NDArray[np.int64]:
    """Return the ids of a box: 1 in the rectangle of each tile, or its own number, and 0 outside."""
    axes = [np.arange(a, b) for a, b in core]
    inside = [
        (axis % TILE >= start + off) & (axis % TILE < start + off + length)
        for axis, start, off, length in zip(axes, PLACE, moved, (HEIGHT, WIDTH), strict=True)
    ]
    numbers = 1
    if objects:
        numbers = 1 + (axes[0] // TILE)[:, None] * -(-side // TILE) + (axes[1] // TILE)[None]
    return np.where(inside[0][:, None] & inside[1][None], numbers, 0)


def command(folder: Path, out: Path, options: Sequence[str]) -> list[str]:
    """Return the command that evaluates the pair in a folder."""
    places = [str(folder / "prediction.zarr"), str(folder / "target.zarr"), "--out", str(out), "--json"]
    return [str(Path(sys.executable).with_name("overtile")), "evaluate", *places, *options]


def kill_and_resume(folder: Path, out: Path, options: Sequence[str]) -> int:
    """Kill an evaluation where it is, and run it again; return how many chunks were done when it died."""
    driver = subprocess.Popen(command(folder, out, options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while driver.poll() is None and done_share(out) < KILL_AT:
        try:
            driver.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    driver.kill()
    driver.wait()
    done = int(status(out)["done"])
    subprocess.run(command(folder, out, options), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done


def done_share(out: Path) -> float:
    """Return the share of the chunks that is done."""
    if not RunFolder(out / MAPS).exists:
        return 0.0
    found = status(out)
    return float(found["done"] / found["total"])


def measure(folder: Path, out: Path, options: Sequence[str]) -> tuple[dict[str, Any], float, int]:
    """Evaluate; return the metrics, the seconds, and the peak memory of the process."""
    started = time.monotonic()
    done = subprocess.run(command(folder, out, options), check=True, capture_output=True)
    return json.loads(done.stdout), time.monotonic() - started, int(status(out)["peak_memory"])


def check(found: dict[str, Any], truth: Truth, *, objects: bool) -> None:
    """Raise AssertionError unless the metrics are what is known of the pattern."""
    assert found["confusion"] == truth.confusion, (found["confusion"], truth.confusion)
    if objects:
        best = found["instances"]["matches"][0]
        assert found["instances"]["target_objects"]["count"] == best["matches"] == truth.tiles, best
        assert abs(best["pq"] - truth.iou) < 1e-12, best
        assert abs(found["instances"]["aji"] - truth.iou) < 1e-12, found["instances"]["aji"]


def same(one: Path, other: Path) -> bool:
    """Whether two evaluations wrote the same metrics and the same table."""
    return all((one / n).read_bytes() == (other / n).read_bytes() for n in ("metrics.json", "statistics.parquet"))


def rows(place: Path, side: int) -> Iterator[str]:
    """Yield a row of the table for each kind and size."""
    for objects in (False, True):
        options = ["--instances"] if objects else []
        for length in (side // 4, side):
            folder = place / f"{'objects' if objects else 'classes'}-{length}"
            folder.mkdir()
            write_pair(folder, length, objects=objects)
            found, seconds, peak = measure(folder, folder / "m", options)
            check(found, Truth((length // TILE) ** 2), objects=objects)
            resumed = "-"
            if length == side:
                done = kill_and_resume(folder, folder / "killed", options)
                assert same(folder / "m", folder / "killed"), "another table after a kill"
                resumed = f"killed after {done} of {found['chunks']} chunks, resumed: same bytes"
            gigavoxels = length * length / 1e9
            yield (
                f"| {'object ids, u4' if objects else 'classes, u1'} | {gigavoxels:.2f} | {found['chunks']} |"
                f" {seconds:.1f} s | {60 * gigavoxels / seconds:.1f} | {peak / 2**20:.0f} MiB | {resumed} |"
            )
            shutil.rmtree(folder)


def run(place: Path) -> str:
    """A volume of more than four gigavoxels whose metrics are known in closed form: time, memory, kill and resume."""
    head = ["| volumes | Gvoxel | chunks | time | Gvoxel a minute | peak memory | |", "|---" * 7 + "|"]
    return "\n".join([*head, *rows(place, SIDE)])
