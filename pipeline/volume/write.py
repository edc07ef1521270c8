"""Write a core as whole shards: encode in memory, digest, then one atomic and durable put a shard.

Zarr writes a full shard by first reading the old one, so a torn shard fails every retry, and it never forces
bytes to the disk. Here the shard is encoded by Zarr into memory, where nothing old can be in the way, and its
bytes then replace the stored object in one step. A process that dies in between leaves the old shard or none.
Two processes that write the same chunk (a lost worker that is not quite dead) put the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore

from pipeline.geometry import Box
from pipeline.store import put_file


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
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self._shard = array.shards or array.chunks
        self._memory = MemoryStore()
        document = sync(array.store.get(_join(array.path, "zarr.json"), default_buffer_prototype()))
        assert document is not None, "writing needs a Zarr v3 array"
        sync(self._memory.set("zarr.json", document))
        twin = zarr.open_array(store=self._memory, mode="r+")
        self._twin = twin.with_config({"write_empty_chunks": True})

    def write(self, box: Box, voxels: npt.NDArray[Any]) -> tuple[Stored, ...]:
        """Write ``voxels`` to ``box`` (all stored axes) and return what was stored, durably.

        A mistake here would be silent in Zarr, so shape, dtype and alignment are checked first.
        """
        assert voxels.shape == box.shape, (voxels.shape, box)
        assert voxels.dtype == self._array.dtype, (voxels.dtype, self._array.dtype)
        assert self.is_whole(box), (box, self._shard, self._array.shape)
        stored = []
        try:
            self._twin[box.slices] = np.ascontiguousarray(voxels)
            for key in self._encoded_keys():
                buffer = sync(self._memory.get(key, default_buffer_prototype()))
                assert buffer is not None
                data = buffer.to_bytes()
                self._put(_join(self._array.path, key), data)
                stored.append(Stored(key, digest_bytes(data), len(data)))
        finally:
            self._forget()
        return tuple(stored)

    def is_whole(self, box: Box) -> bool:
        """Whether a box consists of whole shards, so that no other writer shares one with it."""
        axes = zip(box, self._shard, self._array.shape, strict=True)
        return all(a % s == 0 and (b % s == 0 or b == n) and a < b <= n for (a, b), s, n in axes)

    def _encoded_keys(self) -> list[str]:
        async def listed() -> list[str]:
            return sorted([key async for key in self._memory.list() if key != "zarr.json"])

        return sync(listed())

    def _forget(self) -> None:
        """Empty the memory, so that a later write never puts what a failed one left there."""
        for key in self._encoded_keys():
            sync(self._memory.delete(key))

    def _put(self, key: str, data: bytes) -> None:
        store = self._array.store
        if isinstance(store, LocalStore):
            put_file(store.root / key, data)
        else:
            sync(store.set(key, default_buffer_prototype().buffer.from_bytes(data)))


def _join(path: str, key: str) -> str:
    return f"{path}/{key}" if path else key
