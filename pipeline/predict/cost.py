"""What a plan will cost: bytes, operations, memory and a rough time, by formula and before any work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.geometry import BlendLayout, Grid, Layout, visible_box
from pipeline.model.network import Network
from pipeline.predict.output import OutputSpec
from pipeline.predict.tiling import Tiling
from pipeline.volume.image import Image

ITEMSIZE = {"float32": 4, "bfloat16": 2, "float64": 8}

BASE_MEMORY = {"cpu": 395 << 20, "cuda": 1400 << 20}
"""Resident memory of a worker process that has imported everything and opened its volumes, in bytes."""

ALLOCATED = {2: 1.75, 3: 1.7}
"""Bytes that the process takes for a byte of activations, by the network's dimensions: what the allocator keeps and
what convolutions reorder. Measured by benchmarks/memory.py."""

GIGAFLOPS = {"float32": 60.0, "bfloat16": 110.0, "float64": 12.0}
"""Nominal rate of one core, in 10^9 operations a second; a first guess, right to about a factor of two."""

GPU_GIGAFLOPS = {"float32": 15_000.0, "bfloat16": 60_000.0, "float64": 5_000.0}


@dataclass(frozen=True, slots=True)
class Memory:
    """Predicted peak resident memory of a worker, in bytes, by what needs it.

    Attributes:
        base: the process itself.
        weights: the network's parameters.
        network: activations of one batch of tiles.
        windows: what is read and written, for all chunks that a worker has in hand.
    """

    base: int
    weights: int
    network: int
    windows: int

    @property
    def peak(self) -> int:
        """Their sum."""
        return self.base + self.weights + self.network + self.windows


def network_memory(architecture: Network, layout: Layout, *, precision: str, batch: int) -> int:
    """Return the bytes that a forward pass over one batch of tiles takes, its input and output included."""
    shape = layout.input_shape[-architecture.dims :]
    size = ITEMSIZE[precision]
    elements = architecture.peak_elements(shape) * size
    if precision == "float64":  # convolutions in float64 unfold their input
        elements *= 4
    voxels = math.prod(shape)
    raw = voxels * architecture.in_channels * (4 + size)
    finished = voxels * (architecture.classes * max(4, size) + 8)
    return int(batch * (elements + raw + finished) * ALLOCATED[architecture.dims])


def window_memory(read_voxels: int, core_voxels: int, *, input_bytes: int, output_bytes: int, in_hand: int) -> int:
    """Return the bytes of what a worker's chunks hold outside the network.

    Args:
        read_voxels: voxels of the largest read box.
        core_voxels: voxels of a chunk.
        input_bytes: bytes of an input voxel, all channels.
        output_bytes: bytes of a stored voxel, all channels.
        in_hand: chunks that a worker has in hand at once.
    """
    # What is written is held thrice while it is encoded; one chunk of those in hand is still in the network.
    held = 3 * in_hand - 2
    return in_hand * read_voxels * input_bytes * 2 + held * core_voxels * output_bytes


def averaging_memory(output: OutputSpec, layout: Layout, tiling: Tiling, *, core: int, batch: int) -> int:
    """Return the bytes that averaging takes: over turns, a batch of scores twice; blending, what a core collects.

    Args:
        output: what is stored.
        layout: the tiles.
        tiling: how they become the whole.
        core: voxels of a chunk.
        batch: network inputs at a time.
    """
    size = 8 if output.dtype == "float64" else 4
    total = 0
    if len(tiling.turns) > 1:
        total += 2 * batch * math.prod(layout.input_shape) * output.outputs * size
    if isinstance(layout, BlendLayout):  # sums, lowest and highest scores, and the mean; weights, counts, classes
        total += core * ((5 * output.outputs + 1) * size + 3) + 3 * math.prod(layout.tile) * output.outputs * size
    return total


def read_voxels(grid: Grid, layout: Layout, origin: Sequence[int], shape: tuple[int, ...]) -> int:
    """Return the voxels that all chunks together read from a volume of ``shape``.

    A chunk's read box along an axis depends on that axis alone, so the sum over all chunks is a product of sums.
    """
    total = 1
    for axis, (n, c) in enumerate(zip(grid.shape, grid.chunk, strict=True)):
        one = layout.along(axis)
        boxes = (one.read_box(core.shift((origin[axis],))) for core in Grid((n,), (c,)).cores())
        total *= sum(visible_box(box, (shape[axis],)).size for box in boxes)
    return total


def decoded_voxels(grid: Grid, layout: Layout, origin: Sequence[int], image: Image) -> int:
    """Return the stored voxels that are decoded for all chunks together: whole strips, tiles or slices of files."""
    total = 1
    for axis, (n, c) in enumerate(zip(grid.shape, grid.chunk, strict=True)):
        one = layout.along(axis)
        boxes = (one.read_box(core.shift((origin[axis],))) for core in Grid((n,), (c,)).cores())
        ranges = (visible_box(box, (image.shape[axis],)) for box in boxes)
        total *= sum(image.decoded_along(axis, box.start[0], box.stop[0]) for box in ranges)
    return total


def largest_read(grid: Grid, layout: Layout) -> int:
    """Return the voxels of the largest box that one chunk shows to the network."""
    return math.prod(largest_shape(grid, layout))


def largest_shape(grid: Grid, layout: Layout) -> tuple[int, ...]:
    """Return the shape of the largest box that one chunk shows to the network."""
    return tuple(
        layout.longest_read(axis, min(chunk, length))
        for axis, (chunk, length) in enumerate(zip(grid.chunk, grid.shape, strict=True))
    )


def tile_count(grid: Grid, layout: Layout, origin: Sequence[int]) -> int:
    """Return the network inputs of all chunks together."""
    total = 1
    for axis, (n, c) in enumerate(zip(grid.shape, grid.chunk, strict=True)):
        one = layout.along(axis)
        total *= sum(one.count(core.shift((origin[axis],))) for core in Grid((n,), (c,)).cores())
    return total
