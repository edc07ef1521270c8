"""What is learnt from and what is measured on, kept apart so that nothing leaks from one side to the other.

::

    by block    +-------+-------+-------+-------+     measured  whole boxes, by exact tiles, with real context around
                |       |ggg+-------+ggg|       |     guard     as wide as the network sees: what is learnt outside of
                | learnt|gg | measu-|gg | learnt|               it depends on no measured voxel; used by neither side
                |       |gg | red   |gg |       |     learnt    the rest, as far as it is labelled
                +-------+-------+-------+-------+

What is held out is a run of neighbours (volumes in random order, slices, or blocks along a winding way), so that the
guard costs little. Of many runs, drawn by the seed, one is taken whose classes are most like those of all.

Image voxels of measured boxes may lie in the image of a patch that is learnt from, beside target voxels that are
ignored: what is learnt depends on them only through the statistics of batch normalisation, if there is any. Where
augmentation makes a patch smaller, turns or deforms it, its targets still come from no measured voxel and no guard, but
the network sees further into the image than the guard is wide, by as much as the patch is made smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.training import Split
from pipeline.errors import InputError
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.areas import merged
from pipeline.training.census import Counted, Counts, recount, with_area
from pipeline.training.runs import choose_part, choose_parts
from pipeline.training.targets import TargetRule
from pipeline.training.units import Unit, find_units

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """One way to split the pairs.

    Attributes:
        learnt: what is learnt from, with the census of it.
        measured: what is measured on, with the census of it; empty where nothing is.
        record: what to keep of it beside the weights, JSON-ready: ``by``, ``seed``, ``fold``, ``folds``, ``block``,
            ``guard``; the ``measured`` boxes of each pair; ``voxels`` and ``classes`` of either side.
    """

    learnt: list[Counted]
    measured: list[Counted]
    record: dict[str, Any]


def seen_by(architecture: UNetArchitecture) -> int:
    """Return how far away a voxel of the input can lie that a voxel of the output depends on, wherever it lies.

    The halo holds for cores whose edges are on the lattice of the network's stride; a single voxel may lie up to a
    stride less one inside of such a core.
    """
    reach = architecture.reach()
    return max(reach.halo) + reach.stride - 1


def split_pairs(
    counted: Sequence[Counted],
    split: Split,
    architecture: UNetArchitecture,
    patch: Sequence[int],
    rule: TargetRule,
    *,
    seed: int,
    note: Note = lambda text: None,
) -> list[Fold]:
    """Split pairs: into one fold, or as many as there are to be.

    Laws: the same pairs, settings and seed give the same folds. No voxel is learnt that is measured or lies within
    the guard of one. Over the folds of a cross-validation each labelled voxel is measured exactly once.

    Args:
        counted: the pairs, with their census.
        split: the settings.
        architecture: the network, for the guard.
        patch: voxels of a patch along its axes, for the size of blocks.
        rule: how class ids are made of what is stored.
        seed: of the draws.
        note: told of classes that one side lacks.

    Raises:
        InputError: one side would be empty.
    """
    if split.by == "none":
        record = _record("none", seed, (0, 0), None, (), []) | _sums(counted, [], counted)
        return [Fold(list(counted), [], record)]
    found = find_units(counted, split, patch, guard=seen_by(architecture))
    random = np.random.default_rng((seed, _STREAM))
    counts = np.array([unit.counts for unit in found.units])
    shuffled = found.by == "volume"
    if split.folds:
        parts = choose_parts(counts, split.folds, random, shuffled=shuffled)
    else:
        parts = [choose_part(counts, split.share, random, shuffled=shuffled)]
    folds = []
    for number, part in enumerate(parts):
        held = [found.units[i] for i in part]
        learnt, measured = _sides(counted, held, found.by, found.guard, rule, len(patch))
        record = _record(found.by, seed, (number, split.folds), found.block, found.guard, measured)
        record |= _sums(learnt, measured, counted)
        _check_sides(record, split, note)
        folds.append(Fold(learnt, measured, record))
    return folds


_STREAM = 2
"""Tells the random numbers of splits from those of patches."""


def _sides(
    counted: Sequence[Counted],
    held: Sequence[Unit],
    by: str,
    guard: tuple[int, ...],
    rule: TargetRule,
    dims: int,
) -> tuple[list[Counted], list[Counted]]:
    """Return what is learnt from and what is measured on, if these units are held out."""
    learnt, measured = [], []
    for number, each in enumerate(counted):
        boxes = merged(unit.box for unit in held if unit.pair == number)
        if not boxes:
            learnt.append(each)
            continue
        measured.append(recount(each, with_area(each.pair, kept=boxes), rule, dims))
        if by != "volume":
            around = [box.grow(guard, guard) for box in boxes]
            learnt.append(recount(each, with_area(each.pair, without=around), rule, dims))
    return [each for each in learnt if each.census.labelled], measured


def _record(
    by: str,
    seed: int,
    fold: tuple[int, int],
    block: list[int] | None,
    guard: tuple[int, ...],
    measured: Sequence[Counted],
) -> dict[str, Any]:
    """Describe a fold, JSON-ready."""
    boxes = [
        {"pair": each.pair.number, "boxes": [str(box) for box in each.pair.known.regions()]} for each in measured
    ]
    said = {"by": by, "seed": seed, "fold": fold[0], "folds": fold[1]}
    return said | {"block": block, "guard": list(guard), "measured": boxes}


def _sums(learnt: Sequence[Counted], measured: Sequence[Counted], every: Sequence[Counted]) -> dict[str, Any]:
    """Return the voxels and classes of either side, JSON-ready."""
    sides = {"learnt": _classes(learnt, every), "measured": _classes(measured, every)}
    voxels = {side: int(counts.sum()) for side, counts in sides.items()}
    unused = sum(each.census.labelled for each in every) - sum(voxels.values())
    return {
        "voxels": voxels | {"unused": unused},
        "classes": {side: counts.tolist() for side, counts in sides.items()},
    }


def _classes(side: Sequence[Counted], every: Sequence[Counted]) -> Counts:
    found: Counts = np.sum([each.census.classes for each in side], axis=0, initial=0) + np.zeros_like(
        every[0].census.classes
    )
    return found


def _check_sides(record: dict[str, Any], split: Split, note: Note) -> None:
    """Refuse a split with an empty side; say which classes a side lacks."""
    where = f" (fold {record['fold']})" if split.folds else ""
    for side, what in (("learnt", "learn from"), ("measured", "measure on")):
        if not record["voxels"][side]:
            guard = max(record["guard"], default=0)
            raise InputError(
                f"split by {record['by']}{where}: no labelled voxel is left to {what}, with a guard of {guard} voxels"
                " around what is held out; label more, give `validation` pairs, a smaller `split.block` or"
                " `split.guard`, or set `split: none`"
            )
    total = np.add(record["classes"]["learnt"], record["classes"]["measured"])
    for side in ("learnt", "measured"):
        lacking = [i for i in np.flatnonzero(total) if not record["classes"][side][i]]
        if lacking:
            note(
                f"split by {record['by']}{where}: what is {side} holds no voxel of class"
                f" {', '.join(map(str, lacking))}"
            )
