"""Ingest beside a plain loop of the libraries: how many megabytes of voxels a second each brings into Zarr."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
import zarr
from PIL import Image
from rasterio.windows import Window
from zarr.codecs import ZstdCodec

import pipeline
from flows.shapes import render
from pipeline.config import IngestJob
from pipeline.geometry import Box, Grid
from pipeline.run.machine import this_machine
from pipeline.volume import default_shard, inner_chunk

SIDE = 10240
"""Pixels along each side of the slide (RGB); the other images have about as many bytes."""

REPETITIONS = 3
"""Runs of each, taken in turns, so that what else the machine does meets all alike."""

BLOCK = 1024
"""Pixels along each side of what is painted at once."""


@dataclass(frozen=True)
class Material:
    """One image, and how a user would copy it.

    Attributes:
        name: what the table calls it.
        source: what is ingested.
        shape: as it is stored: ``(c, y, x)`` or ``(z, y, x)``.
        dtype: of its voxels.
        loop: reads with the libraries, piece by piece, and yields each with its place in the array.
        options: of the ingest.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    dtype: str
    loop: Callable[[str, Grid], Iterator[tuple[Any, Any]]]
    options: dict[str, Any]

    @property
    def channels(self) -> int | None:
        """Number of channels; None of a stack."""
        return self.shape[0] if self.loop in (tiles, windows) else None

    @property
    def spatial(self) -> tuple[int, ...]:
        """Spatial shape."""
        return self.shape if self.channels is None else self.shape[1:]

    @property
    def megabytes(self) -> float:
        """Millions of bytes of voxels."""
        return float(np.prod(self.shape)) * np.dtype(self.dtype).itemsize / 1e6


def run(place: Path) -> str:
    """Ingest of a slide, a GeoTIFF, a TIFF stack and PNG slices beside plain loops over tifffile, rasterio and Pillow.

    Both write level 0 alone, in the same shards with the same codec, in one process on all its cores; the files are in
    the page cache. Ingest also digests what it stores, forces it to the disk and keeps its ledger. The last columns
    are ingest with its pyramid: of the same bytes read.
    """
    rows = [
        f"{_cores()} cores, {REPETITIONS} runs of each in turns, MB/s of voxels read: median (lowest to highest).",
        "",
        "| image | MB | plain loop | ingest | ratio | ingest with pyramid | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for material in (slide(place), raster(place), stack(place), slices(place)):
        rates = _measure(material, place)
        ratios = [f"{_median_ratio(rates[name], rates['loop']):.2f}" for name in ("ingest", "pyramid")]
        loop, plain, pyramid = (_spread(rates[name]) for name in ("loop", "ingest", "pyramid"))
        rows.append(
            f"| {material.name} | {material.megabytes:.0f} | {loop} | {plain} | {ratios[0]} | {pyramid} | {ratios[1]} |"
        )
    return "\n".join(rows)


def _measure(material: Material, place: Path) -> dict[str, list[float]]:
    """Return the rates of each way, in the order of the repetitions; the first, unmeasured round warms up."""
    ways: dict[str, Callable[[Path], None]] = {
        "loop": lambda out: plain_loop(material, out),
        "ingest": lambda out: ingest(material, out, pyramid=False),
        "pyramid": lambda out: ingest(material, out, pyramid=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(REPETITIONS + 1):
        for name, way in ways.items():
            out = place / f"ingest-{name}.zarr"
            for old in (out, out.with_name(f"{out.name}.run")):
                shutil.rmtree(old, ignore_errors=True)
            os.sync()
            started = time.perf_counter()
            way(out)
            if repetition:
                rates[name].append(material.megabytes / (time.perf_counter() - started))
    _check_equal(place / "ingest-loop.zarr" / "0", place / "ingest-ingest.zarr" / "0")
    return rates


def plain_loop(material: Material, out: Path) -> None:
    """Copy as a user would: read a piece, assign it to the array, go on to the next."""
    shard = default_shard(material.spatial)
    lead = () if material.channels is None else (material.channels,)
    array = zarr.create_array(
        str(out / "0"),
        shape=material.shape,
        dtype=material.dtype,
        shards=(*lead, *shard),
        chunks=(*lead, *inner_chunk(shard)),
        compressors=[ZstdCodec(level=1, checksum=True)],
    )
    for where, voxels in material.loop(material.source, Grid(material.spatial, shard)):
        array[where] = voxels


def ingest(material: Material, out: Path, *, pyramid: bool) -> None:
    """Copy with Overtile."""
    settings = {"source": material.source, "output": str(out), "pyramid": pyramid}
    pipeline.ingest(IngestJob.model_validate(settings | material.options))


def tiles(path: str, grid: Grid) -> Iterator[tuple[Any, Any]]:
    """Read a tiled slide with tifffile, shard by shard."""
    with tifffile.imread(path, aszarr=True) as store:
        level = zarr.open_array(store, mode="r")
        for core in grid.cores():
            yield (slice(None), *core.slices), np.moveaxis(level[core.slices], -1, 0)


def windows(path: str, grid: Grid) -> Iterator[tuple[Any, Any]]:
    """Read a raster with rasterio, shard by shard."""
    with rasterio.open(path) as file:
        for core in grid.cores():
            (y, x), (height, width) = core.start, core.shape
            yield (slice(None), *core.slices), file.read(window=Window(x, y, width, height))


def mapped(path: str, grid: Grid) -> Iterator[tuple[Any, Any]]:
    """Read an uncompressed stack through tifffile's memory map, shard by shard."""
    voxels = tifffile.memmap(path, mode="r")
    for core in grid.cores():
        yield core.slices, voxels[core.slices]


def files(folder: str, grid: Grid) -> Iterator[tuple[Any, Any]]:
    """Read slices with Pillow, as many at a time as a shard is deep."""
    paths, depth = sorted(Path(folder).glob("*.png")), grid.chunk[0]
    for first in range(0, len(paths), depth):
        some = paths[first : first + depth]
        yield slice(first, first + len(some)), np.stack([np.asarray(Image.open(path)) for path in some])


def slide(place: Path) -> Material:
    """Return a slide as scanners leave it: RGB, JPEG in tiles of 256."""
    path = place / f"slide-{SIDE}.tif"
    if not path.exists():
        image = _painting((SIDE, SIDE))
        tifffile.imwrite(
            path,
            np.moveaxis(image, 0, -1),
            tile=(256, 256),
            photometric="rgb",
            compression="jpeg",
            compressionargs={"level": 80},
        )
    size = {"voxel_size": (0.5, 0.5), "unit": "um"}
    return Material("slide, JPEG tiles", str(path), (3, SIDE, SIDE), "u1", tiles, size)


def raster(place: Path) -> Material:
    """Return a scene as satellites leave it: four bands of 16 bits, deflate with a predictor in tiles of 512."""
    path, side = place / f"raster-{SIDE}.tif", SIDE * 5 // 8
    if not path.exists():
        painted = _painting((side, side)).astype(np.uint16) * 16
        profile = {"driver": "GTiff", "height": side, "width": side, "count": 4, "dtype": "uint16"}
        layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 2}
        here = {"crs": "EPSG:32618", "transform": rasterio.transform.from_origin(5e5, 4e6, 10, 10)}
        with rasterio.open(path, "w", **profile, **layout, **here) as file:
            file.write(painted[[0, 1, 2, 0]])
    return Material("GeoTIFF, deflate", str(path), (4, side, side), "u2", windows, {})


def stack(place: Path) -> Material:
    """Return a stack in one TIFF, not compressed."""
    path, shape = place / f"stack-{SIDE}.tif", _stack_shape()
    if not path.exists():
        tifffile.imwrite(path, _sections(shape), photometric="minisblack", metadata={"axes": "ZYX"})
    return Material("TIFF stack, uncompressed", str(path), shape, "u1", mapped, {"axes": "zyx"})


def slices(place: Path) -> Material:
    """Return a stack as a folder of PNG files."""
    folder, shape = place / f"slices-{SIDE}", _stack_shape()
    if not folder.exists():
        folder.mkdir()
        for z, section in enumerate(_sections(shape)):
            Image.fromarray(section).save(folder / f"{z:04}.png")
    return Material("PNG slices", str(folder), shape, "u1", files, {})


def _stack_shape() -> tuple[int, int, int]:
    return max(4, SIDE // 40), SIDE // 8, SIDE * 3 // 32


def _sections(shape: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return sections that differ, of one painting that is moved along."""
    depth, height, width = shape
    painted = _painting((height + depth, width))[0]
    return np.stack([painted[z : z + height] for z in range(depth)])


def _painting(shape: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return an RGB image of shapes, ``(3, y, x)``."""
    image = np.empty((3, *shape), np.uint8)
    for core in Grid(shape, (BLOCK, BLOCK)).cores():
        (y, x), (height, width) = core.start, core.shape
        image[(slice(None), *core.slices)] = render((y, x), (height, width), seed=1)[0]
    return image


def _check_equal(one: Path, other: Path) -> None:
    """Check that both ways stored the same voxels."""
    arrays = [zarr.open_array(str(path), mode="r") for path in (one, other)]
    assert arrays[0].shape == arrays[1].shape, arrays
    box = Box.of_shape(arrays[0].shape)
    for start in range(0, box.shape[1], 2048):
        rows = (slice(None), slice(start, start + 2048))
        assert np.array_equal(arrays[0][rows], arrays[1][rows]), f"{one} and {other} differ in rows from {start}"


def _median_ratio(rates: list[float], others: list[float]) -> float:
    """Return the median of the ratios of runs that followed one another."""
    return statistics.median(a / b for a, b in zip(rates, others, strict=True))


def _spread(rates: list[float]) -> str:
    return f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"


def _cores() -> int:
    return this_machine().cores
