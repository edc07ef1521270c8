"""A Zarr store that believes less than Zarr does: what would be filled in or made up silently is an error."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numcodecs
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.codecs import BloscCodec
from zarr.core.array import AsyncArray
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import StorePath, WrapperStore

from pipeline.errors import MissingChunkError

BLOSC_HEADER = 16
"""Bytes of the header of a Blosc chunk; the last four are the chunk's own length."""


class CheckedStore(WrapperStore[Store]):
    """The stored chunks of one array, checked as they are read.

    Args:
        store: where they are.
        strict: whether a missing one is an error: it was there a moment ago.
        blosc: whether each object is one Blosc chunk. Blosc does not check that a chunk is whole: of one that was cut
            short it decodes whatever lies behind it in memory.
        absent: keys of those that were left out on purpose; they are not asked for, and read as the fill value.
    """

    def __init__(
        self, store: Store, *, strict: bool = False, blosc: bool = False, absent: Container[str] = ()
    ) -> None:
        super().__init__(store)
        self._strict = strict
        self._blosc = blosc
        self._absent = absent

    def _with_store(self, store: Store) -> CheckedStore:
        return CheckedStore(store, strict=self._strict, blosc=self._blosc, absent=self._absent)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object's bytes, or some of them.

        Raises:
            MissingChunkError: there are none, and there must be.
            ValueError: a Blosc chunk was cut short.
        """
        if key in self._absent:
            return None
        found = await super().get(key, prototype, byte_range)
        if self._strict and (found is None or not len(found)):
            raise MissingChunkError(
                f"{key}: the stored chunk vanished or was cut short while it was read; restore it and run again"
            )
        if self._blosc and found is not None and byte_range is None:
            length = int.from_bytes(found[BLOSC_HEADER - 4 : BLOSC_HEADER].to_bytes(), "little")
            if len(found) < max(length, BLOSC_HEADER):
                raise ValueError(f"a Blosc chunk of {length} bytes, cut short to {len(found)}")
        return found


def checked(array: zarr.Array[Any], absent: Container[str] = ()) -> Mapping[str, zarr.Array[Any]]:
    """Return the array to read through, by what holes mean: ``"error"`` and ``"background"``.

    Args:
        array: as Zarr opened it.
        absent: keys in its store of the objects that were left out on purpose.
    """
    blosc = _is_blosc(array.metadata)
    return {
        holes: zarr.Array(
            AsyncArray(
                array.metadata,
                StorePath(
                    CheckedStore(array.store, strict=holes == "error", blosc=blosc, absent=absent), array.path
                ),
                array.async_array.config,
            )
        )
        for holes in ("error", "background")
    }


def _is_blosc(metadata: Any) -> bool:
    """Whether the stored objects of an array are Blosc chunks: its last codec is Blosc."""
    last = metadata.codecs[-1] if metadata.zarr_format == 3 else metadata.compressor
    return isinstance(last, BloscCodec | numcodecs.Blosc) or getattr(last, "codec_name", "") == "numcodecs.blosc"
