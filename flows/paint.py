"""Paint the demo's images: a TIFF of shapes as a scanner would leave it, and the exact truth beside it.

Painted block by block by several processes, so it may be as large as the disk.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import zarr

from flows.shapes import CLASS_NAMES, render
from pipeline.geometry import Box, Grid
from pipeline.volume import ArraySpec, ShardWriter, Space, default_shard, inner_chunk, publish
from pipeline.volume.create import ensure_level
from pipeline.volume.pyramid import build_pyramid

BLOCK = 2048
"""Pixels along the side of a block, which is also a shard of the truth."""

VOXEL_SIZE, UNIT = 0.5, "micrometer"


@dataclass(frozen=True, slots=True)
class Canvas:
    """One image to paint.

    Attributes:
        image: TIFF file, ``(y, x, 3)`` uint16, uncompressed.
        target: class ids, OME-Zarr.
        size: pixels along each side.
        seed: another seed is another image.
    """

    image: Path
    target: Path
    size: int
    seed: int

    @property
    def grid(self) -> Grid:
        """The blocks."""
        return Grid((self.size, self.size), (BLOCK, BLOCK))

    @property
    def nbytes(self) -> int:
        """Bytes of the image's voxels."""
        return self.size * self.size * 3 * 2


def paint(canvas: Canvas, *, processes: int, on_progress: Callable[[int], None]) -> None:
    """Paint the image and its truth; tells how many blocks are done."""
    shape = (canvas.size, canvas.size)
    tifffile.memmap(canvas.image, shape=(*shape, 3), dtype="u2", photometric="rgb", bigtiff=True).flush()
    space = Space("yx", (VOXEL_SIZE,) * 2, (0.0,) * 2, UNIT)
    shard = default_shard(shape)
    spec = ArraySpec(shape, None, np.dtype("u1"), shard, inner_chunk(shard), space)
    ensure_level(canvas.target, "0", spec)
    for done, _ in enumerate(_painted(canvas, processes), start=1):
        on_progress(done)
    levels = build_pyramid(canvas.target, spec, method="mode", threads=processes, progress=None)
    publish(canvas.target, name="shapes", axes="yx", levels=levels, classes=CLASS_NAMES)


def _painted(canvas: Canvas, processes: int) -> Iterator[int]:
    """Yield once for each block painted."""
    blocks = list(range(len(canvas.grid)))
    if len(blocks) == 1 or processes == 1:
        for block in blocks:
            paint_block(canvas, block)
            yield block
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(paint_block, canvas, block) for block in blocks}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                yield len(blocks) - len(waiting)


def paint_block(canvas: Canvas, block: int) -> None:
    """Paint one block of the image and of its truth."""
    core: Box = canvas.grid.core(block)
    start, shape = (core.start[0], core.start[1]), (core.shape[0], core.shape[1])
    image, target = render(start, shape, seed=canvas.seed, channels=3, dtype=np.uint16)
    tifffile.memmap(canvas.image, mode="r+")[core.slices] = image.transpose(1, 2, 0)
    ShardWriter(zarr.open_array(store=str(canvas.target / "0"), mode="r+")).write(core, target)
