"""A result as an OME-Zarr of its own, for tools that do not read the one that a run writes.

::

    levels --boxes of whole stored pieces, read ahead--> OUT.zarr.unfinished --attributes, flush, rename--> OUT.zarr

Version 0.4 is Zarr v2 without shards: keys parted by ``/``, channels first, chunks compressed by Blosc with LZ4, as
bioformats2raw writes them and QuPath, Bio-Formats, Neuroglancer and every library of Zarr v2 read them. Version 0.5 is
Zarr v3 in shards, as runs store it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numcodecs
import numpy as np
import numpy.typing as npt
import zarr

from pipeline.geometry import Box, Grid
from pipeline.volume.absent import ATTRIBUTE, Absent, Bits
from pipeline.volume.create import ArraySpec, create_level, default_shard, inner_chunk
from pipeline.volume.export.ahead import box_shape, in_order, is_left_out, read
from pipeline.volume.export.unfinished import unfinished
from pipeline.volume.ngff import OLDER, channel_names, image_attributes, older_attributes
from pipeline.volume.shards import Tally, write_shards
from pipeline.volume.state import KEY
from pipeline.volume.volume import Volume
from pipeline.volume.window import shown_window

Version = Literal["0.4", "0.5"]

CHUNK = {2: (1024, 1024), 3: (64, 128, 128)}
"""Voxels of a chunk of version 0.4, by number of spatial axes; each holds one channel."""

WIDENED = {"bool": "uint8", "float16": "float32"}
"""What version 0.4 stores in a wider type, every value kept: most readers of it know no others."""


def write_ome_zarr(
    levels: Sequence[Volume],
    target: Path,
    *,
    version: Version,
    names: Sequence[str] = (),
    attributes: Mapping[str, Any] | None = None,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a volume and its coarser levels as one OME-Zarr image, every voxel as it is, channels first.

    What a mask left out is left out here too, and said in the same attribute. In memory are ``threads + 1`` boxes of
    32 MiB (or of one shard).

    Args:
        levels: the volume, and its coarser levels if there are any.
        target: folder that must not exist; it is there when all is written. Meanwhile ``OUT.zarr.unfinished`` is.
        version: of OME-NGFF: ``"0.4"`` (Zarr v2) or ``"0.5"`` (Zarr v3).
        names: of the class ids of a class map, or of the channels.
        attributes: further ones of the image group, such as a georeference.
        threads: boxes read and written at once.
        progress: told the boxes that are written, and how many there are in all.

    Raises:
        InputError: the target exists, the folder around it does not, or another process is writing to it.
        MissingChunkError: a stored chunk is missing.
        InputDamageError: a stored chunk does not decode.
    """
    older = version == OLDER
    copies = [_copy(str(k), volume, older=older) for k, volume in enumerate(levels)]
    absent = _absent(copies)
    tally = Tally(sum(len(copy.grid) for copy in copies), progress)
    with unfinished(target) as folder:
        zarr.create_group(str(folder), zarr_format=2 if older else 3)
        for k, copy in enumerate(copies):
            bits = None if absent is None else absent.of_level(k)
            boxes = (box for box in copy.grid.cores() if bits is None or not _all(bits, copy.spec, box))
            before = tally.done
            (_write_chunks if older else _write_shards)(folder, copy, boxes, threads, tally)
            if skipped := before + len(copy.grid) - tally.done:
                tally.add(skipped)
        name = target.name.removesuffix(".zarr").removesuffix(".ome")
        _publish(folder, name, copies, names, _more(attributes, absent), older=older)


@dataclass(frozen=True, slots=True)
class _Copy:
    """One level: its name, where its voxels come from, how they are stored, and what is written at once."""

    name: str
    volume: Volume
    spec: ArraySpec
    grid: Grid

    def stored(self, box: Box) -> npt.NDArray[Any]:
        """Return a box's voxels as they are stored."""
        voxels = read(self.volume, box).astype(self.spec.dtype, copy=False)
        return voxels[0] if self.spec.channels is None else voxels


def _copy(name: str, volume: Volume, *, older: bool) -> _Copy:
    """Say how a level is stored; chunks are written in boxes that are whole stored objects of the source."""
    spec = _spec(volume, older=older)
    return _Copy(name, volume, spec, Grid(spec.shape, box_shape(volume, spec.shard) if older else spec.shard))


def _spec(volume: Volume, *, older: bool) -> ArraySpec:
    """Return how a level is stored: as it is where it is sharded, and else in pieces of the usual size."""
    channels = volume.channels if "c" in volume.axes else None
    if older:
        chunk = tuple(min(c, n) for c, n in zip(CHUNK[len(volume.shape)], volume.shape, strict=True))
        dtype = np.dtype(WIDENED.get(volume.dtype.name, volume.dtype.name))
        return ArraySpec(volume.shape, channels, dtype, chunk, chunk, volume.space)
    shard = default_shard(volume.shape)
    if volume.array.shards is not None:
        shard = tuple(volume.array.shards[volume.axes.index(axis)] for axis in volume.space.axes)
    return ArraySpec(volume.shape, channels, volume.dtype, shard, inner_chunk(shard), volume.space)


def _absent(copies: Sequence[_Copy]) -> Absent | None:
    """Return which pieces of the copy hold nothing but what the source left out; None where it left out nothing."""
    volume = copies[0].volume
    if volume.absent == ():
        return None
    grids = tuple(Grid(copy.spec.shape, copy.spec.shard) for copy in copies)
    bits = np.fromiter((is_left_out(volume, core) for core in grids[0].cores()), np.bool_, len(grids[0]))
    return Absent(bits.reshape(grids[0].counts), grids)


def _all(bits: Bits, spec: ArraySpec, box: Box) -> bool:
    """Whether all pieces below a box, which is made of whole ones, are absent."""
    below = (slice(a // s, -(-b // s)) for (a, b), s in zip(box, spec.shard, strict=True))
    return bool(bits[tuple(below)].all())


def _write_shards(folder: Path, copy: _Copy, boxes: Iterable[Box], threads: int, tally: Tally) -> None:
    """Write a level of version 0.5."""
    array = create_level(folder, copy.name, copy.spec)
    pieces = ((copy.spec.stored_box(box), partial(copy.stored, box)) for box in boxes)
    write_shards(array, pieces, threads=threads, wrote=lambda _: tally.add(1))


def _write_chunks(folder: Path, copy: _Copy, boxes: Iterable[Box], threads: int, tally: Tally) -> None:
    """Write a level of version 0.4."""
    spec = copy.spec
    array = zarr.create_array(
        store=str(folder),
        name=copy.name,
        shape=spec.stored_shape,
        chunks=spec.stored(spec.shard, 1),
        dtype=spec.dtype,
        compressors=numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE),
        fill_value=0,
        zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        attributes={"_ARRAY_DIMENSIONS": list(spec.axes)},
        config={"write_empty_chunks": True},
    )

    def write(box: Box) -> None:
        array[spec.stored_box(box).slices] = copy.stored(box)

    for _ in in_order(write, boxes, threads=threads):
        tally.add(1)


def _more(attributes: Mapping[str, Any] | None, absent: Absent | None) -> dict[str, Any]:
    """Return attributes with what is absent among our own ones."""
    found = dict(attributes or {})
    own = {key: value for key, value in found.pop(KEY, {}).items() if key != ATTRIBUTE}
    if absent is not None:
        own[ATTRIBUTE] = absent.to_attribute()
    return {**found, KEY: own} if own else found


def _publish(
    folder: Path, name: str, copies: Sequence[_Copy], names: Sequence[str], more: Mapping[str, Any], *, older: bool
) -> None:
    """Write the attributes of the image group."""
    finest = copies[0].spec
    is_map = finest.channels is None and finest.dtype.kind in "iub"
    ome = image_attributes(
        name,
        finest.axes,
        [(copy.name, copy.spec.space) for copy in copies],
        classes=(names or None) if is_map else None,
        channels=channel_names(names, finest.channels),
        window=shown_window(copies[-1].volume.array),
    )
    group = zarr.open_group(str(folder), mode="r+", use_consolidated=False)
    group.attrs.update({**more, **(older_attributes(ome) if older else {"ome": ome})})
