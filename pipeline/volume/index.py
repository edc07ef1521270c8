"""The indices of shards: which inner chunks a shard holds, and where in it they lie.

Zarr reads an inner chunk that its shard's index leaves out as fill, without a word. The index is described in
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/v1.0.html: for each inner chunk, in C order,
its offset and its length as two little-endian u8; both ``2**64 - 1`` where it is not stored; a crc32c behind it all.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync

from pipeline.errors import InputDamageError, VolumeError
from pipeline.store import Stat
from pipeline.volume.faults import store_faults

MISSING = np.uint64(2**64 - 1)
"""Offset and length of an inner chunk that is not stored."""

HELD = 128
"""Indices of shards that are kept decoded: neighbouring windows look at the same shards."""

CHECKSUM = 4
"""Bytes of a crc32c."""

Index = npt.NDArray[np.uint64]
"""Offset and length of each inner chunk: ``(*inner chunks along each axis, 2)``."""


@dataclass(frozen=True, slots=True)
class IndexForm:
    """How the indices of an array's shards are stored.

    Attributes:
        counts: inner chunks of a shard along each axis.
        at_start: whether the index stands before the inner chunks.
        checked: whether a crc32c follows it.
    """

    counts: tuple[int, ...]
    at_start: bool
    checked: bool

    @property
    def nbytes(self) -> int:
        """Bytes of a stored index."""
        return 16 * math.prod(self.counts) + CHECKSUM * self.checked

    def decode(self, data: bytes, size: int) -> Index:
        """Return the index that bytes hold.

        Args:
            data: the stored index.
            size: bytes of the whole shard.

        Raises:
            ValueError: the bytes are too few, fail their checksum, or point outside the shard.
        """
        if len(data) != self.nbytes:
            raise ValueError(f"its index has {len(data)} bytes instead of {self.nbytes}")
        body = data[: -CHECKSUM or None] if self.checked else data
        if self.checked and google_crc32c.value(body) != int.from_bytes(data[-CHECKSUM:], "little"):
            raise ValueError("the checksum of its index does not match")
        index: Index = np.frombuffer(body, "<u8").astype(np.uint64).reshape(*self.counts, 2)
        offsets, lengths = index[..., 0], index[..., 1]
        there = (offsets != MISSING) | (lengths != MISSING)
        most = np.uint64(size)
        outside = (lengths == 0) | (offsets > most) | (lengths > most - np.minimum(offsets, most))
        if (there & outside).any():
            raise ValueError(f"its index points outside its {size} bytes")
        return index


def index_form(array: zarr.Array[Any]) -> IndexForm | None:
    """Return how the indices of an array's shards are stored; None for an array without shards.

    Raises:
        VolumeError: shards whose missing inner chunks cannot be recognised: inside others, behind another codec,
            or with an index in another encoding.
    """
    codecs: Sequence[object] = getattr(array.metadata, "codecs", ())
    if not any(_holds_shards(codec) for codec in codecs):
        return None
    codec = codecs[0]
    if len(codecs) > 1 or not isinstance(codec, ShardingCodec) or any(map(_holds_shards, codec.codecs)):
        raise VolumeError(_unknown("shards inside shards, or another codec around them"))
    inner = codec.index_codecs
    little = bool(inner) and isinstance(inner[0], BytesCodec) and getattr(inner[0].endian, "value", "") == "little"
    if not little or len(inner) > 2 or not all(isinstance(c, Crc32cCodec) for c in inner[1:]):
        raise VolumeError(_unknown(f"index_codecs {[type(c).__name__ for c in inner]}"))
    assert array.shards is not None
    counts = tuple(s // c for s, c in zip(array.shards, codec.chunk_shape, strict=True))
    return IndexForm(counts, codec.index_location.value == "start", len(inner) == 2)


class Indices:
    """Reads the indices of an array's shards, and keeps the last few. Shared by threads."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self._held: OrderedDict[tuple[str, str], Index] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def form(self) -> IndexForm | None:
        """How they are stored, see :func:`index_form`."""
        return index_form(self._array)

    def read(self, shards: Mapping[str, Stat], where: str) -> dict[str, Index]:
        """Return the indices of shards, by key: one small read for each that is not held.

        Args:
            shards: size and identity of each, by its key inside the array.
            where: what messages call the array, and the part of it that is read.

        Raises:
            InputDamageError: an index does not decode, or points outside its shard.
            StoreError: the store does not answer.
        """
        form = self.form
        assert form is not None, "an array without shards has no indices"
        with self._lock:
            found = {key: self._held[key, stat.identity] for key, stat in shards.items() if self._has(key, stat)}
        rest = [key for key in shards if key not in found]
        damaged: list[str] = []
        for key, data in zip(rest, self._stored(form, rest, shards, where), strict=True):
            try:
                found[key] = form.decode(data, shards[key].size)
            except ValueError as error:
                damaged.append(f"{key}: {error}")
        if damaged:
            raise InputDamageError(
                f"{where}: {len(damaged)} shard(s) are damaged ({'; '.join(damaged[:3])}"
                f"{' ...' if len(damaged) > 3 else ''}). Restore them from the original and run again"
            )
        self._keep(found, shards)
        return found

    def _has(self, key: str, stat: Stat) -> bool:
        return (key, stat.identity) in self._held

    def _keep(self, found: Mapping[str, Index], shards: Mapping[str, Stat]) -> None:
        with self._lock:
            for key, index in found.items():
                self._held[key, shards[key].identity] = index
                self._held.move_to_end((key, shards[key].identity))
            while len(self._held) > HELD:
                self._held.popitem(last=False)

    def _stored(self, form: IndexForm, keys: Sequence[str], shards: Mapping[str, Stat], where: str) -> list[bytes]:
        """Return the stored indices; what there is of a shard that is shorter than one."""
        store, path = self._array.store, self._array.path

        async def one(key: str) -> Buffer | None:
            count = min(form.nbytes, shards[key].size)
            request = RangeByteRequest(0, count) if form.at_start else SuffixByteRequest(count)
            return await store.get(f"{path}/{key}" if path else key, default_buffer_prototype(), request)

        async def every() -> list[Buffer | None]:
            return await asyncio.gather(*[one(key) for key in keys])

        if not keys:
            return []
        with store_faults(where):
            return [b"" if data is None else data.to_bytes() for data in sync(every())]


def _holds_shards(codec: object) -> bool:
    return isinstance(codec, ShardingCodec)


def _unknown(what: str) -> str:
    return (
        f"its missing inner chunks cannot be recognised ({what}). Store the volume anew with shards of one level, whose"
        " index is bytes (little endian) and crc32c, or pass --holes background if inner chunks were left out because"
        " they hold nothing but the fill value"
    )
