"""Which run of units is held out: of many, one of those whose classes are most like those of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.training.census import Counts

CANDIDATES = 64
"""Runs that are compared."""

CLOSE = 0.05
"""Differences of shares, added up over the classes, that do not matter."""

Score = tuple[int, float]
"""Classes that a side lacks, and how far shares are from what is wanted: less is better."""


def choose_part(counts: Counts, share: float, random: np.random.Generator, *, shuffled: bool) -> list[int]:
    """Return the units to hold out, so that they have about a share of the voxels.

    Args:
        counts: voxels of each class in each unit, ``(units, classes)``; at least two units.
        share: that is held out.
        random: draws the candidates.
        shuffled: whether units have no neighbours, and come in random order.
    """
    candidates = [order[: _length(counts[order], share)] for order in _orders(len(counts), random, shuffled)]
    total = counts.sum(axis=0)
    scores = [_score(counts[part].sum(axis=0), total, share) for part in candidates]
    return sorted(candidates[_pick(scores)].tolist())


def choose_parts(counts: Counts, folds: int, random: np.random.Generator, *, shuffled: bool) -> list[list[int]]:
    """Return the units to hold out in each fold: every unit in exactly one of them.

    Args:
        counts: voxels of each class in each unit, ``(units, classes)``.
        folds: how many.
        random: draws the candidates.
        shuffled: whether units have no neighbours, and come in random order.

    Raises:
        InputError: there are fewer units than folds.
    """
    if not 2 <= folds <= len(counts):
        raise InputError(
            f"split.folds {folds}: there are {len(counts)} units with labels to split by; ask for 2 to {len(counts)}"
            " folds, or split by smaller blocks"
        )
    total = counts.sum(axis=0)
    candidates = [_cut(order, counts, folds) for order in _orders(len(counts), random, shuffled)]
    scores = [max(_score(counts[part].sum(axis=0), total, 1 / folds) for part in parts) for parts in candidates]
    return [sorted(part.tolist()) for part in candidates[_pick(scores)]]


def _orders(count: int, random: np.random.Generator, shuffled: bool) -> Iterator[npt.NDArray[np.intp]]:
    """Yield orders of the units: random ones, or the same one begun at another unit."""
    if shuffled:
        for _ in range(CANDIDATES):
            yield random.permutation(count)
        return
    for start in random.permutation(count)[:CANDIDATES]:
        yield np.roll(np.arange(count), -int(start))


def _length(counts: Counts, share: float) -> int:
    """Return how many of the first units have about a share of the voxels: not none, and not all."""
    held = np.cumsum(counts.sum(axis=1)) / counts.sum()
    return 1 + int(np.abs(held[:-1] - share).argmin())


def _cut(order: npt.NDArray[np.intp], counts: Counts, folds: int) -> Sequence[npt.NDArray[np.intp]]:
    """Return units in runs of about as many voxels; of about as many units, where that would leave one empty."""
    voxels = counts[order].sum(axis=1)
    middles = (np.cumsum(voxels) - voxels / 2) / voxels.sum()
    parts = [order[(middles * folds).astype(int) == k] for k in range(folds)]
    return parts if all(len(part) for part in parts) else np.array_split(order, folds)


def _pick(scores: Sequence[Score]) -> int:
    """Return the first candidate that is about as good as the best: so that the seed decides between equals."""
    lacking, apart = min(scores)
    return next(i for i, score in enumerate(scores) if score[0] == lacking and score[1] <= apart + CLOSE)


def _score(held: Counts, total: Counts, share: float) -> Score:
    """Say how far what is held out is from a share of everything."""
    rest, there = total - held, total > 0
    lacking = int((there & (held == 0)).sum() + (there & (rest == 0)).sum())
    apart = float(np.abs(held / max(1, held.sum()) - total / total.sum()).sum())
    return lacking, apart + abs(float(held.sum() / total.sum()) - share)
