"""Boxes of a volume, read ahead by threads in their order; what a mask left out is not asked for."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box
from pipeline.volume.volume import Volume

Made = TypeVar("Made")

BOX_BYTES = 32 << 20
"""Most bytes of a box that is read at once, where what is written at once is no larger."""


def in_order(
    make: Callable[[Box], Made], boxes: Iterable[Box], *, threads: int, ahead: int = 1
) -> Iterator[tuple[Box, Made]]:
    """Yield each box and what is made of it, in the boxes' order; at most ``threads + ahead`` are in memory.

    The first error ends it: boxes that have not begun are dropped.
    """
    waiting: deque[tuple[Box, Future[Made]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="export") as pool:
        try:
            for box in boxes:
                waiting.append((box, pool.submit(make, box)))
                if len(waiting) >= threads + ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def read(volume: Volume, box: Box) -> npt.NDArray[Any]:
    """Read the voxels ``(c, [z,] y, x)`` of a box; zeros, at no cost, where all that is stored there was left out."""
    if is_left_out(volume, box):
        return np.zeros((volume.channels, *box.shape), volume.dtype)
    return volume.read(box)


def is_left_out(volume: Volume, box: Box) -> bool:
    """Whether every stored object below a box was left out on purpose (:mod:`pipeline.volume.absent`)."""
    return volume.absent != () and all(key in volume.absent for key in volume.stored_keys(box))


def box_shape(volume: Volume, piece: Sequence[int]) -> tuple[int, ...]:
    """Return the spatial shape of boxes that are read at once: whole pieces, and whole stored objects if they fit.

    Args:
        volume: what is read.
        piece: what is written at once, along each spatial axis.
    """
    stored = (volume.storage_grid.chunk[volume.axes.index(axis)] for axis in volume.space.axes)
    counts = [-(-n // p) for n, p in zip(stored, piece, strict=True)]
    most = max(1, BOX_BYTES // (math.prod(piece) * volume.channels * volume.dtype.itemsize))
    while math.prod(counts) > most and max(counts) > 1:
        longest = counts.index(max(counts))
        counts[longest] = -(-counts[longest] // 2)
    return tuple(count * p for count, p in zip(counts, piece, strict=True))
