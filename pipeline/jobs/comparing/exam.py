"""What all networks of a comparison are measured on: whole regions by exact tiles, the same for all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Split, TrainJob
from pipeline.errors import InputError
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.jobs.listener import Silent
from pipeline.jobs.training.lesson import lessons
from pipeline.jobs.training.prepared import Prepared
from pipeline.model.checkpoint import read_header
from pipeline.model.weights import load_model
from pipeline.training.device import torch_threads
from pipeline.training.patches import PatchLayout
from pipeline.training.regions import RegionTiles
from pipeline.training.targets import IGNORE
from pipeline.training.validation import see


@dataclass(frozen=True, slots=True, eq=False)
class Exam:
    """Regions that a network is measured on.

    Attributes:
        prepared: the job of training whose ``validation``, or split, they are.
        tiles: they, cut into tiles as suits its network.
        regions: which they are, the same text for the same regions.
    """

    prepared: Prepared
    tiles: RegionTiles
    regions: str

    def cut(self, tile: Sequence[int]) -> RegionTiles:
        """Return the regions in tiles of a given size, a multiple of the network's stride."""
        return self.tiles.recut(PatchLayout.exact(self.prepared.plan.architecture, list(tile)))


def exam_job(job: TrainJob, exam: Sequence[Any]) -> TrainJob:
    """Return the job that is never trained, whose held-out part is the exam.

    Args:
        job: a training.
        exam: pairs that it is to be measured on; none for what it holds out itself.
    """
    output = str(Path(job.output).with_name("exam.safetensors"))
    changes: dict[str, Any] = {"validation": tuple(exam), "split": Split()} if exam else {}
    return job.model_copy(update=changes | {"output": output, "restart": False})


def open_exam(prepared: Prepared) -> Exam:
    """Open what a network is measured on.

    Raises:
        InputError: nothing is held out; or see :func:`pipeline.jobs.training.lesson.lessons`.
    """
    lesson = lessons(prepared, Silent())[0]
    if lesson.tiles is None:
        raise InputError(
            "split none: nothing is held out that the networks could be measured on; give `exam` pairs, or split"
        )
    return Exam(prepared, lesson.tiles, json.dumps(lesson.split.get("measured", "exam")))


def take_exam(exam: Exam, checkpoint: Path, tile: Sequence[int]) -> tuple[list[str], NDArray[np.int64]]:
    """Measure a network: class ids at a probability of one half, or of the greatest output.

    Args:
        exam: the regions.
        checkpoint: the network.
        tile: voxels of a tile along the network's axes.

    Returns:
        The tiles' places, and the voxels by ``[tile, target class, prediction class]``.
    """
    plan, tiles = exam.prepared.plan, exam.cut(tile)
    classes = len(plan.job.classes)
    with torch_threads(exam.prepared.threads):
        model = load_model(checkpoint).eval().to(exam.prepared.device)
        shown = see(
            model,
            tiles,
            read_header(checkpoint).normalisation,
            numbers=range(len(tiles)),
            batch=plan.batch,
        )
        counts = [
            ConfusionStatistics.of(each.found, each.target, classes=classes, ignore=IGNORE).counts
            for each in shown
        ]
    places = [f"{number} {box}" for number, box in map(tiles.where, range(len(tiles)))]
    return places, np.stack(counts)
