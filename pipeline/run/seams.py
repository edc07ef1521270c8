"""Seams of a run: how much overlapping tiles disagree, counted by chunk, and what was measured at its borders.

Two things with one name, for a user asks one question. Where tiles overlap, each chunk counts how far they contradict
each other: numbers that add. What remains in the stored result, at borders of chunks and tiles, is measured when it is
verified (:mod:`pipeline.evaluation.seams`), and kept in the seal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OVERLAPPED = "overlapped"
"""Voxels of a chunk that lie under several tiles."""

SPREAD = "spread"
"""Sum over them of the range (largest minus smallest) of what the tiles say, in the class where it is largest."""

LARGEST = "largest_spread"
"""The largest such range in the chunk."""

CHANGED = "changed"
"""Voxels of a chunk to which tiles give different classes."""

SEAMS = "seams.npz"
"""Name of the map of seams in a run's folder."""


def seams(statistics: Mapping[str, tuple[float, float]], seal: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what is known of a run's seams; None where nothing is.

    Args:
        statistics: sum and largest value over all chunks, by key.
        seal: of the run; None while it is not sealed.

    Returns:
        What :func:`overlaps` gives, where tiles overlap; and what was measured at borders, once the run is sealed:
        ``flagged``, ``contrasts`` ... (see docs/seams.md).
    """
    measured = (seal or {}).get("seams")
    found = {**(overlaps(statistics) or {}), **(measured or {})}
    return found or None


def overlaps(statistics: Mapping[str, tuple[float, float]]) -> dict[str, Any] | None:
    """Return what overlapping tiles say of each other over a whole run; None where tiles do not overlap.

    Args:
        statistics: sum and largest value over all chunks, by key.

    Returns:
        ``overlapped`` and ``changed`` voxels, ``changed_share`` of the overlapped ones, and the ``mean_spread`` and
        ``largest_spread`` of scores (probabilities, or the raw output where that is stored).
    """
    if OVERLAPPED not in statistics:
        return None
    overlapped, changed = statistics[OVERLAPPED][0], statistics[CHANGED][0]
    return {
        "overlapped": int(overlapped),
        "changed": int(changed),
        "changed_share": changed / overlapped if overlapped else 0.0,
        "mean_spread": statistics[SPREAD][0] / overlapped if overlapped else 0.0,
        "largest_spread": statistics[LARGEST][1],
    }
