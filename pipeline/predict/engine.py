"""The network in a worker process: tiles in, the core out, in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from pipeline.geometry import BlendLayout, Box, Layout, Tile
from pipeline.predict.forward import EngineSpec, Forward, Voxels
from pipeline.predict.output import OutputSpec
from pipeline.predict.stitch import Blend, Paste, Stitch


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


class Engine:
    """One network, loaded once a process. Chunks queue for it; one at a time has it."""

    def __init__(self, spec: EngineSpec, layout: Layout, output: OutputSpec, *, worker_threads: int) -> None:
        self._forward = Forward(spec, layout, output)
        self._spec = spec
        self._layout = layout
        self._output = output
        threads = spec.threads or worker_threads
        self._thread = ThreadPoolExecutor(1, "network", initializer=torch.set_num_threads, initargs=(threads,))

    def predict(self, shown: Voxels, read_box: Box, core: Box) -> Prediction:
        """Run the network over a chunk; waits while another chunk has it.

        Args:
            shown: ``(c, [z,] y, x)``, what the volume shows in ``read_box``.
            read_box: from the layout's ``read_box``, in the volume's voxels.
            core: what the chunk writes, in the volume's voxels.

        Raises:
            NonFiniteError: the network gave NaN or infinity.
        """
        asked = time.monotonic()
        return self._thread.submit(self._predict, shown, read_box, core, asked).result()

    def _predict(self, shown: Voxels, read_box: Box, core: Box, asked: float) -> Prediction:
        started = time.monotonic()
        stitch = self._stitch(core)
        for tiles in _batches(self._layout.tiles(core), self._spec.batch):
            inputs = [shown[:, *tile.input.relative_to(read_box.start).slices] for tile in tiles]
            answers = self._forward.answer(np.stack(inputs), tiles[0].core.start)
            for tile, answer in zip(tiles, answers, strict=True):
                stitch.add(tile, answer)
        voxels = self._output.stored(stitch.result())
        return Prediction(voxels, stitch.statistics(), started - asked, time.monotonic() - started)

    def _stitch(self, core: Box) -> Stitch:
        if isinstance(self._layout, BlendLayout):
            assert self._spec.weighting is not None
            return Blend(self._output, core, self._layout.weights(self._spec.weighting))
        return Paste(self._output, core)


def _batches(tiles: Iterator[Tile], size: int) -> Iterator[list[Tile]]:
    while batch := list(islice(tiles, size)):
        yield batch
