"""Choose the tile and the chunk: the least work that fits the memory limit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipeline.geometry import Grid, Layout, Reach
from pipeline.model.network import Network

LARGEST_TILE = {2: 1408, 3: 512}
"""Voxels of a tile along an axis at most, by the network's dimensions: beyond, speed no longer grows in 2-D."""

WORTH = 1.03
"""A tile that needs more memory must save at least this factor of work."""


def candidate_tiles(chunk: Sequence[int], reaches: Sequence[Reach], dims: int) -> Iterator[tuple[int, ...]]:
    """Yield tile shapes on the stride's lattice that divide a chunk nearly evenly, largest first.

    Axes that the network does not look along (a stack's z for a 2-D network) have tiles of one voxel.
    """
    seen = set()
    flat = len(chunk) - dims
    strides = [r.stride for r in reaches[flat:]]
    aligned = [-(-c // s) * s for c, s in zip(chunk[flat:], strides, strict=True)]
    stride = max(strides)
    largest = min(max(aligned), LARGEST_TILE[dims])
    for edge in range(-(-largest // stride) * stride, 0, -stride):
        lengths = [_even(n, min(edge, n), s) for n, s in zip(aligned, strides, strict=True)]
        tile = (1,) * flat + tuple(lengths)
        if tile not in seen:
            seen.add(tile)
            yield tile


def _even(length: int, edge: int, stride: int) -> int:
    """Return the smallest multiple of ``stride`` that covers ``length`` in as many steps as ``edge`` does."""
    steps = -(-length // edge)
    return -(-length // (steps * stride)) * stride


def work_of(architecture: Network, layout: Layout, grid: Grid) -> int:
    """Return the operations that the network spends on all chunks, if the first one lies on the lattice.

    The last chunk of an axis counts as what it is: a thin one needs a whole tile.
    """
    count = 1.0
    for axis, (n, c) in enumerate(zip(grid.shape, grid.chunk, strict=True)):
        whole, rest = divmod(n, c)
        count *= whole * layout.usual_tiles(axis, c) + (layout.usual_tiles(axis, rest) if rest else 0)
    return int(count * architecture.operations(layout.input_shape[-architecture.dims :]))


def default_batch(layout: Layout, dims: int) -> int:
    """Return how many tiles to give the network at a time: several where they are small."""
    voxels = math.prod(layout.input_shape[-dims:])
    return max(1, min(8, (512 * 512) // voxels))
