"""Put tiles together into a chunk's core: pasted where they are exact, blended where they overlap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from pipeline.geometry import Box, Tile
from pipeline.predict.output import OutputSpec
from pipeline.run.seams import CHANGED, LARGEST, OVERLAPPED, SPREAD

Voxels = npt.NDArray[Any]


class Stitch(Protocol):
    """A chunk's core while its tiles come in, in the layout's order."""

    def add(self, tile: Tile, output: Voxels) -> None:
        """Take in what the network says over ``tile.core``: ``(c, [z,] y, x)``."""
        ...

    def result(self) -> Voxels:
        """Return the core as it is stored, ``(c, [z,] y, x)``."""
        ...

    def statistics(self) -> dict[str, float] | None:
        """Return what the tiles say of each other; None where they do not overlap."""
        ...


class Paste:
    """Exact tiles: each voxel is stored as its tile gives it. Takes finished values."""

    def __init__(self, output: OutputSpec, core: Box) -> None:
        self._core = core
        self._result = output.empty(core.shape)

    def add(self, tile: Tile, output: Voxels) -> None:
        """Take in finished values; where tiles share voxels, both say the same."""
        kept = tile.core.intersect(self._core)
        source = kept.relative_to(tile.core.start)
        self._result[:, *kept.relative_to(self._core.start).slices] = output[:, *source.slices]

    def result(self) -> Voxels:
        """Return the core."""
        return self._result

    def statistics(self) -> None:
        """There is nothing to compare."""


@dataclass(slots=True)
class Blend:
    """Overlapping tiles: each voxel is the weighted mean of the scores of all tiles over it. Takes scores.

    The range of the scores at a voxel is an honest measure of the seam: by so much the network contradicts itself
    when it sees the voxel in another place of its tile.

    Attributes:
        output: what is stored.
        core: what the chunk writes.
        weights: of each voxel of a tile.
    """

    output: OutputSpec
    core: Box
    weights: npt.NDArray[np.float32]
    _sum: Voxels = field(init=False)
    _weight: Voxels = field(init=False)
    _low: Voxels = field(init=False)
    _high: Voxels = field(init=False)
    _count: Voxels = field(init=False)
    _first: Voxels = field(init=False)
    _changed: Voxels = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.output.outputs, *self.core.shape)
        kind = np.float64 if self.output.dtype == "float64" else np.float32
        self._sum = np.zeros(shape, dtype=kind)
        self._weight = np.zeros(shape[1:], dtype=kind)
        self._low = np.full(shape, np.inf, dtype=kind)
        self._high = np.full(shape, -np.inf, dtype=kind)
        self._count = np.zeros(shape[1:], dtype=np.uint8)
        self._first = np.zeros(shape[1:], dtype=np.uint8)
        self._changed = np.zeros(shape[1:], dtype=bool)

    def add(self, tile: Tile, output: Voxels) -> None:
        """Take in the scores of a tile."""
        kept = tile.core.intersect(self.core)
        place = kept.relative_to(self.core.start).slices
        source = kept.relative_to(tile.core.start).slices
        scores, weights = output[:, *source], self.weights[source]
        self._sum[:, *place] += weights * scores
        self._weight[place] += weights
        np.minimum(self._low[:, *place], scores, out=self._low[:, *place])
        np.maximum(self._high[:, *place], scores, out=self._high[:, *place])
        said = self.output.class_of(scores).astype(np.uint8)
        known = self._count[place] > 0
        self._changed[place] |= known & (said != self._first[place])
        self._first[place] = np.where(known, self._first[place], said)
        self._count[place] = np.minimum(self._count[place], 254) + 1

    def result(self) -> Voxels:
        """Return the core: the mean, finished."""
        mean = torch.from_numpy(self._sum / self._weight)
        finished: Voxels = self.output.finish_scores(mean[None])[0].numpy()
        return finished.astype(self.output.dtype, copy=False)

    def statistics(self) -> dict[str, float]:
        """Return the disagreement of overlapping tiles."""
        several = self._count > 1
        spread = (self._high - self._low).max(0)[several]
        return {
            OVERLAPPED: int(several.sum()),
            SPREAD: round(float(spread.sum(dtype=np.float64)), 6),
            LARGEST: round(float(spread.max(initial=0.0)), 6),
            CHANGED: int(self._changed.sum()),
        }
