"""Where patches are drawn: at a voxel that is known, any one or one of a class, each as likely as the others.

A place is drawn in three steps: a pair, a cell by how many voxels the census found in it, one of those voxels. The
patch is then laid so that the voxel is in it, anywhere::

        volume                 cell                    patch
    +---+---+---+---+      +----------+           +------------+
    |   | 3 | 9 |   |      | .  .x    |           |       x    |     uniform over all places that hold x
    +---+---+---+---+  =>  |    . .   |   =>      |            |     and lie inside the volume; of TRIES such
    |   |   | 2 |   |      |          |           |            |     places, the one that loses the fewest voxels
    +---+---+---+---+      +----------+           +------------+     to the other side of the split
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.geometry import Box
from pipeline.training.census import Counted
from pipeline.training.targets import IGNORE, TargetRule
from pipeline.training.truth import read_ids

TRIES = 4
"""Places of a patch that are compared, where some of the volume belongs to the other side of a split."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells to draw from, each by its number of voxels.

    Attributes:
        numbers: of the cells in the grid.
        edges: running total of their voxels.
    """

    numbers: npt.NDArray[np.int64]
    edges: npt.NDArray[np.int64]

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64]) -> Cells:
        """Return the cells that have a voxel, from the voxels of all."""
        numbers = np.flatnonzero(counts)
        return cls(numbers, np.cumsum(counts[numbers]))

    @property
    def total(self) -> int:
        """Voxels of all cells."""
        return int(self.edges[-1]) if len(self.edges) else 0

    def draw(self, random: np.random.Generator) -> tuple[int, int]:
        """Return a cell, and which of its voxels is meant, counted in C order."""
        number = int(random.integers(self.total))
        place = int(np.searchsorted(self.edges, number, side="right"))
        return int(self.numbers[place]), number - int(self.edges[place - 1] if place else 0)


class Places:
    """Draws places for patches from some pairs.

    Args:
        counted: the pairs, with the census of what may be drawn.
        rule: how class ids are made of what is stored.
        patch: voxels of a patch, along the network's axes.
        balance: share of the draws that look for a class, every class as often as the others.
    """

    def __init__(
        self, counted: Sequence[Counted], rule: TargetRule, patch: tuple[int, ...], balance: float
    ) -> None:
        self._counted = counted
        self._rule = rule
        self._patch = patch
        self._balance = balance

    def draw(self, random: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """Return a pair, and the first voxel of a patch in its volume; reads at most one cell of its target.

        Raises:
            InputError: the target is not what the census counted any more.
            ChunkError, StoreError: the target cannot be read.
        """
        wanted = None
        if self._balance and random.random() < self._balance:
            wanted = self._present[int(random.integers(len(self._present)))]
        number = self._pair(random, wanted)
        return number, self._lay(number, self._voxel(number, wanted, random), random)

    @cached_property
    def _present(self) -> list[int]:
        """Classes that there are."""
        total = np.sum([each.census.classes for each in self._counted], axis=0)
        return [int(number) for number in np.flatnonzero(total)]

    @cached_property
    def _cells(self) -> list[dict[int | None, Cells]]:
        """For each pair the cells of each class, and of all together."""
        wanted = range(self._rule.ids.count) if self._balance else ()
        return [
            {None: Cells.of(each.census.counts.sum(axis=0))}
            | {number: Cells.of(each.census.counts[number]) for number in wanted}
            for each in self._counted
        ]

    @cached_property
    def _shares(self) -> dict[int | None, npt.NDArray[np.float64]]:
        """For each class, and for all together, the running total of the weights of the pairs that have it."""
        return {
            wanted: np.cumsum(
                [p.pair.weight * (c[wanted].total > 0) for p, c in zip(self._counted, self._cells, strict=True)]
            )
            for wanted in self._cells[0]
        }

    def _pair(self, random: np.random.Generator, wanted: int | None) -> int:
        """Return one of the pairs that have what is wanted, by weight."""
        shares = self._shares[wanted]
        return int(np.searchsorted(shares, random.random() * shares[-1], side="right"))

    def _voxel(self, number: int, wanted: int | None, random: np.random.Generator) -> tuple[int, ...]:
        """Return a known voxel of a pair; of a class, if one is wanted."""
        each = self._counted[number]
        cell, index = self._cells[number][wanted].draw(random)
        core = each.census.grid.core(cell)
        counts = each.census.counts[:, cell]
        counted = int(counts.sum() if wanted is None else counts[wanted])
        if counted == core.size:
            found = index
        else:
            ids = read_ids(each.pair, core, self._rule, len(self._patch))
            fits = np.flatnonzero(ids != IGNORE if wanted is None else ids == wanted)
            if len(fits) != counted:
                raise _changed(each.pair.name, core, counted, len(fits))
            found = int(fits[index])
        offset = np.unravel_index(found, core.shape)
        return tuple(a + int(o) for a, o in zip(core.start, offset, strict=True))

    def _lay(self, number: int, voxel: tuple[int, ...], random: np.random.Generator) -> tuple[int, ...]:
        """Return where a patch begins that holds a voxel."""
        pair = self._counted[number].pair
        shape = (1,) * (len(voxel) - len(self._patch)) + self._patch
        low = [max(0, v - p + 1) for v, p in zip(voxel, shape, strict=True)]
        high = [min(v, n - p) for v, n, p in zip(voxel, pair.shape, shape, strict=True)]
        avoided = pair.known.without
        starts = random.integers(low, np.add(high, 1), size=(TRIES if avoided else 1, len(shape)))
        if len(starts) == 1:
            return tuple(int(a) for a in starts[0])
        lost = [int(avoided.paint(Box.of_shape(shape).shift(start.tolist())).sum()) for start in starts]
        return tuple(int(a) for a in starts[int(np.argmin(lost))])


def _changed(name: str, core: Box, counted: int, found: int) -> InputError:
    return InputError(
        f"{name}: the target changed since the training began: of voxels {core}, {counted} were to be learnt and now"
        f" {found} are; restore it and go on, or train on what it is now, with --restart"
    )
