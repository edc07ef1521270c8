"""The tiles of what is held out: they cover every region, and each voxel of it is known in exactly one tile."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.geometry import Box, Grid
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.pairs import OpenPair, check_finite
from pipeline.training.patches import Patch, PatchLayout
from pipeline.training.targets import TargetRule
from pipeline.training.truth import read_ids

EDGE = {2: 256, 3: 64}
"""Voxels of a tile along an axis, about, by the number of the network's axes."""


def tile_layout(architecture: UNetArchitecture, pairs: Sequence[OpenPair]) -> PatchLayout:
    """Return the tiles for some pairs: no longer than the longest that is held out, multiples of the stride."""
    dims, stride = architecture.dims, architecture.reach().stride
    longest = [
        max((box.shape[axis] for pair in pairs for box in pair.known.regions()), default=1)
        for axis in range(-dims, 0)
    ]
    tile = [math.ceil(min(EDGE[dims], length) / stride) * stride for length in longest]
    return PatchLayout.exact(architecture, tile)


class RegionTiles:
    """Tiles over all that may be used of some pairs, by number.

    Tiles lie on one grid over each volume, so that they begin on the network's lattice; what of a tile lies outside of
    the regions or of the volume is not known.

    Args:
        pairs: what is held out, and nothing else of it is known.
        layout: of the tiles, exact.
        rule: how class ids are made of what is stored.
    """

    def __init__(self, pairs: Sequence[OpenPair], layout: PatchLayout, rule: TargetRule) -> None:
        self.layout = layout
        self._pairs = pairs
        self._rule = rule
        self._places: list[tuple[int, tuple[int, ...]]] = []
        for number, pair in enumerate(pairs):
            grid = Grid(pair.shape, self._shape(pair))
            met = {position for box in pair.known.regions() for position in grid.overlapping(box)}
            cores = (grid.core(grid.number(position)) for position in sorted(met))
            self._places += [(number, core.start) for core in cores if pair.known.meets(core)]

    def __len__(self) -> int:
        return len(self._places)

    def recut(self, layout: PatchLayout) -> RegionTiles:
        """Return other tiles over the same regions."""
        return RegionTiles(self._pairs, layout, self._rule)

    def where(self, index: int) -> tuple[int, Box]:
        """Return which pair a tile is of, and its box in the pair's volume; it may reach outside."""
        number, start = self._places[index]
        return number, Box.of_shape(self._shape(self._pairs[number])).shift(start)

    def __getitem__(self, index: int) -> Patch:
        """Read a tile. Errors as :meth:`pipeline.training.patches.PatchStream.read`."""
        number, box = self.where(index)
        pair, layout = self._pairs[number], self.layout
        dims = len(layout.patch)
        lead = (0,) * (box.ndim - dims)
        seen = box.grow((*lead, *layout.before), (*lead, *layout.after))
        image = pair.image.shown(seen)
        check_finite(pair.name, image, seen)
        target = read_ids(pair, box, self._rule, dims)
        return Patch(image[:, 0], target[0]) if lead else Patch(image, target)

    def _shape(self, pair: OpenPair) -> tuple[int, ...]:
        """Shape of a tile along the axes of the pair's volume: one slice of a stack for a 2-D network."""
        return (1,) * (len(pair.shape) - len(self.layout.patch)) + self.layout.patch
