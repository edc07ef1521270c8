"""Write many shards of one array at once: a bounded number in flight, so memory is flat in the volume's size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy.typing as npt
import zarr

from pipeline.geometry import Box
from pipeline.store import Place
from pipeline.volume.write import ShardWriter

AHEAD = 2
"""Pieces that wait beyond the ones that threads are working on."""

Piece = tuple[Box, Callable[[], npt.NDArray[Any]]]
"""A box of whole shards (all stored axes), and what makes its voxels when a thread gets to it."""


@dataclass(slots=True)
class Tally:
    """Counts bytes and tells how many of them there are now.

    Attributes:
        total: bytes in all.
        progress: told ``(done, total)`` after every change; None where nobody listens.
        done: bytes so far.
    """

    total: int
    progress: Callable[[int, int], None] | None
    done: int = 0

    def add(self, count: int) -> None:
        """Count ``count`` bytes more."""
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.total)


def write_shards(
    array: zarr.Array[Any] | str | Path | Place,
    pieces: Iterable[Piece],
    *,
    threads: int,
    wrote: Callable[[int], None],
) -> None:
    """Make and write each piece, in threads; at most ``threads + 2`` pieces are in flight.

    The first error ends it: pieces that have not begun are dropped, those at work come to their end.

    Args:
        array: the array to write into, open or by its address; stored in Zarr v3.
        pieces: consumed one by one, in this thread, as room becomes free.
        threads: pieces made and written at once, at least 1.
        wrote: told the bytes of voxels of each piece written, in this thread and in the pieces' order.
    """
    assert threads >= 1, threads
    writers: SimpleQueue[ShardWriter] = SimpleQueue()
    for _ in range(threads):
        writers.put(ShardWriter(array))

    def work(box: Box, make: Callable[[], npt.NDArray[Any]]) -> int:
        writer = writers.get()
        try:
            voxels = make()
            writer.write(box, voxels)
            return voxels.nbytes
        finally:
            writers.put(writer)

    pending: deque[Future[int]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="shards") as pool:
        try:
            for box, make in pieces:
                if len(pending) >= threads + AHEAD:
                    wrote(pending.popleft().result())
                pending.append(pool.submit(work, box, make))
            while pending:
                wrote(pending.popleft().result())
        finally:
            for future in pending:
                future.cancel()
