"""Overlapping tiles for networks that cannot be tiled exactly: one lattice over the whole volume, and blend weights.

Along one axis, with tiles that yield 8 voxels and overlap by 2 (a step of 6)::

    voxel       -2 -1 0 1 2 3 4 5 6 7 8 9 ...
    tile 0       |---------------|                  begins an overlap before voxel 0, so that the volume's
    tile 1                   |---------------|      border does not lie at a tile's
    core (one chunk's)     |ccccc|                  lies under both

Where a tile lies depends on the volume alone, never on the chunk or the region. A chunk computes every tile that
reaches into its core, with the tiles in C order; so a voxel's weighted mean is made of the same tiles in the same
order in every chunk that could hold it, and the result does not depend on how the volume is cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.geometry.box import Box
from pipeline.geometry.reach import Reach
from pipeline.geometry.tiles import Tile

Weighting = Literal["gaussian", "mean"]


@dataclass(frozen=True, slots=True)
class BlendLayout:
    """How chunks of a volume are covered by overlapping tiles of one shape.

    Attributes:
        reaches: the network's legal sizes along each spatial axis of the volume, and where its output lies.
        tile: voxels that a tile yields along each axis, all of which count.
        overlap: voxels that neighbouring tiles share along each axis; the step is ``tile - overlap``.
    """

    reaches: tuple[Reach, ...]
    tile: tuple[int, ...]
    overlap: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.reaches) == len(self.tile) == len(self.overlap), self
        for reach, tile, overlap in zip(self.reaches, self.tile, self.overlap, strict=True):
            assert 0 <= overlap < tile, self
            assert reach.is_legal(tile + reach.shrink), self

    @property
    def strides(self) -> tuple[int, ...]:
        """Lattice of the cores that tiles care for: every voxel."""
        return (1,) * len(self.tile)

    @property
    def steps(self) -> tuple[int, ...]:
        """Voxels from one tile to the next along each axis."""
        return tuple(t - o for t, o in zip(self.tile, self.overlap, strict=True))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of every network input."""
        return tuple(t + r.shrink for r, t in zip(self.reaches, self.tile, strict=True))

    @property
    def before(self) -> tuple[int, ...]:
        """Voxels of a tile's input in front of what it yields."""
        return tuple(r.offset for r in self.reaches)

    @property
    def after(self) -> tuple[int, ...]:
        """Voxels of a tile's input behind what it yields."""
        return tuple(r.shrink - r.offset for r in self.reaches)

    def along(self, axis: int) -> BlendLayout:
        """Return the layout of one axis alone."""
        return BlendLayout((self.reaches[axis],), (self.tile[axis],), (self.overlap[axis],))

    def tile_cores(self, core: Box) -> Iterator[Box]:
        """Yield what each tile that reaches into ``core`` yields, in C order.

        Law: every voxel of ``core`` lies in at least one, and in the same ones whatever the core is.
        """
        for start in product(*(self._starts(axis, a, b) for axis, (a, b) in enumerate(core))):
            yield Box(start, tuple(a + t for a, t in zip(start, self.tile, strict=True)))

    def tiles(self, core: Box) -> Iterator[Tile]:
        """Yield the tiles that reach into ``core``, in C order."""
        crop = (0,) * len(self.tile)
        for yielded in self.tile_cores(core):
            yield Tile(yielded.grow(self.before, self.after), yielded, crop)

    def count(self, core: Box) -> int:
        """Return the number of tiles that reach into ``core``."""
        total = 1
        for axis, (a, b) in enumerate(core):
            total *= len(self._starts(axis, a, b))
        return total

    def borders(self, core: Box) -> tuple[tuple[int, ...], ...]:
        """Return where, per axis, a tile begins or ends inside ``core``: there the mean is made of others."""
        found = []
        for axis, (a, b) in enumerate(core):
            starts = self._starts(axis, a, b)
            edges = {*starts, *(start + self.tile[axis] for start in starts)}
            found.append(tuple(sorted(edge for edge in edges if a < edge < b)))
        return tuple(found)

    def read_box(self, core: Box) -> Box:
        """Return the smallest box that holds every tile's input; it may reach outside the volume."""
        starts = [self._starts(axis, a, b) for axis, (a, b) in enumerate(core)]
        first = tuple(s[0] for s in starts)
        last = tuple(s[-1] + t for s, t in zip(starts, self.tile, strict=True))
        return Box(first, last).grow(self.before, self.after)

    def longest_read(self, axis: int, length: int) -> int:
        """Return the voxels that a core of ``length`` voxels reads along an axis at most, wherever it lies."""
        step = self.steps[axis]
        most = -(-(length - 1 + self.tile[axis]) // step)
        return (most - 1) * step + self.input_shape[axis]

    def usual_tiles(self, axis: int, length: int) -> float:
        """Return the tiles along an axis for a core of ``length`` voxels, in the mean over where it lies."""
        return (length - 1 + self.tile[axis]) / self.steps[axis]

    def weights(self, weighting: Weighting) -> npt.NDArray[np.float32]:
        """Return the weight of each voxel that a tile yields; the product of one curve per axis.

        ``gaussian`` falls off from the middle with a standard deviation of an eighth of the tile; ``mean`` is 1.
        """
        total = np.ones((), dtype=np.float32)
        for length in self.tile:
            total = np.multiply.outer(total, _curve(length, weighting))
        return total

    def _starts(self, axis: int, start: int, stop: int) -> range:
        """Return where the tiles that share a voxel with ``[start, stop)`` begin along an axis."""
        tile, step, lead = self.tile[axis], self.steps[axis], self.overlap[axis]
        first = (start + lead - tile) // step + 1
        last = (stop - 1 + lead) // step
        return range(first * step - lead, last * step - lead + 1, step)


def _curve(length: int, weighting: Weighting) -> npt.NDArray[np.float32]:
    if weighting == "mean":
        return np.ones(length, dtype=np.float32)
    place = (np.arange(length) + 0.5) / length - 0.5
    return np.exp(-0.5 * (8 * place) ** 2).astype(np.float32)
