"""The gap of a prediction at a plane between two voxels: how far what lies on its two sides fails to meet there.

Along a line that crosses the plane in front of voxel ``q``::

    voxel     q-2   q-1 | q   q+1
    value      a     b  | c    d         from the left  b + (b - a) / 2
                        |                from the right c - (d - c) / 2
                    plane                gap            (c - b) - ((b - a) + (d - c)) / 2

Each side is prolonged to the plane as a straight line, and the gap is what remains between the two; so a slope, and
any parabola, has none. Lines are taken in *strips* of neighbours. A strip has a *fine* gap, the mean of its lines' own
ones, and a *broad* gap, that of its lines' mean: what neighbouring lines share stays in the mean, and noise does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Voxels = npt.NDArray[Any]
Gaps = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

SCALES = ("fine", "broad")
"""The two gaps of a strip, in the order in which arrays hold them."""

STRIP = 16
"""Lines of a strip."""

SIDE = 2
"""Voxels on each side of a plane that its gap is made of."""

ROW_STEP = 16
"""Rows of a face that lie apart at most, where not all of them are taken."""

_WEIGHTS = (0.5, -1.5, 1.5, -0.5)


@dataclass(frozen=True, slots=True)
class Strips:
    """The lines that cross a face, ``(u, v)``: ``v`` is the last axis, ``u`` the other one (of length 1 in 2-D).

    Attributes:
        rows: place of each row of strips along ``u``, (rows,).
        lines: place along ``v`` of each line of each strip of a row, (strips, lines).
    """

    rows: npt.NDArray[np.intp]
    lines: npt.NDArray[np.intp]

    def of(self, slab: Voxels) -> Voxels:
        """Return the voxels of the lines, ``(c, n, rows, strips, lines)``, of a slab ``(c, n, u, v)``."""
        found: Voxels = slab[:, :, self.rows[:, None, None], self.lines]
        return found


def strips_of(shape: Sequence[int], most: int) -> Strips:
    """Return the strips of a face: all of them, or evenly spaced ones, the same for every face of a shape.

    Args:
        shape: of the face, ``(u, v)``.
        most: strips at most, about.
    """
    height, width = shape
    length = min(STRIP, width)
    across = width // length
    step = max(1, -(-height * across // most))
    down = min(step, ROW_STEP, height)
    beside = min(max(1, -(-height * across // (down * most))), across)
    down = max(down, -(-height * across // (beside * most)))
    starts = np.arange(beside // 2, across, beside) * length
    rows = np.arange(min(down, height) // 2, height, down)
    return Strips(rows.astype(np.intp), (starts[:, None] + np.arange(length)).astype(np.intp))


def face_view(voxels: Voxels, axis: int) -> Voxels:
    """Return voxels ``(c, [z,] y, x)`` as slabs ``(c, n, u, v)`` along a spatial axis; a view."""
    turned = np.moveaxis(voxels, 1 + axis, 1)
    return turned if turned.ndim == 4 else turned[:, :, None, :]


def gaps(window: Voxels, kind: str) -> Gaps:
    """Return the gaps of strips at a plane, ``(2, rows, strips)``: fine and broad ones, summed over channels.

    Args:
        window: the four voxels of each line around the plane, ``(c, 4, rows, strips, lines)``.
        kind: ``labels`` (each class counts as a channel of 0 and 1), ``probabilities`` or ``logits``. Probabilities
            in uint8 are taken as shares of 255, logits as they are.
    """
    found = np.zeros((len(SCALES), *window.shape[2:4]))
    scale = 1 / 255 if kind == "probabilities" and window.dtype == np.uint8 else 1.0
    for channel in _channels(window, kind):
        gap = np.tensordot(_WEIGHTS, channel, axes=1)
        found[0] += np.abs(gap).mean(axis=-1) * scale
        found[1] += np.abs(gap.mean(axis=-1)) * scale
    return found


def _channels(window: Voxels, kind: str) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the numbers of each channel, or where each class that there is lies; the gaps of such are exact."""
    if kind != "labels":
        yield from (channel.astype(np.float32).astype(np.float64) for channel in window)
        return
    ids = window[0]
    if (ids != ids[:1]).any():  # else no line changes its class: no gap anywhere
        yield from ((ids == label).astype(np.float64) for label in np.unique(ids))
