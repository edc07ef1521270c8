"""Polygons of a class map, out of core: every region is one polygon, wherever the chunks' borders lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from pipeline.errors import InputError
from pipeline.geometry import Box, Grid
from pipeline.volume.export.ahead import in_order, is_left_out
from pipeline.volume.export.joining import Joiner, Polygon
from pipeline.volume.export.trace import Traced, nothing, trace
from pipeline.volume.volume import Volume

AHEAD = 2
"""Chunks that wait beyond the ones that threads are working on."""

SHORTEST, LONGEST = 1024, 2048
"""Voxels of a chunk along each axis: stored ones are joined up to the first, and cut at the second."""


def polygons(
    volume: Volume,
    *,
    min_size: int = 1,
    chunk: tuple[int, int] | None = None,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Polygon]:
    """Yield every 4-connected region of every class but 0 as a polygon of its exact voxel edges.

    Law: drawn again, the polygons are the class map, voxel for voxel; all are valid; and they are the same ones, in
    another order, whatever the chunks. In memory are ``threads + 2`` chunks and the boundaries of the regions that
    reach across the border of what has been read.

    Args:
        volume: class ids ``(y, x)``.
        min_size: regions of fewer voxels are left out.
        chunk: voxels ``(y, x)`` that are traced at once; None for the stored ones, made neither small nor large.
        threads: chunks read and traced at once.
        progress: told the chunks that are done, and how many there are.

    Raises:
        InputError: the volume is no 2-D map of class ids.
        MissingChunkError: a stored chunk is missing.
        InputDamageError: a stored chunk does not decode.
    """
    check_class_map(volume)
    grid = Grid(volume.shape, chunk or _chunk(volume))
    joiner = Joiner(volume.shape[1])
    chunks = in_order(partial(_trace, volume), grid.cores(), threads=threads, ahead=AHEAD)
    for done, (_, traced) in enumerate(chunks, start=1):
        yield from (polygon for polygon in joiner.add(traced) if polygon.size >= min_size)
        if progress is not None:
            progress(done, len(grid))
    assert joiner.open == 0, joiner.open


def check_class_map(volume: Volume) -> None:
    """Raise InputError unless a volume holds class ids ``(y, x)``."""
    if volume.space.axes != "yx":
        raise InputError(
            f"{volume.url}: has the axes {volume.axes}; polygons are made of class maps of the axes yx. Export a plane"
        )
    if "c" in volume.axes or volume.dtype.kind not in "iub":
        raise InputError(
            f"{volume.url}: holds {volume.channels} channel(s) of {volume.dtype} (axes {volume.axes}); polygons are"
            " made of class ids, so segment with --kind labels"
        )


def _chunk(volume: Volume) -> tuple[int, int]:
    """Return the stored shards' shape; small ones are joined, large ones cut."""
    stored = (volume.storage_grid.chunk[volume.axes.index(axis)] for axis in "yx")
    y, x = (min(LONGEST, -(-SHORTEST // n) * n) for n in stored)
    return y, x


def _trace(volume: Volume, core: Box) -> Traced:
    """Read a chunk and the voxels around it; outside the volume, and where a mask left chunks out, lies background."""
    start = core.start[0], core.start[1]
    if is_left_out(volume, core):
        return nothing(start, (core.shape[0], core.shape[1]))
    around = core.grow((1, 1), (1, 1))
    inside = volume.box.intersect(around)
    padded = np.zeros(around.shape, volume.dtype)
    padded[inside.relative_to(around.start).slices] = volume.read(inside)[0]
    return trace(padded, start, volume.shape[1])
