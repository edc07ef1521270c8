"""Encode a shard's bytes as Zarr does, without its machinery: in the calling thread, with one copy of the voxels.

Zarr encodes through one event loop for the whole process, so that threads that write at once wait for one another.
The bytes here are Zarr's own, as a test holds (Zarr v3, ``sharding_indexed``, version 1: inner chunks in Morton order,
then the index of their offsets and lengths in C order, then its CRC-32C).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs.zstd import Zstd

MISSING = 2**64 - 1
"""Offset and length, in a shard's index, of an inner chunk that is not stored."""


@dataclass(frozen=True, slots=True)
class ShardEncoding:
    """How the shards of one array are encoded.

    Attributes:
        shard: shape of a shard.
        chunk: shape of an inner chunk; divides ``shard``.
        dtype: of the stored values.
        fill: value outside the array, in shards at its far edge.
        level: of zstd.
        checksum: whether zstd adds one.
    """

    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: Any
    level: int
    checksum: bool

    def encode(self, voxels: npt.NDArray[Any]) -> bytes:
        """Return the bytes of one shard.

        Args:
            voxels: its values; shorter than a shard at the array's far edge.
        """
        counts = tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))
        there = tuple(-(-n // c) for n, c in zip(voxels.shape, self.chunk, strict=True))
        if voxels.shape != self.shard:
            whole = np.full(self.shard, self.fill, self.dtype)
            whole[tuple(slice(n) for n in voxels.shape)] = voxels
            voxels = whole
        codec = Zstd(level=self.level, checksum=self.checksum)
        index = np.full((*counts, 2), MISSING, "<u8")
        pieces: list[bytes] = []
        offset = 0
        for position in morton_order(counts):
            if any(i >= n for i, n in zip(position, there, strict=True)):
                continue  # beyond the array
            cut = tuple(slice(i * c, (i + 1) * c) for i, c in zip(position, self.chunk, strict=True))
            piece = codec.encode(np.ascontiguousarray(voxels[cut], self.dtype))
            index[position] = offset, len(piece)
            offset += len(piece)
            pieces.append(piece)
        entries = index.tobytes()
        return b"".join([*pieces, entries, google_crc32c.value(entries).to_bytes(4, "little")])


def shard_encoding(document: Mapping[str, Any]) -> ShardEncoding | None:
    """Return how an array's shards are encoded; None where it is another way than our own arrays have.

    Args:
        document: metadata of an array, in Zarr v3.
    """
    sharding = _only(document.get("codecs"), "sharding_indexed")
    if sharding is None or document["chunk_key_encoding"]["name"] != "default" or not _is_simple(document):
        return None
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    index = [little, {"name": "crc32c"}]
    codecs = [_bare(codec) for codec in sharding["codecs"]]
    if len(codecs) != 2 or codecs[0] not in (little, {"name": "bytes"}) or codecs[1]["name"] != "zstd":
        return None
    if sharding.get("index_location", "end") != "end" or [_bare(c) for c in sharding["index_codecs"]] != index:
        return None
    dtype, fill = np.dtype(document["data_type"]).newbyteorder("<"), document["fill_value"]
    zstd = codecs[1]["configuration"]
    shard = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    return ShardEncoding(shard, tuple(sharding["chunk_shape"]), dtype, fill, zstd["level"], zstd["checksum"])


@cache
def morton_order(counts: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the positions of a grid in Morton order: the bits of the indices interleaved, the first axis lowest."""

    def code(position: tuple[int, ...]) -> int:
        found, place = 0, 0
        for bit in range(max(counts).bit_length()):
            for index, count in zip(position, counts, strict=True):
                if bit < (count - 1).bit_length():
                    found |= (index >> bit & 1) << place
                    place += 1
        return found

    return sorted(product(*(range(count) for count in counts)), key=code)


def _only(codecs: Any, name: str) -> dict[str, Any] | None:
    """Return the configuration of the only codec of an array, if it is of this name."""
    if not isinstance(codecs, list) or len(codecs) != 1 or codecs[0]["name"] != name:
        return None
    configuration: dict[str, Any] = codecs[0]["configuration"]
    return configuration


def _bare(codec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a codec without an empty configuration."""
    return {key: value for key, value in codec.items() if value}


def _is_simple(document: Mapping[str, Any]) -> bool:
    """Whether the dtype and the fill value are numbers, and nothing is beside the codecs."""
    simple = isinstance(document["data_type"], str) and isinstance(document["fill_value"], int | float)
    return simple and not document.get("storage_transformers")
