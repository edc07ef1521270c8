"""What one network learns from, and what it is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.jobs.listener import Listener
from pipeline.jobs.training.prepared import Prepared
from pipeline.model.checkpoint import Normalisation
from pipeline.training.census import check_census, take_census
from pipeline.training.normalisation import measure_normalisation
from pipeline.training.patches import PatchLayout, PatchStream
from pipeline.training.regions import RegionTiles, tile_layout
from pipeline.training.splits import Fold, split_pairs

TRAINING = 0
"""The stream of random numbers that patches are drawn by, beside the job's seed."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one network learns from, and what it is measured on.

    Attributes:
        patches: what it learns from.
        tiles: what it is measured on; None for nothing.
        normalisation: mean and standard deviation of each channel of what it learns from.
        shares: share of the labelled voxels that each class has, of what it learns from.
        split: how it was split, ready for JSON.
    """

    patches: PatchStream
    tiles: RegionTiles | None
    normalisation: Normalisation
    shares: tuple[float, ...]
    split: dict[str, Any]


def lessons(prepared: Prepared, listener: Listener) -> list[Lesson]:
    """Return what each network learns from: one, or one a fold.

    Raises:
        InputError: nothing can be learnt from the targets, the split leaves a side empty, or an image is not finite.
    """
    plan = prepared.plan
    counted = take_census(prepared.pairs, prepared.rule, plan.patch, threads=prepared.loaders)
    check_census(counted, plan.job.classes, listener.note)
    if prepared.measured:
        measured = take_census(prepared.measured, prepared.rule, plan.patch, threads=prepared.loaders)
        check_census(measured, plan.job.classes, listener.note)
        return [_lesson(prepared, Fold(counted, measured, {"by": "validation"}), listener)]
    folds = split_pairs(
        counted,
        plan.job.split,
        plan.architecture,
        plan.patch,
        prepared.rule,
        seed=plan.job.seed,
        note=listener.note,
    )
    return [_lesson(prepared, fold, listener) for fold in folds]


def _lesson(prepared: Prepared, fold: Fold, listener: Listener) -> Lesson:
    plan = prepared.plan
    patches = PatchStream(
        fold.learnt,
        PatchLayout.plain(plan.architecture, plan.patch),
        prepared.rule,
        seed=(plan.job.seed, TRAINING),
        balance=plan.balance,
    )
    learnt = [each.pair for each in fold.learnt]
    normalisation = plan.job.normalisation or measure_normalisation(learnt, listener.note)
    pairs = [each.pair for each in fold.measured]
    tiles = RegionTiles(pairs, tile_layout(plan.architecture, pairs), prepared.rule) if pairs else None
    counts = np.sum([each.census.classes for each in fold.learnt], axis=0)
    return Lesson(patches, tiles, normalisation, tuple((counts / counts.sum()).tolist()), fold.record)
