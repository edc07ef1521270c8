"""Where a report looks closely: a few windows at full resolution, chosen by rule and not by taste.

The windows of a lattice are counted in a shrunk picture; the one with the most marked pixels is chosen first, and
the next ones keep their distance, so that the same result always shows the same places::

    . . . . .        1, 2, 3 ... in the order of what they hold; the distance between them is as large as
    . 1 . . 3        the number wanted allows.
    . . . 2 .
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box, Grid

WINDOW = 384
"""Edge of a window, in voxels of the result."""

CANDIDATES = 1024
"""Windows that are considered: the fullest ones."""

Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Place:
    """One window and why it is shown.

    Attributes:
        box: in the result's voxels, one voxel thick along z.
        reason: for people.
        about: the box whose middle lies in the chunk that it is shown for; None for ``box`` itself.
    """

    box: Box
    reason: str
    about: Box | None = None


def busiest(marks: Marks, plane: Box, *, wanted: int) -> list[Box]:
    """Return up to ``wanted`` windows that hold the most marked pixels, the fullest first.

    Args:
        marks: picture of the plane, ``(h, w)``.
        plane: box in the result's voxels, one voxel thick along z.
        wanted: most windows.
    """
    windows = Grid(plane.shape[-2:], (WINDOW, WINDOW))
    counts = _counts(marks, windows)
    order = [int(i) for i in np.argsort(-counts, kind="stable")[:CANDIDATES] if counts[i]]
    distance = max(windows.counts)
    chosen: list[int] = []
    while distance and len(chosen) < min(wanted, len(order)):
        distance //= 2
        chosen = []
        for number in order:
            if len(chosen) < wanted and all(_distance(windows, number, other) >= distance for other in chosen):
                chosen.append(number)
    return _apart([window(windows.core(number), plane) for number in chosen])


def middles(plane: Box, *, wanted: int) -> list[Box]:
    """Return up to ``wanted`` windows spread evenly over a plane."""
    windows = Grid(plane.shape[-2:], (WINDOW, WINDOW))
    wanted = min(wanted, len(windows))
    cores = (windows.core((2 * i + 1) * len(windows) // (2 * wanted)) for i in range(wanted))
    return _apart([window(core, plane) for core in cores])


def window(core: Box, plane: Box) -> Box:
    """Return a window around a box ``[z,] y, x``, as large as the plane allows and inside of it."""
    start, stop = list(plane.start[:-2]), list(plane.stop[:-2])
    for (a, b), (low, high) in zip(list(core)[-2:], list(plane)[-2:], strict=True):
        edge = min(WINDOW, high - low)
        first = min(max(low, low + (a + b - edge) // 2), high - edge)
        start.append(first)
        stop.append(first + edge)
    return Box(tuple(start), tuple(stop))


def borders(classes: npt.NDArray[np.integer]) -> Marks:
    """Mark the pixels ``(h, w)`` whose class is another one than that of a neighbour to the right or below."""
    marks = np.zeros(classes.shape, np.bool_)
    marks[:-1] |= classes[:-1] != classes[1:]
    marks[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    return marks


def _counts(marks: Marks, windows: Grid) -> npt.NDArray[np.intp]:
    """Count the marked pixels in each window."""
    rows, columns = (
        np.minimum((np.arange(pixels) + 0.5) * length / pixels // WINDOW, count - 1).astype(np.intp)
        for pixels, length, count in zip(marks.shape, windows.shape, windows.counts, strict=True)
    )
    y, x = np.nonzero(marks)
    return np.bincount(rows[y] * windows.counts[1] + columns[x], minlength=len(windows))


def _apart(boxes: list[Box]) -> list[Box]:
    """Leave out each box that an earlier one covers by half: windows at the far edges are moved inwards."""
    kept: list[Box] = []
    for box in boxes:
        if all(2 * box.intersect(other).size <= box.size for other in kept):
            kept.append(box)
    return kept


def _distance(windows: Grid, first: int, second: int) -> int:
    pairs = zip(windows.position(first), windows.position(second), strict=True)
    return max(abs(a - b) for a, b in pairs)
