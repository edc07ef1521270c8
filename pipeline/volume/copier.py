"""Copy a source slab by slab: decode in parts, encode and store shard by shard, and make level 1 on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box, Grid
from pipeline.store import Place
from pipeline.volume.copying import FINEST, FIRST, CopyPlan
from pipeline.volume.create import ArraySpec
from pipeline.volume.pyramid import PyramidLevel, reduce
from pipeline.volume.sources.source import Source
from pipeline.volume.write import ShardWriter, Stored


@dataclass(frozen=True, slots=True)
class Copied:
    """What copying a slab gave.

    Attributes:
        stored: the shards of level 0, in the order of their keys; durable.
        read: seconds until its voxels were there.
        write: seconds until everything was stored.
    """

    stored: tuple[Stored, ...]
    read: float
    write: float


class Copier:
    """Copies slabs; several threads may ask for one each at a time, and all share the same few that work.

    Args:
        source: stays open.
        root: the image group; its level 0, and level 1 if there is to be one, exist.
        plan: how.
        threads: that decode and encode.

    Attributes:
        made: cores of the shards of level 1 that have been written, durably.
    """

    def __init__(self, source: Source, root: Place, plan: CopyPlan, threads: int) -> None:
        self._source = source
        self._plan = plan
        self._at_once = plan.at_once(threads)
        self._threads = threads
        self._writers = {FINEST: _Writers(root.at(FINEST)), FIRST: _Writers(root.at(FIRST))}
        # Twice as many as compute: the others wait for the disk meanwhile.
        self._pool = ThreadPoolExecutor(2 * threads, thread_name_prefix="copy")
        self._lock = threading.Lock()
        self.made: set[Box] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def copy(self, core: Box) -> Copied:
        """Copy one slab and make what it holds of level 1; everything is durable when this returns.

        Args:
            core: the slab's box.
        """
        started = time.monotonic()
        voxels = self._read(core)
        read = time.monotonic() - started
        shards = [self._pool.submit(self._store, box, core, voxels) for box in self._shards(core)]
        coarser = [self._pool.submit(self._reduce, box, core, voxels) for box in self._coarser(core)]
        stored = [stored for future in shards for stored in future.result()]
        for future in coarser:
            future.result()
        return Copied(tuple(stored), read, time.monotonic() - started - read)

    def copy_lean(self, core: Box) -> Copied:
        """Copy one slab shard by shard, in this thread; level 1 is left to be made later."""
        stored: list[Stored] = []
        read, started = 0.0, time.monotonic()
        for box in self._shards(core):
            began = time.monotonic()
            voxels = self._source.read(box)
            read += time.monotonic() - began
            stored += self._store(box, box, voxels)
        return Copied(tuple(stored), read, time.monotonic() - started - read)

    def _read(self, core: Box) -> npt.NDArray[Any]:
        """Return a slab's voxels, ``(c, [z,] y, x)``; decoded in parts where there are threads to spare."""
        parts = list(self._parts(core))
        if len(parts) == 1:
            return self._pool.submit(self._source.read, core).result()
        voxels = np.empty((self._plan.spec.channels or 1, *core.shape), self._plan.spec.dtype)

        def fill(part: Box) -> None:
            voxels[(slice(None), *part.relative_to(core.start).slices)] = self._source.read(part)

        for future in [self._pool.submit(fill, part) for part in parts]:
            future.result()
        return voxels

    def _parts(self, core: Box) -> Iterator[Box]:
        """Yield parts of whole pieces, cut along the first axis on which there are several."""
        wanted = -(-2 * self._threads // self._at_once) if self._at_once < self._threads else 1
        piece = self._source.slab or self._plan.spec.inner
        pieces = [-(-n // p) for n, p in zip(core.shape, piece, strict=True)]
        axis = next((i for i, n in enumerate(pieces) if n > 1), None)
        if axis is None or wanted == 1:
            yield core
            return
        part = list(core.shape)
        part[axis] = piece[axis] * -(-pieces[axis] // wanted)
        for box in Grid(core.shape, tuple(part)).cores():
            yield box.shift(core.start)

    def _shards(self, core: Box) -> list[Box]:
        return [box.shift(core.start) for box in Grid(core.shape, self._plan.spec.shard).cores()]

    def _coarser(self, core: Box) -> list[Box]:
        """Return the cores of the shards of level 1 that are made of nothing but this slab."""
        level = self._plan.first
        if level is None:
            return []
        grid = Grid(level.spec.shape, level.spec.shard)
        start = tuple(a // f for a, f in zip(core.start, level.factors, strict=True))
        stop = tuple(-(-b // f) for b, f in zip(core.stop, level.factors, strict=True))
        cores = [grid.core(grid.number(position)) for position in grid.overlapping(Box(start, stop))]
        return [box for box in cores if core.contains(self._below(box, level))]

    def _below(self, core: Box, level: PyramidLevel) -> Box:
        """Return the voxels that a box of level 1 is made from."""
        start = tuple(a * f for a, f in zip(core.start, level.factors, strict=True))
        ends = zip(core.stop, level.factors, self._plan.spec.shape, strict=True)
        return Box(start, tuple(min(b * f, n) for b, f, n in ends))

    def _store(self, box: Box, core: Box, voxels: npt.NDArray[Any]) -> tuple[Stored, ...]:
        cut = voxels[(slice(None), *box.relative_to(core.start).slices)]
        return self._write(FINEST, self._plan.spec, box, cut)

    def _reduce(self, box: Box, core: Box, voxels: npt.NDArray[Any]) -> None:
        level = self._plan.first
        assert level is not None
        cut = voxels[(slice(None), *self._below(box, level).relative_to(core.start).slices)]
        self._write(FIRST, level.spec, box, reduce(cut, level.factors, self._plan.method))
        with self._lock:
            self.made.add(box)

    def _write(self, level: str, spec: ArraySpec, box: Box, voxels: npt.NDArray[Any]) -> tuple[Stored, ...]:
        with self._writers[level].lent() as writer:
            return writer.write(spec.stored_box(box), voxels[0] if spec.channels is None else voxels)


class _Writers:
    """The writers of one array, each used by one thread at a time and made when it is first needed."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._idle: SimpleQueue[ShardWriter] = SimpleQueue()

    @contextmanager
    def lent(self) -> Iterator[ShardWriter]:
        try:
            writer = self._idle.get_nowait()
        except Empty:
            writer = ShardWriter(self._place)
        try:
            yield writer
        finally:
            self._idle.put(writer)
