"""How many voxels of each class every part of a target has: counted once, in one pass, cell by cell.

Everything rests on it: that there is something to learn, splits that hold every class, draws that look for a class,
the shares by which classes are weighed. It takes the memory of a few numbers a cell, and of the part in hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.geometry import Box, Grid
from pipeline.training.areas import Area
from pipeline.training.pairs import CELL, OpenPair
from pipeline.training.targets import TargetRule
from pipeline.training.truth import read_ids

Counts = npt.NDArray[np.int64]

SIDE = {2: 64, 3: 32}
"""Voxels along an axis of a cell at most, by the number of the network's axes, unless there would be too many cells."""

_NOTHING, _PART, _ALL = 0, 1, 2

MOST_CELLS = 1 << 20
"""Cells of a volume: as many numbers a class are kept in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Census:
    """The voxels of each class in each cell of a volume.

    Attributes:
        grid: the cells.
        counts: ``(classes, cells)``, cells by their number in the grid.
    """

    grid: Grid
    counts: Counts

    @property
    def classes(self) -> Counts:
        """Voxels of each class."""
        found: Counts = self.counts.sum(axis=1)
        return found

    @property
    def labelled(self) -> int:
        """Voxels whose class is known."""
        return int(self.counts.sum())

    def inside(self, box: Box) -> Counts:
        """Return the voxels of each class in a box whose edges are edges of cells (or ends of the volume)."""
        counts = self.counts.reshape(-1, *self.grid.counts)
        cells = tuple(slice(a // c, -(-b // c)) for (a, b), c in zip(box, self.grid.chunk, strict=True))
        found: Counts = counts[:, *cells].sum(axis=tuple(range(1, counts.ndim)))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """A pair, and what its target holds of what may be used.

    Attributes:
        pair: with the area that the census is of.
        census: its counts.
    """

    pair: OpenPair
    census: Census


def cell_grid(shape: tuple[int, ...], patch: Sequence[int]) -> Grid:
    """Return the cells of a volume: half a patch long at most, and single slices of a stack for a flat network."""
    dims = len(patch)
    cell = [1] * (len(shape) - dims) + [max(1, min(SIDE[dims], p // 2)) for p in patch]
    while math.prod(-(-n // c) for n, c in zip(shape, cell, strict=True)) > MOST_CELLS:
        cell = cell[: len(shape) - dims] + [2 * c for c in cell[len(shape) - dims :]]
    return Grid(shape, tuple(min(c, n) for c, n in zip(cell, shape, strict=True)))


def take_census(
    pairs: Sequence[OpenPair], rule: TargetRule, patch: Sequence[int], *, threads: int = 1
) -> list[Counted]:
    """Count the classes of every target: of all that is labelled, and nothing else of it is read.

    Args:
        pairs: open.
        rule: how class ids are made of what is stored.
        patch: voxels of a patch, along the network's axes.
        threads: that read.

    Raises:
        InputError: a value that is labelled is no class id; the pair is named.
        ChunkError, StoreError: a target cannot be read.
    """
    found = []
    for pair in pairs:
        grid, classes, dims = cell_grid(pair.shape, patch), rule.ids.count, len(patch)
        counts = np.zeros((classes, len(grid)), np.int64)

        def count(box: Box, pair: OpenPair = pair, grid: Grid = grid, dims: int = dims) -> Iterator[_Part]:
            return _parts(read_ids(pair, box, rule, dims), box, grid, rule.ids.count)

        with ThreadPoolExecutor(threads, "census") as pool:
            for parts in pool.map(count, _boxes(pair, grid)):
                for cells, values in parts:
                    counts[:, cells] += values
        found.append(Counted(pair, Census(grid, counts)))
    return found


def recount(counted: Counted, pair: OpenPair, rule: TargetRule, dims: int) -> Counted:
    """Return the census of a smaller area of a pair: only cells that it cuts are read again.

    Args:
        counted: the pair with a larger area.
        pair: the same with the smaller one.
        rule: how class ids are made of what is stored.
        dims: axes of the network.
    """
    grid = counted.census.grid
    used = _used(grid, pair.known).ravel()
    counts = np.where(used == _ALL, counted.census.counts, 0)
    for number in np.flatnonzero((used == _PART) & counted.census.counts.any(axis=0)):
        ids = read_ids(pair, grid.core(int(number)), rule, dims)
        counts[:, number] = [np.count_nonzero(ids == c) for c in range(len(counts))]
    return Counted(pair, Census(grid, counts))


def _used(grid: Grid, area: Area) -> npt.NDArray[np.int8]:
    """Return how much of each cell one side of a split may use, as far as it is labelled: nothing, a part, or all."""
    used = np.full(grid.counts, _ALL if area.kept is None else _NOTHING, np.int8)
    for box in () if area.kept is None else area.kept.boxes:
        touched, whole = _cells(box.intersect(area.box), grid)
        used[touched] = np.maximum(used[touched], _PART)
        used[whole] = _ALL
    for box in area.without.meeting(area.box):
        touched, whole = _cells(box, grid)
        used[touched] = np.minimum(used[touched], _PART)
        used[whole] = _NOTHING
    return used


def _cells(box: Box, grid: Grid) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the positions of the cells that a box inside the volume touches, and of those that it holds whole."""
    sides = list(zip(box, grid.chunk, grid.shape, strict=True))
    touched = tuple(slice(a // c, -(-b // c)) for (a, b), c, _ in sides)
    whole = tuple(slice(-(-a // c), max(-(-a // c), -(-b // c) if b == n else b // c)) for (a, b), c, n in sides)
    return touched, whole


def check_census(counted: Sequence[Counted], classes: Sequence[str], note: Callable[[str], None]) -> None:
    """Refuse targets from which nothing can be learnt.

    Args:
        counted: all pairs.
        classes: names of the class ids.
        note: told of classes that are nowhere.

    Raises:
        InputError: a target without a labelled voxel; nothing but one class everywhere.
    """
    for each in counted:
        if not each.census.labelled:
            raise InputError(
                f"{each.pair.name}: no voxel of the target is labelled: all are ignored, or lie outside of `boxes` and"
                " `within`; correct them, or leave the pair out"
            )
    total = np.sum([each.census.classes for each in counted], axis=0)
    present = [name for name, count in zip(classes, total, strict=True) if count]
    if len(present) < 2:
        raise InputError(
            f"the targets hold nothing but {present[0]!r} in all {int(total.sum())} labelled voxels, so there is"
            f" nothing to tell apart; label the other classes ({', '.join(c for c in classes if c not in present)})"
        )
    for name in classes:
        if name not in present:
            note(f"class {name!r} is nowhere in the targets: the network cannot learn it")


_Part = tuple[npt.NDArray[np.intp], Counts]


def _boxes(pair: OpenPair, grid: Grid) -> Iterator[Box]:
    """Yield disjoint boxes that hold all that is known, each of several cells, none too large for memory."""
    longest = CELL[len(grid.shape)]
    blocks = [max(1, longest // c) * c for c in grid.chunk]
    if grid.chunk[0] == 1:  # slices of a stack, which are large already
        blocks[0] = min(pair.target.volume.pieces[0], max(1, CELL[3] // 16))
    parts = Grid(grid.shape, tuple(min(b, n) for b, n in zip(blocks, grid.shape, strict=True)))
    for core in parts.cores():
        yield from pair.known.regions(core)


def _parts(ids: npt.NDArray[np.int64], box: Box, grid: Grid, classes: int) -> Iterator[_Part]:
    """Yield numbers of cells, and the voxels of each class that a box has in them."""
    edges = [np.unique([a, *range(-(-a // c) * c, b, c)]) - a for (a, b), c in zip(box, grid.chunk, strict=True)]
    first = [(a + e) // c for (a, _), e, c in zip(box, edges, grid.chunk, strict=True)]
    cells = np.ravel_multi_index(np.meshgrid(*first, indexing="ij"), grid.counts).ravel()
    values = np.stack([_sums(ids == number, edges).ravel() for number in range(classes)])
    yield cells, values


def _sums(bits: npt.NDArray[np.bool_], edges: Sequence[npt.NDArray[np.intp]]) -> Counts:
    """Return how many voxels are set between edges."""
    found = bits.astype(np.int64)
    for axis in reversed(range(bits.ndim)):
        found = np.add.reduceat(found, edges[axis], axis=axis)
    return found


def with_area(pair: OpenPair, *, kept: Sequence[Box] | None = None, without: Sequence[Box] = ()) -> OpenPair:
    """Return a pair of which only a part may be used."""
    area = pair.known if kept is None else pair.known.only(kept)
    return replace(pair, area=area.less(without))
