"""The coarser levels of a volume, built out of core: each unit of work is one whole shard of a coarser level.

A level's voxel joins 1 or 2 voxels of the next finer level along each axis. An axis is halved if it has more than
one voxel and its voxel size is less than twice the smallest such one: a coarse axis (z of serial sections) waits
until the others have caught up, and no axis lags behind. Voxels of 50 x 4 x 4 nm give::

    level    0     1     2     3     4      5
    z        50    50    50    50    100    200        50 < 2 * 32, so z is halved from level 4 on
    y, x     4     8     16    32    64     128
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box, Grid
from pipeline.store import Place
from pipeline.volume.absent import Absent, Bits
from pipeline.volume.create import ArraySpec, ensure_level
from pipeline.volume.node import as_place
from pipeline.volume.opening import open_volume
from pipeline.volume.shards import Piece, Tally, write_shards
from pipeline.volume.space import Space

COARSEST = 512
"""The last level is the first whose axes y and x are no longer than this, in voxels."""

BLOCK = 1 << 20
"""Voxels that are reduced at once: what is made on the way stays in the processor's cache."""

Method = Literal["mean", "mode"]

_Read = Callable[[Box], npt.NDArray[Any]]
"""Reads a box of the finer level: ``(c, [z,] y, x)``."""


@dataclass(frozen=True, slots=True)
class PyramidLevel:
    """One coarser level.

    Attributes:
        name: path of the level's array inside the image group.
        spec: how the level is stored.
        factors: voxels of the next finer level along each spatial axis that one voxel joins, 1 or 2.
    """

    name: str
    spec: ArraySpec
    factors: tuple[int, ...]


def plan_pyramid(spec: ArraySpec) -> list[PyramidLevel]:
    """Return the coarser levels of a volume whose level 0 is ``spec``; none if y and x are short already."""
    levels: list[PyramidLevel] = []
    while max(spec.shape[-2:]) > COARSEST:
        factors = _factors(spec.shape, spec.space.voxel_size)
        spec = _coarser(spec, factors)
        levels.append(PyramidLevel(str(len(levels) + 1), spec, factors))
    return levels


def reduce(voxels: npt.NDArray[Any], factors: Sequence[int], method: Method) -> npt.NDArray[Any]:
    """Join voxels: along the last axes by ``factors`` (each 1 or 2); leading axes (channels) are kept.

    A voxel at a ragged far edge joins only the voxels that exist. The dtype stays.

    Args:
        voxels: ``(..., [z,] y, x)``.
        factors: voxels to join along each of the last axes.
        method: ``"mean"`` for images and probabilities: integers are rounded, halves upwards, and never overflow;
            float16 and float32 are averaged in twice their precision. ``"mode"`` for class ids (integers or bool): the
            most frequent one, of equally frequent ones the smallest; an id that was not there never appears.

    Returns:
        ``(..., [z,] y, x)``, each of the last axes of length ``ceil(length / factor)``.
    """
    assert set(factors) <= {1, 2}, factors
    first = voxels.ndim - len(factors)
    axes = [first + i for i, f in enumerate(factors) if f == 2]
    if not axes:
        return voxels.copy()
    join = _mean if method == "mean" else _mode
    out = np.empty([-(-n // 2) if i in axes else n for i, n in enumerate(voxels.shape)], voxels.dtype)
    keep, length = (slice(None),) * axes[0], voxels.shape[axes[0]]
    rows = max(1, BLOCK * length // voxels.size // 2)
    for start in range(0, out.shape[axes[0]], rows):
        block = voxels[(*keep, slice(2 * start, 2 * (start + rows)))]
        out[(*keep, slice(start, start + rows))] = join(_even(block, axes), axes)
    return out


def build_pyramid(
    root: str | Path | Place,
    spec: ArraySpec,
    *,
    method: Method,
    threads: int,
    progress: Callable[[int, int], None] | None,
    holes: str = "error",
    made: Collection[Box] = (),
    absent: Absent | None = None,
) -> list[tuple[str, Space]]:
    """Write all coarser levels of the image group ``root`` from its level ``"0"``, which is whole.

    Idempotent: a level of the same layout from an interrupted build is written again, shard by shard, and gets the
    same bytes; nothing is removed. The levels' voxels depend on level 0 alone, not on the shards' shape.

    Args:
        root: the image group.
        spec: layout of level ``"0"``.
        method: ``"mean"`` or ``"mode"``, see :func:`reduce`.
        threads: shards built at once; each needs about two shards of memory.
        progress: told the bytes of coarser voxels written so far, and in all.
        holes: what a stored chunk that level 0 lacks means, see :meth:`Volume.read`.
        made: cores of the shards of level ``"1"`` that the caller has written itself; they are left alone.
        absent: shards that level 0 leaves out on purpose, and so those of the coarser levels that are left out; they
            read as 0, and only what has something below it is walked.

    Returns:
        Path and space of every level, the finest (``"0"``) first: what ``publish`` takes.

    Raises:
        VolumeError: an array of another layout is in a level's place.
        MissingChunkError: a stored chunk of a finer level is missing.
        InputDamageError: a stored chunk of a finer level does not decode.
        StoreError: the store does not answer.
    """
    place = as_place(root)
    levels = plan_pyramid(spec)
    tally = Tally(pyramid_bytes(spec), progress)
    finer = "0"
    for number, level in enumerate(levels, start=1):
        ensure_level(place, level.name, level.spec)
        below = open_volume(place.at(finer), absent=absent.of_level(number - 1) if absent else None)
        cores = _cores(level.spec, made, absent.of_level(number) if absent else None)
        pieces = _pieces(partial(below.read, holes=holes), level, below.shape, method, cores)
        write_shards(place.at(level.name), pieces, threads=threads, wrote=tally.add)
        if left_out := sum(each.spec.nbytes for each in levels[:number]) - tally.done:
            tally.add(left_out)
        finer, made = level.name, ()
    return [("0", spec.space), *((level.name, level.spec.space) for level in levels)]


def pyramid_bytes(spec: ArraySpec) -> int:
    """Return the bytes of all coarser voxels of a volume whose level 0 is ``spec``, uncompressed."""
    return sum(level.spec.nbytes for level in plan_pyramid(spec))


def _factors(shape: Sequence[int], voxel_size: Sequence[float]) -> tuple[int, ...]:
    """Return the factors of the next level by the rule at the top."""
    smallest = min(s for s, n in zip(voxel_size, shape, strict=True) if n > 1)
    return tuple(2 if n > 1 and s < 2 * smallest else 1 for s, n in zip(voxel_size, shape, strict=True))


def _coarser(spec: ArraySpec, factors: Sequence[int]) -> ArraySpec:
    """Return the next level's layout; its shards are smaller than the finer ones only where it is."""
    shape = tuple(-(-n // f) for n, f in zip(spec.shape, factors, strict=True))
    inner = tuple(min(c, n) for c, n in zip(spec.inner, shape, strict=True))
    shard = tuple(min(s, -(-n // c) * c) for s, n, c in zip(spec.shard, shape, inner, strict=True))
    return replace(spec, shape=shape, shard=shard, inner=inner, space=spec.space.coarser(factors))


def _cores(spec: ArraySpec, made: Collection[Box], absent: Bits | None) -> Iterator[Box]:
    """Yield the boxes of a level's shards that are neither made nor absent."""
    grid = Grid(spec.shape, spec.shard)
    walked = range(len(grid)) if absent is None else map(int, np.flatnonzero(~absent))
    return (core for core in map(grid.core, walked) if core not in made)


def _pieces(
    read: _Read, level: PyramidLevel, shape: Sequence[int], method: Method, cores: Iterable[Box]
) -> Iterator[Piece]:
    """Yield a level's shards and how to make each one."""
    for core in cores:
        yield level.spec.stored_box(core), partial(_make, read, level, shape, method, core)


def _make(read: _Read, level: PyramidLevel, shape: Sequence[int], method: Method, core: Box) -> npt.NDArray[Any]:
    """Return a shard's voxels, made part by part, so that no more than a finer shard is held beside it.

    Args:
        read: reads a box of the finer level.
        level: the level to make.
        shape: the finer level's spatial shape.
        method: how voxels are joined.
        core: the shard's box.
    """
    spec, factors = level.spec, level.factors
    whole = np.empty((spec.channels or 1, *core.shape), spec.dtype)
    half = tuple(-(-s // f) for s, f in zip(spec.shard, factors, strict=True))
    for part in Grid(core.shape, half).cores():
        coarse = part.shift(core.start)
        start = tuple(a * f for a, f in zip(coarse.start, factors, strict=True))
        stop = tuple(min(b * f, n) for b, f, n in zip(coarse.stop, factors, shape, strict=True))
        whole[(slice(None), *part.slices)] = reduce(read(Box(start, stop)), factors, method)
    return whole[0] if spec.channels is None else whole


def _even(voxels: npt.NDArray[Any], axes: Sequence[int]) -> npt.NDArray[Any]:
    """Repeat the last voxel of each axis of odd length.

    With pairs of voxels that is exact: a mean or a most frequent value is the same when everything counts twice.
    """
    for axis in axes:
        if voxels.shape[axis] % 2:
            last = np.take(voxels, [-1], axis=axis)
            voxels = np.concatenate([voxels, last], axis=axis)
    return voxels


def _mean(voxels: npt.NDArray[Any], axes: Sequence[int]) -> npt.NDArray[Any]:
    """Return the mean of each 2, 4 or 8 voxels."""
    dtype, shift = voxels.dtype, len(axes)
    if dtype.kind == "b":
        return _mean(voxels.view(np.uint8), axes).astype(dtype)
    if dtype.kind == "f":
        return np.asarray(_sum(voxels, axes, _wider(dtype)) / 2**shift, dtype)
    half = 1 << (shift - 1)
    if dtype.itemsize < 8:
        return np.asarray((_sum(voxels, axes, _wider(dtype)) + half) >> shift, dtype)
    rest = (_sum(voxels & ((1 << shift) - 1), axes, dtype) + half) >> shift
    return np.asarray(_sum(voxels >> shift, axes, dtype) + rest)


def _wider(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of twice the size, in which 8 voxels are summed without overflow; 64 bits stay."""
    return np.dtype(f"{dtype.kind}{min(8, 2 * dtype.itemsize)}")


def _sum(voxels: npt.NDArray[Any], axes: Sequence[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the sum of the voxels that are joined."""
    for axis in axes:
        keep = (slice(None),) * axis
        voxels = np.add(voxels[(*keep, slice(0, None, 2))], voxels[(*keep, slice(1, None, 2))], dtype=dtype)
    return voxels


def _mode(voxels: npt.NDArray[Any], axes: Sequence[int]) -> npt.NDArray[Any]:
    """Return the most frequent of each 2, 4 or 8 voxels by counting how many of the others equal each."""
    assert voxels.dtype.kind in "bui", voxels.dtype
    candidates = [c.copy() for c in _candidates(voxels, axes)]
    counts = [np.zeros(c.shape, np.uint8) for c in candidates]
    for i, j in itertools.combinations(range(len(candidates)), 2):
        same = (candidates[i] == candidates[j]).view(np.uint8)
        counts[i] += same
        counts[j] += same
    best, most = candidates[0], counts[0]
    for candidate, count in zip(candidates[1:], counts[1:], strict=True):
        better = (count > most) | ((count == most) & (candidate < best))
        np.copyto(best, candidate, where=better)
        np.maximum(most, count, out=most)
    return best


def _candidates(voxels: npt.NDArray[Any], axes: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    """Yield the voxels that are joined: first ones, second ones, and so on."""
    for offsets in itertools.product((0, 1), repeat=len(axes)):
        pick = [slice(None)] * voxels.ndim
        for axis, offset in zip(axes, offsets, strict=True):
            pick[axis] = slice(offset, None, 2)
        yield voxels[tuple(pick)]
