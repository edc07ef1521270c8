"""The network in a worker process: tiles in, the core out, in a thread of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch

from pipeline.geometry import BlendLayout, Box, Layout, Tile, TileLayout
from pipeline.predict.forward import EngineSpec, Forward, Voxels
from pipeline.predict.output import OutputSpec
from pipeline.predict.stitch import Blend, Paste, Stitch

LEAN = 4
"""A lean tile has this many times fewer voxels, or as near as the network's stride allows."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network says of a chunk.

    Attributes:
        voxels: the core as it is stored, ``(c, [z,] y, x)``, or ``([z,] y, x)`` for class ids.
        statistics: how overlapping tiles disagree; None where they are exact.
        waited: seconds until the network was free.
        computed: seconds that it took.
    """

    voxels: Voxels
    statistics: dict[str, float] | None
    waited: float
    computed: float


@dataclass(frozen=True, slots=True)
class Way:
    """One way of taking a chunk through the network.

    Attributes:
        forward: the network.
        layout: its tiles.
        batch: tiles at a time.
    """

    forward: Forward
    layout: Layout
    batch: int


class Engine:
    """One network, loaded once a process. Chunks queue for it; one at a time has it."""

    def __init__(self, spec: EngineSpec, layout: Layout, output: OutputSpec, *, worker_threads: int) -> None:
        self._spec = spec
        self._layout = layout
        self._output = output
        self._usual = Way(Forward(spec, layout, output), layout, spec.batch)
        threads = spec.threads or worker_threads
        self._thread = ThreadPoolExecutor(1, "network", initializer=torch.set_num_threads, initargs=(threads,))

    def predict(self, shown: Voxels, read_box: Box, core: Box, *, lean: bool = False) -> Prediction:
        """Run the network over a chunk; waits while another chunk has it.

        Args:
            shown: ``(c, [z,] y, x)``, what the volume shows in ``read_box``.
            read_box: from the layout's ``read_box``, in the volume's voxels.
            core: what the chunk writes, in the volume's voxels.
            lean: use as little memory as the same bytes can be had with.

        Raises:
            NonFiniteError: the network gave NaN or infinity.
        """
        asked = time.monotonic()
        return self._thread.submit(self._predict, shown, read_box, core, asked, lean).result()

    def _predict(self, shown: Voxels, read_box: Box, core: Box, asked: float, lean: bool) -> Prediction:
        started = time.monotonic()
        way = self.lean if lean else self._usual
        if lean and self._spec.device == "cuda":
            torch.cuda.empty_cache()
        stitch = self._stitch(core)
        for tiles in _batches(way.layout.tiles(core), way.batch):
            inputs = [self.seen(tile, shown, read_box) for tile in tiles]
            answers = way.forward.answer(np.stack(inputs), tiles[0].core.start)
            for tile, answer in zip(tiles, answers, strict=True):
                stitch.add(tile, answer)
        voxels = self._output.stored(stitch.result())
        return Prediction(voxels, stitch.statistics(), started - asked, time.monotonic() - started)

    def seen(self, tile: Tile, shown: Voxels, read_box: Box) -> Voxels:
        """Return what the network sees of a tile, ``(c, [z,] y, x)``, of what a chunk is shown."""
        found: Voxels = shown[:, *tile.input.relative_to(read_box.start).slices]
        return found

    @cached_property
    def lean(self) -> Way:
        """The way that needs least memory and gives the same bytes; the network is not loaded again for it."""
        layout = lean_layout(self._layout) if _same_in_any_tile(self._spec) else self._layout
        return Way(self._usual.forward.tiled(layout), layout, 1)

    def _stitch(self, core: Box) -> Stitch:
        if isinstance(self._layout, BlendLayout):
            assert self._spec.weighting is not None
            return Blend(self._output, core, self._layout.weights(self._spec.weighting))
        return Paste(self._output, core)


def _batches(tiles: Iterator[Tile], size: int) -> Iterator[list[Tile]]:
    while batch := list(islice(tiles, size)):
        yield batch


def _same_in_any_tile(spec: EngineSpec) -> bool:
    """Whether tiles of any size give the same bits, which the arithmetic promises of these."""
    return spec.device == "cpu" and spec.precision in ("float32", "float64") and spec.weighting is None


def lean_layout(layout: Layout) -> Layout:
    """Return exact tiles of about a quarter of the voxels, the longest axes halved first; others as they are.

    Law: their inputs lie in what the given tiles read of a core.
    """
    if not isinstance(layout, TileLayout):
        return layout
    found, wanted = layout, math.prod(layout.tile) // LEAN
    while math.prod(found.tile) > wanted:
        halved = (
            _halved(layout, found, axis) for axis in sorted(range(len(found.tile)), key=lambda a: -found.tile[a])
        )
        smaller = next(filter(None, halved), None)
        if smaller is None:
            break
        found = smaller
    return found


def _halved(layout: TileLayout, found: TileLayout, axis: int) -> TileLayout | None:
    """Return tiles half as long along an axis; None if there are none, or they read further than the layout's."""
    stride, tile = found.strides[axis], list(found.tile)
    tile[axis] = -(-tile[axis] // (2 * stride)) * stride
    smaller = TileLayout(found.reaches, tuple(tile))
    shorter = tile[axis] < found.tile[axis]
    return smaller if shorter and smaller.after[axis] <= layout.after[axis] else None
