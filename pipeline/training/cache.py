"""Decoded pieces of images in memory: what threads that draw patches share, up to a number of bytes.

::

      box of a patch          pieces (stored chunks, or several of them)
        +-----+               in memory  ── copied
     ---|--+--|--+-           being read ── waited for: one thread decodes a piece, whoever asks
        |  |  |  |            neither    ── read at once, by the thread that asked first
        +-----+
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box, Grid

Voxels = npt.NDArray[Any]
Load = Callable[[list[Hashable]], Sequence[Voxels]]

SIDE = {2: 256, 3: 64}
"""Voxels along an axis that a piece has at least, by the number of spatial axes: smaller ones cost more than they
hold."""


class ChunkCache:
    """Arrays by key, the least recently used ones thrown away first. Any number of threads may ask at once.

    Law: while an array is held or being read, nobody else reads it.

    Args:
        limit: bytes that are held at most; what is being read comes on top.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reads = 0
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, Voxels] = OrderedDict()
        self._nbytes = 0
        self._pending: dict[Hashable, Future[Voxels]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        with self._lock:
            return self._nbytes

    def get(self, keys: Sequence[Hashable], load: Load) -> list[Voxels]:
        """Return the arrays of some keys; nobody may change them.

        Args:
            keys: what is wanted, each once.
            load: reads those that are neither held nor being read, in the order that it is given; called once or not
                at all.

        Raises:
            Exception: whatever ``load`` raised, here or in the thread that was reading; nothing of it is kept.
        """
        found, mine = self._claim(keys)
        if mine:
            try:
                arrays = load(mine)
            except BaseException as error:
                self._give_up(mine, error)
                raise
            for key, array in zip(mine, arrays, strict=True):
                found[key] = self._keep(key, array)
        return [each.result() if isinstance(each, Future) else each for each in (found[key] for key in keys)]

    def _claim(self, keys: Sequence[Hashable]) -> tuple[dict[Hashable, Voxels | Future[Voxels]], list[Hashable]]:
        """Return what is held or being read, and the keys that this thread has to read."""
        found: dict[Hashable, Voxels | Future[Voxels]] = {}
        mine: list[Hashable] = []
        with self._lock:
            for key in keys:
                if key in self._held:
                    self._held.move_to_end(key)
                    found[key] = self._held[key]
                elif key in self._pending:
                    found[key] = self._pending[key]
                else:
                    self._pending[key] = Future()
                    mine.append(key)
            self.reads += len(mine)
        return found, mine

    def _keep(self, key: Hashable, array: Voxels) -> Voxels:
        """Hold an array, as long as there is room, and hand it to those who wait for it."""
        array.flags.writeable = False
        with self._lock:
            waiting = self._pending.pop(key)
            if array.nbytes <= self.limit:
                self._held[key] = array
                self._nbytes += array.nbytes
            while self._nbytes > self.limit:
                self._nbytes -= self._held.popitem(last=False)[1].nbytes
        waiting.set_result(array)
        return array

    def _give_up(self, keys: Sequence[Hashable], error: BaseException) -> None:
        with self._lock:
            waiting = [self._pending.pop(key) for key in keys]
        for future in waiting:
            future.set_exception(error)


class Pieces:
    """An image that is read piece by piece through a cache.

    Args:
        read: reads a box inside the image, ``(c, [z,] y, x)``; from any thread.
        shape: spatial shape of the image.
        piece: spatial shape of what is decoded at once.
        cache: where pieces are held.
    """

    def __init__(
        self, read: Callable[[Box], Voxels], shape: tuple[int, ...], piece: tuple[int, ...], cache: ChunkCache
    ) -> None:
        side = SIDE[len(shape)]
        longer = [p * math.ceil(side / p) for p in piece]
        self.grid = Grid(shape, tuple(min(p, n) for p, n in zip(longer, shape, strict=True)))
        self._read = read
        self._cache = cache

    def read(self, box: Box) -> Voxels:
        """Read the voxels of a box inside the image: ``(c, [z,] y, x)``. Errors as those of ``read``."""
        numbers = [self.grid.number(position) for position in self.grid.overlapping(box)]
        # The key holds this object itself, so that no other one can ever have the same.
        arrays = self._cache.get([(self, number) for number in numbers], self._load)
        if len(arrays) == 1:
            return arrays[0][:, *box.relative_to(self.grid.core(numbers[0]).start).slices]
        out = np.empty((arrays[0].shape[0], *box.shape), arrays[0].dtype)
        for number, array in zip(numbers, arrays, strict=True):
            core = self.grid.core(number)
            seen = core.intersect(box)
            out[:, *seen.relative_to(box.start).slices] = array[:, *seen.relative_to(core.start).slices]
        return out

    def _load(self, keys: Sequence[Any]) -> list[Voxels]:
        """Read pieces: in one go where they fill a box."""
        cores = [self.grid.core(number) for _, number in keys]
        starts, stops = (
            zip(*(core.start for core in cores), strict=True),
            zip(*(core.stop for core in cores), strict=True),
        )
        whole = Box(tuple(map(min, starts)), tuple(map(max, stops)))
        if whole.size != sum(core.size for core in cores):
            return [np.array(self._read(core)) for core in cores]
        voxels = self._read(whole)
        return [np.array(voxels[:, *core.relative_to(whole.start).slices]) for core in cores]
