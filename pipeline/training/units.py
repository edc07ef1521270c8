"""The units of a split: volumes, slices or blocks, each of which is held out as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.config.training import Split
from pipeline.errors import InputError
from pipeline.geometry import Box, Grid
from pipeline.training.census import Counted, Counts

ENOUGH = 5
"""Units that are enough to split by: one of five is held out by default."""

_SIZES = (2.0, 1.0, 0.5, 0.25)
"""Patches that a block is long, the largest that makes enough blocks."""


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """What is held out as a whole.

    Attributes:
        pair: which of the pairs it is of.
        box: of the pair's volume.
        counts: voxels of each class in it.
    """

    pair: int
    box: Box
    counts: Counts


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """All units with a labelled voxel, neighbours after each other.

    Attributes:
        by: ``volume``, ``slice`` or ``block``.
        units: at least two.
        block: voxels of a block along the network's axes; None where there are none.
        guard: voxels along each axis of the volumes that neither side uses around what is held out.
    """

    by: str
    units: list[Unit]
    block: list[int] | None
    guard: tuple[int, ...]


def find_units(counted: Sequence[Counted], split: Split, patch: Sequence[int], *, guard: int) -> Units:
    """Return the units to split by.

    ``auto`` takes volumes where five have labels, else slices where a flat network has five, else blocks. Where no
    size is given, blocks are two patches long, or as much shorter as it takes to have five of them. Edges of blocks
    are those of the census's cells; those of a flat network in a stack reach through all slices.

    Args:
        counted: the pairs, with their census.
        split: the settings; not ``none``.
        patch: voxels of a patch along the network's axes.
        guard: what the network sees, in voxels, where the settings say no guard.

    Raises:
        InputError: there is only one unit.
    """
    ndim, dims = len(counted[0].pair.shape), len(patch)
    width = guard if split.guard is None else split.guard
    if split.by in ("auto", "volume"):
        units = [Unit(i, each.pair.known.box, each.census.classes) for i, each in enumerate(counted)]
        if split.by == "volume" or len(units) >= ENOUGH:
            return _checked(Units("volume", units, None, (0,) * ndim))
    if split.by == "slice" and ndim < 3:
        raise InputError("split by slice: the images have no z axis; split by volume or by block")
    if split.by == "slice" or (split.by == "auto" and dims < ndim):
        along = 0 if dims < ndim and split.guard is None else width
        found = Units("slice", list(_slices(counted)), None, (along, *(0,) * (ndim - 1)))
        if split.by == "slice" or len(found.units) >= ENOUGH:
            return _checked(found)
    if split.block is not None and len(split.block) != dims:
        raise InputError(f"split.block {split.block} has not the {dims} axes of the network")
    sizes = [split.block] if split.block is not None else [[max(1, int(p * s)) for p in patch] for s in _SIZES]
    for size in sizes:
        block = [-(-b // c) * c for b, c in zip(size, counted[0].census.grid.chunk[ndim - dims :], strict=True)]
        found = Units("block", list(_blocks(counted, block)), block, (*(0,) * (ndim - dims), *(width,) * dims))
        if len(found.units) >= ENOUGH:
            break
    return _checked(found)


def _checked(found: Units) -> Units:
    found = Units(found.by, [unit for unit in found.units if unit.counts.any()], found.block, found.guard)
    if len(found.units) < 2:
        raise InputError(
            f"split by {found.by}: there is only {len(found.units)} {found.by} with labels, so one side would be empty;"
            " split by block, give `validation` pairs, or set `split: none`"
        )
    return found


def _slices(counted: Sequence[Counted]) -> Iterator[Unit]:
    """Yield the slices of all pairs, in order; thick ones where the census's cells are."""
    for i, each in enumerate(counted):
        for start in range(0, each.pair.shape[0], each.census.grid.chunk[0]):
            stop = min(start + each.census.grid.chunk[0], each.pair.shape[0])
            box = Box((start, *(0,) * (len(each.pair.shape) - 1)), (stop, *each.pair.shape[1:]))
            counts = each.census.inside(box)
            if counts.any():
                yield Unit(i, box, counts)


def _blocks(counted: Sequence[Counted], block: Sequence[int]) -> Iterator[Unit]:
    """Yield the blocks of all pairs along a winding way, on which neighbours follow each other."""
    for i, each in enumerate(counted):
        shape, cell = each.pair.shape, each.census.grid.chunk
        lead = len(shape) - len(block)
        # A volume that is shorter than a cell has a cell of its own length, which is that of its one block.
        lengths = [-(-b // c) * c for b, c in zip(block, cell[lead:], strict=True)]
        grid = Grid(shape, (*shape[:lead], *lengths))
        for position in _winding(grid.counts):
            box = grid.core(grid.number(position))
            counts = each.census.inside(box)
            if counts.any():
                yield Unit(i, box, counts)


def _winding(counts: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield all positions so that each is next to the one before it."""
    if not counts:
        yield ()
        return
    for first in range(counts[0]):
        rest = list(_winding(counts[1:]))
        for position in reversed(rest) if first % 2 else rest:
            yield (first, *position)
