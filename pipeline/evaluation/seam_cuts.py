"""One chunk cut along one axis: the strips of lines that run along it, and their gaps at any plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.seam_gaps import SIDE, Bits, Gaps, Strips, Voxels, face_view, gaps, strips_of
from pipeline.geometry import Box

NEARBY_MOST = 2
"""Planes nearby on each side of a border, at most."""

Nearby = Mapping[int, Gaps]
"""Gaps at planes nearby, by how many steps they lie behind the border; negative ones lie in front of it."""


@dataclass(frozen=True, slots=True)
class Met:
    """A border that is known on both sides.

    Attributes:
        border: the gaps at it, ``(2, rows, strips)``.
        nearby: the gaps nearby.
        valid: strips all of whose voxels are foreground, ``(rows, strips)``.
    """

    border: Gaps
    nearby: Nearby
    valid: Bits


@dataclass(frozen=True, slots=True)
class Half:
    """One side of a border of two chunks.

    Attributes:
        voxels: the two voxels of each line beside the border, ``(c, 2, rows, strips, lines)``, in the axis's order.
        nearby: the gaps nearby, on this side.
        valid: strips all of whose voxels on this side are foreground, ``(rows, strips)``.
    """

    voxels: Voxels
    nearby: Nearby
    valid: Bits

    def meet(self, high: Half, kind: str) -> Met:
        """Return the border of this side and the one behind it."""
        window = np.concatenate([self.voxels, high.voxels], axis=1)
        return Met(gaps(window, kind), {**self.nearby, **high.nearby}, self.valid & high.valid)


class Cut:
    """The lines of a chunk along an axis.

    Args:
        voxels: ``(c, [z,] y, x)``.
        inside: which voxels are foreground, ``([z,] y, x)``; None where all are.
        core: the chunk, in voxels of the volume.
        axis: along which the lines run.
        most: strips of a face at most.
        kind: ``labels``, ``probabilities`` or ``logits``.

    Attributes:
        axis: along which the lines run.
        length: voxels of a line.
    """

    def __init__(self, voxels: Voxels, inside: Bits | None, core: Box, *, axis: int, most: int, kind: str) -> None:
        self._voxels = face_view(voxels, axis)
        self._inside = None if inside is None else face_view(inside[None], axis)
        self._strips: Strips = strips_of(self._voxels.shape[2:], most)
        self._core = core
        self._kind = kind
        self.axis = axis
        self.length = core.shape[axis]

    def gaps(self, plane: int) -> Gaps:
        """Return the gaps at the plane in front of a voxel, ``(2, rows, strips)``."""
        return gaps(self._lines(plane - SIDE, plane + SIDE), self._kind)

    def nearby(self, plane: int, places: Sequence[int], step: int) -> tuple[Nearby, Bits]:
        """Return the gaps beside a plane, and the strips that are foreground all the way.

        Args:
            plane: the border.
            places: steps from the border, in rising order.
            step: voxels of a step.
        """
        found = {place: self.gaps(plane + place * step) for place in places}
        reach = [plane + place * step for place in (0, *places)]
        first, stop = max(0, min(reach) - SIDE), min(self.length, max(reach) + SIDE)
        return found, self._valid(first, stop)

    def half(self, plane: int, places: Sequence[int], step: int) -> Half:
        """Return the side of a border that the chunk begins or ends with; the arguments are those of :meth:`nearby`."""
        first = min(plane, self.length - SIDE)
        return Half(self._lines(first, first + SIDE), *self.nearby(plane, places, step))

    def places(self, plane: int) -> list[npt.NDArray[np.intp]]:
        """Return where each strip crosses a plane, per axis of the volume; arrays that broadcast to its strips."""
        first = self._core.start
        others = [axis for axis in range(len(first)) if axis != self.axis]
        found = {self.axis: np.array([[first[self.axis] + plane]], np.intp)}
        found[others[-1]] = first[others[-1]] + self._strips.lines[None, :, 0]
        if len(others) > 1:
            found[others[0]] = first[others[0]] + self._strips.rows[:, None]
        return [found[axis] for axis in range(len(first))]

    def _lines(self, first: int, stop: int) -> Voxels:
        return self._strips.of(self._voxels[:, first:stop])

    def _valid(self, first: int, stop: int) -> Bits:
        """Return the strips that are foreground from a voxel to another one, ``(rows, strips)``."""
        if self._inside is None:
            return np.ones((len(self._strips.rows), len(self._strips.lines)), np.bool_)
        found = self._strips.of(self._inside[:, first:stop])
        return np.asarray(found.all(axis=(0, 1, 4)))


def room(distance: int, step: int) -> int:
    """Return how many planes nearby there is room for between a border and the next one, or the end."""
    return min(NEARBY_MOST, max(0, (distance - 2 * SIDE) // step))
