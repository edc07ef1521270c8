"""The chunks of a run by their states: a small picture of where failures are, however many, and its legend."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipeline.reporting.pictures import data_uri, grid_picture
from pipeline.run.records import DONE, FAILED, PENDING, SKIPPED, STATES

CELLS, PIXELS = 2**14, 512
"""Cells of a picture at most, and about how many pixels it has along an edge."""

_RANK = (SKIPPED, DONE, PENDING, FAILED)
"""Of the chunks that share a cell, the state that stands last here is shown."""


HUES = {"done": "blue", "failed": "orange", "pending": "grey", "skipped": "yellow"}
"""What people call the colours of :data:`pipeline.reporting.pictures.STATE_COLOURS`."""


def legend(states: npt.NDArray[np.uint8]) -> str:
    """Return how many chunks are in each state, and its colour; states that no chunk is in are left out.

    Args:
        states: of each chunk, its place in :data:`pipeline.run.records.STATES`.
    """
    counts = dict(zip(STATES, np.bincount(states, minlength=len(STATES)).tolist(), strict=True))
    return ", ".join(f"{counts[state]:,} {state} ({hue})" for state, hue in HUES.items() if counts[state])


def overview(states: npt.NDArray[np.uint8], counts: tuple[int, ...]) -> str:
    """Return the states of all chunks as the data URI of a PNG of some 20 kB at most.

    Where there are more chunks than cells, a cell stands for a cube of them, and shows a failed one before a pending
    one before the others.

    Args:
        states: of each chunk, its place in :data:`pipeline.run.records.STATES`.
        counts: chunks along each axis.
    """
    rank = np.array([_RANK.index(state) for state in STATES], np.uint8)[states].reshape(counts)
    factor = 1
    while math.prod(-(-count // factor) for count in counts) > CELLS:
        factor += 1
    for axis, count in enumerate(counts):
        rank = np.maximum.reduceat(rank, np.arange(0, count, factor), axis=axis)
    names = [_RANK[code] for code in rank.ravel().tolist()]
    across = math.isqrt(len(names) - 1) + 1
    return data_uri(grid_picture(names, rank.shape, cell_px=min(32, max(1, PIXELS // across))))
