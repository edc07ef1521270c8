"""Which part of a volume is labelled, and which part of that one side of a split may use.

::

    +-----------------------------+     boxes (or a mask): what is labelled; elsewhere nothing is known
    |   +-------------+           |     kept:     what this side has of it; all where nothing is said
    |   | kept  | ..  |           |     without:  what it must not use: what is held out, and the guard around it
    |   |       | wo. |  nothing  |
    |   +-------------+   known   |     known = labelled & kept - without
    +-----------------------------+
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box, mirror, visible_box
from pipeline.volume.mask.foreground import Foreground
from pipeline.volume.mask.sampling import Sampling

Bits = npt.NDArray[np.bool_]


class BoxSet:
    """Some boxes, found by place: quick where there are thousands.

    Args:
        boxes: of one number of axes.
    """

    def __init__(self, boxes: Iterable[Box]) -> None:
        self.boxes = tuple(box for box in boxes if not box.is_empty)
        self._starts = np.array([box.start for box in self.boxes], np.int64)
        self._stops = np.array([box.stop for box in self.boxes], np.int64)

    def __bool__(self) -> bool:
        return bool(self.boxes)

    def meeting(self, box: Box) -> list[Box]:
        """Return the boxes that share a voxel with a box, cut to it."""
        if not self.boxes or box.is_empty:
            return []
        meets = ((self._starts < box.stop) & (self._stops > box.start)).all(axis=1)
        return [self.boxes[i].intersect(box) for i in np.flatnonzero(meets)]

    def paint(self, box: Box) -> Bits:
        """Return which voxels of a box lie in one of the boxes."""
        found = np.zeros(box.shape, np.bool_)
        for part in self.meeting(box):
            found[part.relative_to(box.start).slices] = True
        return found


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask over a volume, at a resolution of its own.

    Attributes:
        foreground: the mask; what is foreground is labelled.
        sampling: how it lies over the volume.
    """

    foreground: Foreground
    sampling: Sampling

    def read(self, box: Box) -> Bits | None:
        """Return the mask in a box inside the volume, voxel by voxel; None where all of it is background."""
        bits = self.foreground.read(self.sampling.below(box))
        if not bits.any():
            return None
        return np.broadcast_to(self.sampling.spread(bits, box), box.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """What is known of a volume's target, and may be used.

    Attributes:
        shape: spatial shape of the volume.
        labelled: boxes that are labelled, disjoint.
        mask: which voxels of them are; None for all.
        kept: what this side of a split has, disjoint boxes; None for all.
        without: boxes that it must not use.
    """

    shape: tuple[int, ...]
    labelled: BoxSet
    mask: Mask | None = None
    kept: BoxSet | None = None
    without: BoxSet = field(default_factory=lambda: BoxSet(()))

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Area:
        """Return the area of a volume that is labelled everywhere."""
        return cls(tuple(shape), BoxSet([Box.of_shape(shape)]))

    @property
    def box(self) -> Box:
        """The whole volume."""
        return Box.of_shape(self.shape)

    def only(self, boxes: Iterable[Box]) -> Area:
        """Return what lies in some boxes, which are disjoint."""
        return replace(self, kept=BoxSet(boxes))

    def less(self, boxes: Iterable[Box]) -> Area:
        """Return what lies outside of some boxes."""
        return replace(self, without=BoxSet([*self.without.boxes, *boxes]))

    def regions(self, within: Box | None = None) -> list[Box]:
        """Return disjoint boxes that hold all that may be used (and more, where there is a mask)."""
        found = self.labelled.meeting(within or self.box)
        if self.kept is not None:
            found = [part for box in found for part in self.kept.meeting(box)]
        return [part for box in found for part in subtract(box, self.without.meeting(box))]

    def meets(self, box: Box) -> bool:
        """Whether a voxel of a box is known and may be used; asks the mask only where there is one."""
        return bool(self.regions(within=self.box.intersect(box))) and (
            self.mask is None or bool(self.bits(box).any())
        )

    def labelled_bits(self, box: Box) -> Bits:
        """Return which voxels that a box shows are labelled: outside the volume, of its mirror image."""
        inside = visible_box(box, self.shape)
        bits = self.labelled.paint(inside)
        if self.mask is not None and bits.any():
            masked = self.mask.read(inside)
            bits = np.zeros_like(bits) if masked is None else bits & masked
        found: Bits = mirror(bits, inside_box=inside, box=box, shape=self.shape).astype(np.bool_)
        return found

    def bits(self, box: Box) -> Bits:
        """Return which voxels of a box are known and may be used: none outside the volume."""
        found = np.zeros(box.shape, np.bool_)
        for part in self.regions(within=self.box.intersect(box)):
            found[part.relative_to(box.start).slices] = True
        if self.mask is not None and found.any():
            inside = self.box.intersect(box)
            masked = self.mask.read(inside)
            if masked is None:
                return np.zeros_like(found)
            found[inside.relative_to(box.start).slices] &= masked
        return found


def subtract(box: Box, holes: Iterable[Box]) -> list[Box]:
    """Return disjoint boxes that are a box without some holes."""
    parts = [box]
    for hole in holes:
        parts = [piece for part in parts for piece in _without(part, hole)]
    return parts


def disjoint(boxes: Iterable[Box]) -> list[Box]:
    """Return disjoint boxes with the same voxels as some that may overlap."""
    found: list[Box] = []
    for box in boxes:
        found += subtract(box, found)
    return found


def _without(box: Box, hole: Box) -> list[Box]:
    """Return a box without one hole: at most two parts an axis."""
    hole = box.intersect(hole)
    if hole.is_empty:
        return [box]
    parts = []
    start, stop = list(box.start), list(box.stop)
    for axis, (low, high) in enumerate(hole):
        for a, b in ((start[axis], low), (high, stop[axis])):
            if a < b:
                parts.append(Box(_put(start, axis, a), _put(stop, axis, b)))
        start[axis], stop[axis] = low, high
    return parts


def _put(values: list[Any], axis: int, value: int) -> tuple[int, ...]:
    return tuple(value if i == axis else v for i, v in enumerate(values))


def merged(boxes: Iterable[Box]) -> list[Box]:
    """Return the same voxels as some disjoint boxes in fewer ones: neighbours that make a box become one."""
    found = list(boxes)
    for axis in reversed(range(found[0].ndim if found else 0)):
        rows: dict[tuple[Any, ...], list[Box]] = {}
        for box in found:
            rows.setdefault(tuple(side for i, side in enumerate(box) if i != axis), []).append(box)
        found = [joined for row in rows.values() for joined in _joined(row, axis)]
    return sorted(found, key=lambda box: box.start)


def _joined(row: list[Box], axis: int) -> list[Box]:
    """Return boxes that differ along one axis alone, joined where one begins as the other ends."""
    found: list[Box] = []
    for box in sorted(row, key=lambda each: each.start[axis]):
        if found and found[-1].stop[axis] == box.start[axis]:
            found[-1] = Box(found[-1].start, box.stop)
        else:
            found.append(box)
    return found
