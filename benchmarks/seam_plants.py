"""Runs with a seam planted in them, on the product's own path: only what the network is shown of a tile is wrong.

A plant is what a mistake of the planner or the reader would do: too little of the image around a tile, a tile off the
network's stride, a chunk normalised by its own voxels. Plan, engine, stitching, writing, ledger, verification and seal
are those of every run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import SegmentJob
from pipeline.geometry import Box, Tile, TileLayout
from pipeline.jobs.listener import Silent
from pipeline.jobs.planning import plan
from pipeline.jobs.segmentation import Segmentation
from pipeline.model.checkpoint import Normalisation, read_header
from pipeline.predict.engine import Engine, Prediction
from pipeline.predict.plan import Plan
from pipeline.predict.work import SegmentProcessor, SegmentWork
from pipeline.run.inline import Inline
from pipeline.run.status import status

Voxels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Plant:
    """What is wrong with a run.

    Attributes:
        name: for people.
        short: voxels that the halo lacks: mirrored ones stand in for the outermost real ones.
        own: each chunk is normalised by the mean and deviation of what it is shown.
        phase: the plan is made as if the network's stride were this; None for the true one.
    """

    name: str
    short: int = 0
    own: bool = False
    phase: int | None = None


EXACT = Plant("nothing")

PLANTS = (
    *(Plant(f"halo {-n} voxels", short=n) for n in (1, 4, 16, 32)),
    Plant("no halo", short=1 << 20),
    Plant("normalised by chunk", own=True),
    Plant("tiles off the stride", phase=4),
)
"""A halo is at most as short as there is one."""


def carry_out(job: SegmentJob, plant: Plant = EXACT) -> dict[str, Any]:
    """Segment in this process, through every phase of a run, and return its status."""
    made = plan(job)
    if plant.phase is not None:
        made = off_the_stride(made, plant.phase)
    run = Segmentation(made, Silent())
    with run.opened():
        run.make_mask()
        processor = PlantedProcessor(run.work(), plant)
        Inline(processor, run.ledger, at_once=2).process()
        run.check_complete()
        found = run.verify()
        run.build_pyramid()
        run.seal(found)
        run.publish()
    return status(job.output)


def off_the_stride(made: Plan, stride: int) -> Plan:
    """Return a plan that takes a network's stride for a smaller one, so that every other tile begins between two.

    The inputs keep a length that the network takes.
    """
    reaches, tile = [], []
    for reach, length in zip(made.layout.reaches, made.layout.tile, strict=True):
        if reach.stride <= stride:
            reaches.append(reach)
            tile.append(length)
            continue
        wrong, shorter = replace(reach, stride=stride), length - stride
        lacking = -(wrong.before + shorter + wrong.halo[1] - reach.minimum) % reach.stride
        reaches.append(replace(wrong, halo=(wrong.halo[0], wrong.halo[1] + lacking)))
        tile.append(shorter)
    return replace(made, layout=TileLayout(tuple(reaches), tuple(tile)))


class PlantedProcessor(SegmentProcessor):
    """A worker's processor whose network is shown something else."""

    def __init__(self, work: SegmentWork, plant: Plant) -> None:
        self._plant = plant
        super().__init__(work, 1)

    def load(self, worker_threads: int) -> Engine:
        """Load the network with the plant."""
        work = self._work
        return PlantedEngine(self._plant, work, worker_threads)


class PlantedEngine(Engine):
    """An engine that is shown something else."""

    def __init__(self, plant: Plant, work: SegmentWork, worker_threads: int) -> None:
        super().__init__(work.engine, work.layout, work.output, worker_threads=worker_threads)
        self._plant = plant
        self._reaches = work.layout.reaches
        self._normalisation = read_header(Path(work.engine.model)).normalisation

    def predict(self, shown: Voxels, read_box: Box, core: Box, *, lean: bool = False) -> Prediction:
        """Run the network over a chunk, normalised by itself if that is the plant."""
        shown = by_itself(shown, self._normalisation) if self._plant.own else shown
        return super().predict(shown, read_box, core, lean=lean)

    def seen(self, tile: Tile, shown: Voxels, read_box: Box) -> Voxels:
        """Return what the network sees of a tile, with too short a halo if that is the plant."""
        found = super().seen(tile, shown, read_box)
        if not self._plant.short:
            return found
        for axis, reach in enumerate(self._reaches):
            left, right = (max(0, side - self._plant.short) for side in reach.halo)
            first = max(0, tile.core.start[axis] - tile.input.start[axis] - left)
            stop = min(found.shape[1 + axis], tile.core.stop[axis] - tile.input.start[axis] + right)
            found = found.take(mirrored_beyond(found.shape[1 + axis], first, stop), axis=1 + axis)
        return found


def mirrored_beyond(length: int, first: int, stop: int) -> npt.NDArray[np.intp]:
    """Return which voxels of ``[first, stop)`` stand for ``length`` ones: those beyond are mirrored at its ends."""
    period = max(1, 2 * (stop - first - 1))
    place = (np.arange(length) - first) % period
    return first + np.minimum(place, period - place)


def by_itself(shown: Voxels, wanted: Normalisation) -> Voxels:
    """Return voxels ``(c, ...)`` of which each channel has the mean and deviation that a whole image should have."""
    column = (-1,) + (1,) * (shown.ndim - 1)
    mean, deviation = (np.reshape(values, column) for values in (wanted.mean, wanted.std))
    values, axes = shown.astype(np.float64), tuple(range(1, shown.ndim))
    own = np.maximum(values.std(axis=axes, keepdims=True), 1e-6)
    found = (values - values.mean(axis=axes, keepdims=True)) / own * deviation + mean
    return found.astype(np.float32)
