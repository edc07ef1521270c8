"""Copy a source into an OME-Zarr volume, out of core, and publish it when it is whole.

Two ways, by what a read costs. Where any box is cheap (or decoded in pieces no larger than a shard), each thread
reads the shard that it writes. Where the file is decoded in larger pieces (slices, strips), one slab of whole
pieces is read at a time, and threads write its shards while the next one is read::

    pieces decoded   |-----------------------------| x          memory: shards in flight,
    shards           |--------|--------|--------|               or two slabs of at most SLAB_BYTES
    slab             |==============================|
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
import zarr

from pipeline.errors import VolumeError
from pipeline.geometry import Box, Grid
from pipeline.store import PARTIAL
from pipeline.volume.create import ArraySpec, default_shard, ensure_level, inner_chunk, publish, sync_tree
from pipeline.volume.geo import georeference_attributes
from pipeline.volume.pyramid import build_pyramid, pyramid_bytes
from pipeline.volume.shards import Piece, Tally, write_shards
from pipeline.volume.sources.source import Source
from pipeline.volume.sources.values import map_values
from pipeline.volume.space import Space

SLAB_BYTES = 1 << 30
"""Largest slab that is read at once; where pieces are larger still, they are decoded several times."""

_MARK = {"overtile": {"made_by": "ingest"}}
"""Attributes of the output's group: an unpublished group that has them is an ingest that did not end."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingest made.

    Attributes:
        out: the image group.
        spec: layout of level 0.
        levels: path and space of each level, finest first.
        classes: names of the class ids; None for an image.
    """

    out: Path
    spec: ArraySpec
    levels: tuple[tuple[str, Space], ...]
    classes: tuple[str, ...] | None


def ingest(
    source: Source,
    out: Path,
    *,
    shard: tuple[int, ...] | None = None,
    pyramid: bool = True,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
    classes: Sequence[str] | None = None,
    values: Mapping[int, int] | None = None,
    threshold: float | None = None,
) -> Ingested:
    """Copy a source to the OME-Zarr image ``out``, exact to the voxel, with coarser levels.

    Restartable: an ingest that was interrupted is begun again in the same place, with the same settings.

    Args:
        source: stays open.
        out: the image group; must not exist, or be an ingest that was interrupted.
        shard: voxels of a shard along each spatial axis.
        pyramid: whether to write coarser levels: the mean for images, the most frequent class for class maps.
        threads: shards written at once.
        progress: told the bytes of voxels written so far, and in all.
        classes: names of the class ids 0, 1, ...: the image is a class map (u1).
        values: makes a class map: class id of each value that may occur.
        threshold: makes a class map: values above it are class 1, others class 0.

    Raises:
        VolumeError: the output exists; settings that cannot be; voxels that cannot be read or have no class.
    """
    geo = source.geo
    if classes is not None or values is not None or threshold is not None:
        mapped = map_values(source, classes=classes, values=values, threshold=threshold)
        source, classes = mapped, tuple(classes or (f"class {i}" for i in range(mapped.count)))
    spec = _layout(source, shard)
    _begin(out)
    tally = Tally(spec.nbytes + (pyramid_bytes(spec) if pyramid else 0), progress)
    write_shards(ensure_level(out, "0", spec), _pieces(source, spec), threads=threads, wrote=tally.add)
    levels = [("0", spec.space)]
    if pyramid:
        levels = build_pyramid(
            out,
            spec,
            method="mean" if classes is None else "mode",
            threads=threads,
            progress=lambda done, _: tally.add(spec.nbytes + done - tally.done),
        )
    place = None if geo is None else georeference_attributes(geo, shape=spec.shape)
    publish(out, name=out.stem, axes=spec.axes, levels=levels, classes=classes, more=place)
    return Ingested(out, spec, tuple(levels), None if classes is None else tuple(classes))


def slab_shape(
    shape: Sequence[int], shard: Sequence[int], piece: Sequence[int] | None, voxel_bytes: int
) -> tuple[int, ...]:
    """Return the box that is read at once: whole shards and, as far as memory allows, whole pieces.

    Args:
        shape: the volume's spatial shape, in voxels.
        shard: spatial shape of a shard.
        piece: what the source decodes at once; None where any box is cheap.
        voxel_bytes: bytes of a voxel with all its channels, as it is read.
    """
    if piece is None:
        return tuple(shard)
    counts = [-(-min(p, n) // s) for p, n, s in zip(piece, shape, shard, strict=True)]
    while max(counts) > 1 and math.prod(counts) * math.prod(shard) * voxel_bytes > SLAB_BYTES:
        longest = counts.index(max(counts))
        counts[longest] = -(-counts[longest] // 2)
    return tuple(c * s for c, s in zip(counts, shard, strict=True))


def _layout(source: Source, shard: tuple[int, ...] | None) -> ArraySpec:
    """Return how level 0 is stored."""
    if shard is None:
        shard = default_shard(source.shape)
    if len(shard) != len(source.shape) or min(shard) < 1:
        axes = ",".join(source.space.axes)
        raise VolumeError(f"shard {shard} for {source.name}: give one positive number for each of the axes {axes}")
    return ArraySpec(source.shape, source.channels, source.dtype, shard, inner_chunk(shard), source.space)


def _begin(out: Path) -> None:
    """Make the output's group, or accept the one that an interrupted ingest left.

    The group and its mark come into being in one step, so that a kill at any moment leaves nothing unclear.
    """
    if not out.exists() or (out.is_dir() and all(p.name.endswith(PARTIAL) for p in out.iterdir())):
        out.mkdir(parents=True, exist_ok=True)
        zarr.create_group(store=str(out), zarr_format=3, attributes=_MARK)
        sync_tree(out)
        return
    try:
        attributes = dict(zarr.open_group(store=str(out), mode="r", use_consolidated=False).attrs)
    except (OSError, ValueError, KeyError, TypeError):
        attributes = {}
    if "ome" in attributes:
        raise VolumeError(f"{out}: exists already and is finished; choose another output or remove it")
    if attributes.get("overtile") != _MARK["overtile"]:
        raise VolumeError(
            f"{out}: exists already and is no interrupted ingest; choose another output or remove it"
        )


def _pieces(source: Source, spec: ArraySpec) -> Iterator[Piece]:
    """Yield level 0's shards and how to make each one: read it, or cut it out of a slab that is read here."""
    voxel_bytes = (source.channels or 1) * source.dtype.itemsize
    slabs = Grid(spec.shape, slab_shape(spec.shape, spec.shard, source.slab, voxel_bytes))
    for slab in slabs.cores():
        cores = [core.shift(slab.start) for core in Grid(slab.shape, spec.shard).cores()]
        if len(cores) == 1:
            yield spec.stored_box(slab), partial(_stored, source, spec, slab)
            continue
        voxels = source.read(slab)
        for core in cores:
            yield spec.stored_box(core), partial(_cut, voxels, spec, core.relative_to(slab.start))


def _stored(source: Source, spec: ArraySpec, core: Box) -> npt.NDArray[Any]:
    """Return a core's voxels with the stored axes."""
    return _cut(source.read(core), spec, Box.of_shape(core.shape))


def _cut(voxels: npt.NDArray[Any], spec: ArraySpec, box: Box) -> npt.NDArray[Any]:
    """Return a box of ``(c, [z,] y, x)`` with the stored axes."""
    cut = voxels[(slice(None), *box.slices)]
    return cut[0] if spec.channels is None else cut
