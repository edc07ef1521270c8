"""Create the arrays of an output volume, and publish it as an OME-Zarr 0.5 image when it is whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.store import PARTIAL, LocalPlace, Place, fsync
from pipeline.volume.faults import store_faults
from pipeline.volume.ngff import image_attributes
from pipeline.volume.node import as_place
from pipeline.volume.space import Space
from pipeline.volume.state import GROUP, read_attributes, set_attributes
from pipeline.volume.window import shown_window

INNER = {2: (512, 512), 3: (64, 128, 128)}
"""Voxels of an inner chunk (the smallest piece that is read), by number of spatial axes."""

SHARD = {2: (2048, 2048), 3: (128, 512, 512)}
"""Voxels of a shard (the smallest piece that is written), by number of spatial axes."""


_NO_ARRAY = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    ValueError,
    KeyError,
    TypeError,
)
"""What opening something else than an array raises; errors of the machine and of the store are not among them."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Everything that decides how a level's array is stored.

    Attributes:
        shape: spatial shape in voxels.
        channels: None for an array without a channel axis.
        dtype: data type of the voxels.
        shard: spatial shape of a shard, in voxels; a shard holds all channels.
        inner: spatial shape of an inner chunk; divides ``shard``.
        space: axes, voxel size, origin, unit.
    """

    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    shard: tuple[int, ...]
    inner: tuple[int, ...]
    space: Space

    @property
    def axes(self) -> str:
        """Stored axis names: channels first."""
        return self.space.axes if self.channels is None else "c" + self.space.axes

    def stored(self, spatial: Sequence[int], channels: int | None) -> tuple[int, ...]:
        """Put the channel axis in front of a spatial shape."""
        return tuple(spatial) if self.channels is None else (channels or 1, *spatial)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the array with its channel axis."""
        return self.stored(self.shape, self.channels)

    def stored_box(self, box: Box) -> Box:
        """Return the box over all stored axes of a spatial box: all channels of it."""
        if self.channels is None:
            return box
        return Box((0, *box.start), (self.channels, *box.stop))

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels, uncompressed."""
        return math.prod(self.stored_shape) * self.dtype.itemsize


def default_shard(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the default shard for a volume of ``shape``: smaller than usual only where the volume is."""
    usual = SHARD[len(shape)]
    inner = INNER[len(shape)]
    return tuple(min(s, n if n <= c else -(-n // c) * c) for s, n, c in zip(usual, shape, inner, strict=True))


def inner_chunk(shard: Sequence[int]) -> tuple[int, ...]:
    """Return the inner chunk for a shard: near the default, and dividing the shard."""
    return tuple(_divisor(s, c) for s, c in zip(shard, INNER[len(shard)], strict=True))


def _divisor(length: int, target: int) -> int:
    """Return the largest divisor of ``length`` up to ``target``; the whole length where all are tiny."""
    best = next(d for d in range(min(length, target), 0, -1) if length % d == 0)
    return best if 4 * best >= min(length, target) else length


def create_level(root: str | Path | Place, name: str, spec: ArraySpec) -> zarr.Array[Any]:
    """Create one level's array inside ``root`` (made where it is missing), never over another.

    The array stores empty chunks too: a finished chunk always has bytes, so a missing one is a hole. Chunks carry
    a zstd checksum, shards' indices a crc32c: a flipped bit is an error, not data. Its metadata come into being in one
    durable step, which of many processes one does.

    Raises:
        VolumeError: there is something of this name already.
        StoreError: the store does not answer.
    """
    place = as_place(root)
    level = place.at(name)
    if _leftovers(level) != [] or not _create(place, name, spec):
        raise VolumeError(f"{level.url}: exists already; choose another output or remove it")
    return _open(level)


def array_document(spec: ArraySpec) -> bytes:
    """Return the metadata of an array as Zarr writes them, the content of its ``zarr.json``."""
    return _document(_in_memory(spec))


def ensure_level(root: str | Path | Place, name: str, spec: ArraySpec) -> zarr.Array[Any]:
    """Return one level's array: a new one, or the one that an interrupted job left, if its layout is the same.

    Raises:
        VolumeError: something else is in its place.
        StoreError: the store does not answer.
    """
    place = as_place(root)
    level = place.at(name)
    if level.stats([GROUP])[0] is None and (leftovers := _leftovers(level)) is not None:
        for key in leftovers:
            level.delete(key)
        _create(place, name, spec)
    try:
        array = _open(level)
        wanted = zarr.open_array(store=_in_memory(spec), mode="r").metadata.to_dict()
        same = dict(array.metadata.to_dict(), attributes={}) == dict(wanted, attributes={})
    except _NO_ARRAY as error:
        raise VolumeError(f"{level.url}: is in the way and is no array of ours ({error}); remove it") from error
    if not same:
        raise VolumeError(
            f"{level.url}: an array of another layout ({array.dtype} {array.shape}, shards {array.shards}) is in the"
            f" way of {spec.dtype} {spec.stored_shape} in shards {spec.stored(spec.shard, spec.channels)}; remove it"
        )
    return array


def publish(
    root: str | Path | Place,
    *,
    name: str,
    axes: str,
    levels: Sequence[tuple[str, Space]],
    classes: Sequence[str] | None,
    channels: Sequence[str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write the ``ome`` attribute: from now on viewers see an image of the given levels.

    Args:
        root: the image group.
        name: shown by viewers.
        axes: stored axis names.
        levels: path and space of each level, finest first.
        classes: names of the class ids if the image is a class map.
        channels: names of the channels, one each, for viewers; None where they have none.
        more: other attributes that come into being in the same step, such as a georeference.
    """
    place = as_place(root)
    window = shown_window(_open(place.at(levels[-1][0]))) if channels else (0.0, 255.0)
    ome = image_attributes(name, axes, levels, classes=classes, channels=channels, window=window)
    set_attributes(place, {**(more or {}), "ome": ome})


def is_published(root: str | Path | Place) -> bool:
    """Whether a volume is whole: its ``ome`` attribute is written last.

    Raises:
        StoreError: the store does not answer, which is no absence.
    """
    return "ome" in read_attributes(as_place(root))


def sync_tree(root: str | Path | Place) -> None:
    """Force a group's metadata, and the names of what is in it, to the disk; an object store does it by itself."""
    place = as_place(root)
    if not isinstance(place, LocalPlace):
        return
    for document in [place.root / GROUP, *place.root.glob(f"*/{GROUP}")]:
        if document.exists():
            fsync(document)
            fsync(document.parent)
    fsync(place.root.parent)


def _leftovers(place: Place) -> list[str] | None:
    """Return what a process left that died as it created an array; None where there is anything else."""
    found = []
    try:
        for entry in place.entries():
            if not entry.key.endswith(PARTIAL):
                return None
            found.append(entry.key)
    except NotADirectoryError:
        return None
    return found


def _create(place: Place, name: str, spec: ArraySpec) -> bool:
    """Store the metadata of an array, and of the group around it, where there are none; return whether it did."""
    group, array = MemoryStore(), _in_memory(spec)
    zarr.open_group(store=group, mode="w", zarr_format=3)
    place.create(GROUP, _document(group))
    return place.create(f"{name}/{GROUP}", _document(array))


def _document(store: MemoryStore) -> bytes:
    found = sync(store.get(GROUP, default_buffer_prototype()))
    assert found is not None
    return found.to_bytes()


def _open(place: Place) -> zarr.Array[Any]:
    """Open an array to write into."""
    with store_faults(place.url):
        array = zarr.open_array(store=place.zarr_store(read_only=False), mode="r+", zarr_format=3)
    return array.with_config({"write_empty_chunks": True})


def _in_memory(spec: ArraySpec) -> MemoryStore:
    """Return a store that holds the metadata of an array, as Zarr writes them, and nothing else."""
    store = MemoryStore()
    channels = spec.channels if spec.channels is None or spec.channels <= 4 else 1
    zarr.create_array(
        store=store,
        shape=spec.stored_shape,
        dtype=spec.dtype,
        shards=spec.stored(spec.shard, spec.channels),
        chunks=spec.stored(spec.inner, channels),
        compressors=[ZstdCodec(level=1, checksum=True)],
        fill_value=0,
        dimension_names=list(spec.axes),
        config={"write_empty_chunks": True},
    )
    return store
