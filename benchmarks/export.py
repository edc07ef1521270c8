"""Peak memory of each export, at one size and at sixteen times it, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box, Grid
from pipeline.volume import (
    ArraySpec,
    ShardWriter,
    Space,
    build_pyramid,
    create_level,
    default_shard,
    inner_chunk,
    publish,
)
from pipeline.volume.geo import Georeference, georeference_attributes

SIZES = (8192, 32768)
"""Voxels along each axis: the second has sixteen times as many."""

BLOB, RADIUS, HOLE = 96, 40, 160
"""Distance of discs from each other and their radius (no chunk's border is a multiple of it); distance of holes."""

TARGETS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("many regions", "geojson", {}),
    ("many regions", "gpkg", {}),
    ("one region with holes", "geojson", {}),
    ("one region with holes", "gpkg", {}),
    ("many regions", "tif", {}),
    ("many regions", "ome.tif", {}),
    ("many regions", "png", {}),
    ("many regions", "zarr", {"ngff": "0.4"}),
    ("many regions", "zarr", {"ngff": "0.5"}),
)

Ids = npt.NDArray[np.uint8]


def run(place: Path, *, sizes: Sequence[int] = SIZES) -> str:
    """Export every target at each size and return the table."""
    heads = [f"{size}² peak" for size in sizes]
    lines = [f"| target | map | {' | '.join(heads)} | growth |", "|---|---|" + "---|" * (len(sizes) + 1)]
    nothing = _peak("import pipeline.jobs.export")
    lines.append(f"| (nothing) | | {' | '.join([_mib(nothing)] * len(sizes))} | |")
    for kind, ending, settings in TARGETS:
        peaks = [_exported(place, kind, size, ending, settings) for size in sizes]
        name = ending + "".join(f" {value}" for value in settings.values())
        cells = " | ".join(map(_mib, peaks))
        lines.append(f"| {name} | {kind} | {cells} | {_mib(peaks[-1] - peaks[0])} |")
    return "\n".join(lines)


def discs(y: npt.NDArray[Any], x: npt.NDArray[Any]) -> Ids:
    """Return discs of class 1 and 2: most of their rows and columns of chunks are crossed by some."""
    inside = (y % BLOB - BLOB // 2) ** 2 + (x % BLOB - BLOB // 2) ** 2 < RADIUS**2
    return np.asarray(inside * (1 + (y // BLOB + x // BLOB) % 2), np.uint8)


def sponge(y: npt.NDArray[Any], x: npt.NDArray[Any]) -> Ids:
    """Return one region of class 1 that is everything but round holes."""
    return np.asarray((y % HOLE - HOLE // 2) ** 2 + (x % HOLE - HOLE // 2) ** 2 >= RADIUS**2, np.uint8)


MAPS: dict[str, Callable[[npt.NDArray[Any], npt.NDArray[Any]], Ids]] = {
    "many regions": discs,
    "one region with holes": sponge,
}


def class_map(path: Path, kind: str, size: int) -> Path:
    """Return a class map of so many voxels an axis, with coarser levels and a place on Earth; made where missing."""
    if (path / "zarr.json").exists():
        return path
    shape = (size, size)
    shard = default_shard(shape)
    space = Space("yx", (0.5, 0.5), (0.0, 0.0), "meter")
    spec = ArraySpec(shape, None, np.dtype("u1"), shard, inner_chunk(shard), space)
    writer = ShardWriter(create_level(path, "0", spec))
    for core in Grid(shape, shard).cores():
        writer.write(core, _drawn(MAPS[kind], core))
    levels = build_pyramid(path, spec, method="mode", threads=2, progress=None)
    geo = Georeference("EPSG:32618", (0.5, 0.0, 500000.0, 0.0, -0.5, 4500000.0), None)
    names = ("background", "one", "two")
    publish(
        path,
        name=path.stem,
        axes="yx",
        levels=levels,
        classes=names,
        more=georeference_attributes(geo, shape=shape),
    )
    return path


def _drawn(draw: Callable[[npt.NDArray[Any], npt.NDArray[Any]], Ids], box: Box) -> Ids:
    (top, bottom), (left, right) = box
    return draw(np.arange(top, bottom)[:, None], np.arange(left, right)[None, :])


def _exported(place: Path, kind: str, size: int, ending: str, settings: dict[str, str]) -> int:
    """Export a map in a process of its own and return its peak resident bytes."""
    source = class_map(place / f"{kind.replace(' ', '-')}-{size}.zarr", kind, size)
    target = place / f"out.{ending}"
    try:
        return _peak(f"import pipeline; pipeline.export({str(source)!r}, {str(target)!r}, **{settings!r})")
    finally:
        _remove(target)


def _peak(code: str) -> int:
    """Run code in a process and return its peak resident bytes.

    Raises:
        RuntimeError: it failed.
    """
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit {process.returncode}: {code}")
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def _mib(number: int) -> str:
    return f"{number / (1 << 20):.0f} MiB"
