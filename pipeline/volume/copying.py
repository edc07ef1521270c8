"""Plan how a source is copied into an OME-Zarr volume: how it is stored, and in which slabs it is copied.

A slab is what is read at once and copied as one: whole shards, as many as one shard of level 1 is made from, and
whole pieces of what the file is decoded in (slices, strips) as far as memory allows::

    pieces decoded    |-----------------------------| x      parts of a slab are decoded by several threads,
    shards            |------|------|------|------|          its shards encoded and stored by several,
    level 1           |-------------|-------------|          and its shards of level 1 made from the voxels
    slab              |===========================|          that are in memory anyway
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import VolumeError
from pipeline.geometry import Grid
from pipeline.volume.create import ArraySpec, default_shard, inner_chunk
from pipeline.volume.pyramid import Method, PyramidLevel, plan_pyramid
from pipeline.volume.sources.source import Source

SLAB_BYTES = 1 << 30
"""Voxels of all slabs in flight together; where a file's pieces are larger, they are decoded several times."""

FINEST, FIRST = "0", "1"
"""Names of the level that is copied and of the one that is made of it on the way."""


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """How a source becomes stored shards.

    Attributes:
        spec: layout of the finest level.
        slab: spatial shape of a slab: the unit of work.
        first: level 1, if there is to be one.
        method: how its voxels are made.
    """

    spec: ArraySpec
    slab: tuple[int, ...]
    first: PyramidLevel | None
    method: Method

    @property
    def grid(self) -> Grid:
        """The slabs."""
        return Grid(self.spec.shape, self.slab)

    @property
    def slab_bytes(self) -> int:
        """Bytes of a slab's voxels."""
        return math.prod(self.slab) * (self.spec.channels or 1) * self.spec.dtype.itemsize

    def at_once(self, threads: int) -> int:
        """Return how many slabs may be in flight: one computing and one on its way to the disk for each thread.

        Fewer where they would take too much memory.
        """
        return max(1, min(2 * threads, SLAB_BYTES // self.slab_bytes, len(self.grid)))


def plan_copy(
    source: Source, *, shard: tuple[int, ...] | None, pyramid: bool, method: Method = "mean"
) -> CopyPlan:
    """Return how a source is stored and in which slabs it is copied; nothing is read or written.

    Args:
        source: what is copied.
        shard: voxels of a shard along each spatial axis; None for the default.
        pyramid: whether there will be coarser levels.
        method: how they are made.

    Raises:
        VolumeError: a shard of another number of axes.
    """
    spec = _layout(source, shard)
    first = next(iter(plan_pyramid(spec)), None) if pyramid else None
    voxel_bytes = (source.channels or 1) * source.dtype.itemsize
    factors = (1,) * len(spec.shape) if first is None else first.factors
    return CopyPlan(spec, slab_shape(spec.shape, spec.shard, source.slab, voxel_bytes, factors), first, method)


def slab_shape(
    shape: Sequence[int],
    shard: Sequence[int],
    piece: Sequence[int] | None,
    voxel_bytes: int,
    factors: Sequence[int],
) -> tuple[int, ...]:
    """Return the box that is copied at once: whole shards and, as far as memory allows, whole pieces.

    Args:
        shape: the volume's spatial shape, in voxels.
        shard: spatial shape of a shard.
        piece: what the source decodes at once; None where any box is cheap.
        voxel_bytes: bytes of a voxel with all its channels, as it is read.
        factors: voxels along each axis that a voxel of level 1 joins: so many shards are a slab at least.
    """
    whole = [-(-n // s) for n, s in zip(shape, shard, strict=True)]
    pieces = [1] * len(whole) if piece is None else [-(-p // s) for p, s in zip(piece, shard, strict=True)]
    counts = [min(w, -(-p // f) * f) for w, p, f in zip(whole, pieces, factors, strict=True)]
    while max(counts) > 1 and math.prod(counts) * math.prod(shard) * voxel_bytes > SLAB_BYTES // 2:
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
