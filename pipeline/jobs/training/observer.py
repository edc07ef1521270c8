"""What happens beside the steps of a training: measuring, pictures, states, and word of all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.jobs.listener import Listener
from pipeline.jobs.training.lesson import Lesson
from pipeline.jobs.training.prepared import Prepared
from pipeline.model.unet import UNet
from pipeline.training.learner import Point
from pipeline.training.pictures import ROWS, draw, keep
from pipeline.training.resume import State, TrainingFolder
from pipeline.training.validation import SAMPLED, Measured, Seen, measure


class Onlooker:
    """The observer of a process that is not the first: it says, measures and stores nothing."""

    def measure(self, model: UNet) -> dict[str, Any] | None:
        """Measure nothing."""

    def progress(self, step: int) -> None:
        """Do nothing."""

    def point(self, point: Point) -> None:
        """Do nothing."""

    def store(self, state: State) -> None:
        """Do nothing."""


LEAST_TILES = 4
"""Tiles that a point of the learning curve is measured on, at least."""


class Observer:
    """Measures a network at the points of its learning curve, and keeps states and pictures.

    Args:
        prepared: the training.
        lesson: what this network is measured on.
        folder: where its states and pictures are kept.
        listener: who is told.
    """

    def __init__(self, prepared: Prepared, lesson: Lesson, folder: TrainingFolder, listener: Listener) -> None:
        self._prepared = prepared
        self._tiles = lesson.tiles
        self._normalisation = lesson.normalisation
        self._folder = folder
        self._listener = listener
        self._most = self._affordable()
        self._shown: Sequence[Seen] = ()

    def measure(self, model: UNet) -> dict[str, Any] | None:
        """Return the network's metrics on what is held out, if there is anything; on a part where that is much."""
        if self._tiles is None:
            return None
        measured, self._shown = self._measure(model, self._most, sampled=0)
        return measured.metrics(self._prepared.plan.job.classes)

    def whole(self, model: UNet) -> Measured | None:
        """Measure the network on all that is held out, and keep a sample of its logits."""
        return None if self._tiles is None else self._measure(model, None, sampled=SAMPLED)[0]

    def progress(self, step: int) -> None:
        """Pass on how many steps are done."""
        self._listener.progress(step)

    def point(self, point: Point) -> None:
        """Say a point of the learning curve in one line, and draw what the network did there."""
        found = point["validation"]
        quality = "" if found is None else f", validation mean IoU {rounded(found['mean_iou'])}"
        self._listener.note(f"step {point['step']}: loss {point['loss']:.4f}{quality}")
        if found is not None and self._shown:
            title = f"{self._prepared.output.name}, step {point['step']}"
            picture = draw(self._shown, self._prepared.plan.job.classes, title)
            keep(self._folder.path / "pictures", point["step"], picture)

    def store(self, state: State) -> None:
        """Keep the state."""
        self._folder.write(state)

    def announce(self) -> None:
        """Say so if points of the curve are measured on a part alone."""
        if self._tiles is not None and self._most < len(self._tiles):
            self._listener.note(
                f"points of the learning curve are measured on {self._most} of {len(self._tiles)} tiles that are held"
                " out, evenly spaced; the end on all of them"
            )

    def _measure(self, model: UNet, most: int | None, *, sampled: int) -> tuple[Measured, Sequence[Seen]]:
        assert self._tiles is not None
        plan = self._prepared.plan
        return measure(
            model,
            self._tiles,
            self._normalisation,
            classes=len(plan.job.classes),
            batch=plan.batch,
            most=most,
            sampled=sampled,
            shown=ROWS,
        )

    def _affordable(self) -> int:
        """Return how many tiles have as many voxels as are learnt from between two points."""
        if self._tiles is None:
            return 0
        plan = self._prepared.plan
        learnt = plan.validate_every * plan.batch * math.prod(plan.patch)
        return min(len(self._tiles), max(LEAST_TILES, learnt // math.prod(self._tiles.layout.patch)))


def rounded(value: float | None) -> str:
    """Return a ratio for people."""
    return "undefined" if value is None else f"{value:.4f}"
