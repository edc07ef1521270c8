"""The identities of everything that a Zarr image is stored in, found out in one listing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pipeline.geometry import Box
from pipeline.store import survey
from pipeline.volume.look import identity_digest

if TYPE_CHECKING:
    from pipeline.volume.volume import Volume


class StoredIdentities:
    """The identities of an array's stored objects at the moment when this was made, from one listing.

    Kept as one number an object, by its position on the storage grid; 0 (``HOLE``) where there is none.
    """

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._found = np.zeros(volume.storage_grid.counts, dtype=np.uint32)
        name = volume.array.metadata.encode_chunk_key
        for entry in survey(volume.place, (name(position) for position in np.ndindex(self._found.shape))):
            position = self._position(entry.key)
            if position is not None and entry.stat.size:
                self._found[position] = int(identity_digest(entry.stat.identity), 16)

    def keys(self, box: Box) -> list[str]:
        """Return the keys, inside the array, of all stored objects that hold a voxel of a box."""
        return self._volume.stored_keys(box)

    def digests(self, box: Box) -> list[str]:
        """Return the short digest of each one's identity, in the order of :meth:`keys`."""
        grid = self._volume.storage_grid
        stored = self._volume.stored_box(box)
        slices = tuple(slice(a // c, -(-b // c)) for (a, b), c in zip(stored, grid.chunk, strict=True))
        return [f"{value:08x}" for value in self._found[slices].ravel().tolist()]

    def _position(self, key: str) -> tuple[int, ...] | None:
        """Return the position of a chunk's key, by the rule that Zarr names keys by; None for any other key."""
        numbers, counts = tuple(_numbers(key)), self._found.shape
        if len(numbers) != len(counts) or any(n >= count for n, count in zip(numbers, counts, strict=True)):
            return None
        return numbers if self._volume.array.metadata.encode_chunk_key(numbers) == key else None


def _numbers(key: str) -> Iterator[int]:
    for part in key.replace(".", "/").split("/"):
        if part.isdecimal():
            yield int(part)
