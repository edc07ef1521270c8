"""Write a core as whole shards: encode in memory, digest, then one atomic and durable put a shard.

Zarr writes a full shard by first reading the old one, so a torn shard fails every retry, and it never forces
bytes to the disk. Here the shard is encoded in memory (by :mod:`pipeline.volume.encoding` where the array is one of
ours, else by Zarr), where nothing old can be in the way, and its bytes then replace the stored object in one step. A
process that dies in between leaves the old shard or none. Two processes that write the same chunk (a lost worker that
is not quite dead) put the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from pipeline.geometry import Box, Grid
from pipeline.store import Place
from pipeline.volume.encoding import shard_encoding
from pipeline.volume.node import array_place, as_place

_DOCUMENT = "zarr.json"


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored object.

    Attributes:
        key: its key inside the array.
        digest: BLAKE2b of its bytes, 16 bytes in hexadecimal.
        size: its length in bytes.
    """

    key: str
    digest: str
    size: int


def digest_bytes(data: bytes) -> str:
    """Return the digest that the ledger keeps of a stored object's bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class ShardWriter:
    """Writes boxes that are whole shards (clipped at the volume's far edge) into one array.

    Not shared between threads: it encodes in memory of its own.

    Args:
        array: the array, open or by its address; stored in Zarr v3, in a folder or an object store.
    """

    def __init__(self, array: zarr.Array[Any] | str | Path | Place) -> None:
        self._place = array_place(array) if isinstance(array, zarr.Array) else as_place(array)
        self._memory = MemoryStore()
        document = _document(self._place)
        sync(self._memory.set(_DOCUMENT, default_buffer_prototype().buffer.from_bytes(document)))
        twin = zarr.open_array(store=self._memory, mode="r+")
        self._twin = twin.with_config({"write_empty_chunks": True})
        self._shard = twin.shards or twin.chunks
        self._encoding = shard_encoding(json.loads(document))

    def write(self, box: Box, voxels: npt.NDArray[Any]) -> tuple[Stored, ...]:
        """Write ``voxels`` to ``box`` (all stored axes) and return what was stored, durably.

        A mistake here would be silent in Zarr, so shape, dtype and alignment are checked first.
        """
        assert voxels.shape == box.shape, (voxels.shape, box)
        assert voxels.dtype == self._twin.dtype, (voxels.dtype, self._twin.dtype)
        assert self.is_whole(box), (box, self._shard, self._twin.shape)
        stored = []
        for key, data in self._encoded(box, voxels):
            self._place.put(key, data)
            stored.append(Stored(key, digest_bytes(data), len(data)))
        return tuple(sorted(stored, key=lambda each: each.key))

    def is_whole(self, box: Box) -> bool:
        """Whether a box consists of whole shards, so that no other writer shares one with it."""
        axes = zip(box, self._shard, self._twin.shape, strict=True)
        return all(a % s == 0 and (b % s == 0 or b == n) and a < b <= n for (a, b), s, n in axes)

    def _encoded(self, box: Box, voxels: npt.NDArray[Any]) -> Iterator[tuple[str, bytes]]:
        """Yield the key and the bytes of each shard of a box."""
        if self._encoding is None:
            yield from self._encoded_by_zarr(box, voxels)
            return
        grid = Grid(self._twin.shape, self._shard)
        for position in grid.overlapping(box):
            shard = grid.core(grid.number(position)).relative_to(box.start)
            yield self._twin.metadata.encode_chunk_key(position), self._encoding.encode(voxels[shard.slices])

    def _encoded_by_zarr(self, box: Box, voxels: npt.NDArray[Any]) -> Iterator[tuple[str, bytes]]:
        try:
            self._twin[box.slices] = np.ascontiguousarray(voxels)
            for key in self._encoded_keys():
                buffer = sync(self._memory.get(key, default_buffer_prototype()))
                assert buffer is not None
                yield key, buffer.to_bytes()
        finally:
            self._forget()

    def _encoded_keys(self) -> list[str]:
        async def listed() -> list[str]:
            return sorted([key async for key in self._memory.list() if key != _DOCUMENT])

        return sync(listed())

    def _forget(self) -> None:
        """Empty the memory, so that a later write never puts what a failed one left there."""
        for key in self._encoded_keys():
            sync(self._memory.delete(key))


def _document(place: Place) -> bytes:
    """Return an array's metadata as they are stored."""
    try:
        return place.get(_DOCUMENT)
    except FileNotFoundError as error:
        raise AssertionError(f"{place.url}: writing needs a Zarr v3 array") from error
