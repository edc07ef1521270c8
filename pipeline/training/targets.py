"""Targets as the network learns them: class ids out of what is stored, and what is not known is ignored.

::

    stored instance ids      foreground       boundary         three_class      boundary: 1
    0 0 0 0 0 0 0            0 0 0 0 0 0 0    0 0 0 0 0 0 0    0 0 0 0 0 0 0
    0 1 1 1 2 2 2            0 1 1 1 1 1 1    0 1 1 1 1 1 1    0 2 2 2 2 2 2
    0 1 1 1 2 2 2     ==>    0 1 1 1 1 1 1    0 1 0 1 1 0 0    0 2 1 2 2 1 1
    0 1 1 1 2 2 2            0 1 1 1 1 1 1    0 1 0 1 1 0 0    0 2 1 2 2 1 1

A voxel of an instance is boundary where a known voxel that is not of the same instance lies within so many voxels of
it (Euclidean distance between centres). What is not labelled is no edge, and neither is the end of the volume, which
goes on as its mirror image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError

Voxels = npt.NDArray[Any]
Bits = npt.NDArray[np.bool_]
Instances = Literal["none", "foreground", "boundary", "three_class"]

IGNORE = -1
"""Class id of voxels whose class is not known: they are in no loss and in no metric."""


@dataclass(frozen=True, slots=True)
class ClassIds:
    """Which values a target may have.

    Attributes:
        count: number of classes; ids are ``0 .. count - 1``.
        ignore: value that is not counted, inside or outside of the ids.
    """

    count: int
    ignore: int | None = None

    def check(self, target: Voxels, where: str) -> None:
        """Raise InputError if a value is neither a class id nor ignored."""
        counted = target if self.ignore is None else target[target != self.ignore]
        if counted.size == 0:
            return
        for value in (int(counted.min()), int(counted.max())):
            if not 0 <= value < self.count:
                raise InputError(
                    f"{where}: the target holds the value {value}, but there are {self.count} classes"
                    f" (0 to {self.count - 1}); name every class under `classes`, or set `ignore: {value}` if it"
                    " means nothing"
                )


@dataclass(frozen=True, slots=True)
class Weighing:
    """How voxels weigh in the loss, from the instances around them.

    Attributes:
        weigh: gives the weights, float32, of an instance map of the same shape, in int64: 0 is background, and below
            it nothing is known.
        reach: voxels around a voxel that decide its weight: what lies further away changes nothing.
    """

    weigh: Callable[[Voxels], Voxels]
    reach: int


@dataclass(frozen=True, slots=True)
class TargetRule:
    """How class ids (and weights) are made of what a target stores.

    Attributes:
        ids: the class ids of stored class ids; of instances, only ``ignore`` is used, and the number of classes.
        instances: what becomes of instance ids; ``none`` where class ids are stored.
        boundary: voxels from an instance's edge that are boundary.
        weighing: of the loss; None where all voxels weigh the same. Only of instances.
    """

    ids: ClassIds
    instances: Instances = "none"
    boundary: int = 1
    weighing: Weighing | None = None

    @property
    def context(self) -> int:
        """Voxels around a voxel that decide its class and its weight."""
        edge = self.boundary if self.instances in ("boundary", "three_class") else 0
        return max(edge, self.weighing.reach if self.weighing is not None else 0)

    def derive(self, stored: Voxels, known: Bits, where: str) -> tuple[npt.NDArray[np.int64], Voxels | None]:
        """Return class ids, :data:`IGNORE` where they are not known, and the weights if there are any.

        Law: a voxel that is at least :attr:`context` voxels away from the array's edges has the values that it has in
        the whole volume.

        Args:
            stored: what the target stores, over the network's axes.
            known: which of it is labelled.
            where: how messages name it.

        Raises:
            InputError: a value that is known is no class id, or no instance id.
        """
        if self.ids.ignore is not None:
            known = known & (stored != self.ids.ignore)
        if self.instances == "none":
            self.ids.check(stored[known], where)
            return np.where(known, stored.astype(np.int64), IGNORE), None
        instances = np.where(known, stored.astype(np.int64), 0)
        if instances.min(initial=0) < 0:
            raise InputError(
                f"{where}: the target holds the value {int(instances.min())}, which is no instance id (0 is background,"
                " the others are 1 and more); set `ignore` to it if it means nothing"
            )
        found = np.where(known, self._classes(instances, known), IGNORE)
        weighing = self.weighing
        return found, None if weighing is None else weighing.weigh(np.where(known, instances, IGNORE))

    def _classes(self, instances: Voxels, known: Bits) -> npt.NDArray[np.int64]:
        inside = (instances > 0).astype(np.int64)
        if self.instances == "foreground":
            return inside
        edge = edges(instances, known, self.boundary)
        return edge.astype(np.int64) if self.instances == "boundary" else inside + edge


def edges(instances: Voxels, known: Bits, distance: int) -> Bits:
    """Return which voxels of instances lie within a distance of a known voxel that is not of the same instance.

    Args:
        instances: ids, 0 for background.
        known: which of them are labelled.
        distance: in voxels, from centre to centre.
    """
    found = np.zeros(instances.shape, np.bool_)
    for offset in _half_ball(distance, instances.ndim):
        here, there = _shifted(offset, instances.shape)
        apart = (instances[here] != instances[there]) & known[here] & known[there]
        found[here] |= apart
        found[there] |= apart
    return found & (instances > 0)


def _half_ball(radius: int, ndim: int) -> Iterator[tuple[int, ...]]:
    """Yield one of each two opposite offsets that are no longer than a radius."""
    for offset in product(range(-radius, radius + 1), repeat=ndim):
        if (0,) * ndim < offset and sum(o * o for o in offset) <= radius * radius:
            yield offset


def _shifted(offset: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the slices of the voxels that have a neighbour at an offset, and of those neighbours."""
    here = tuple(slice(max(0, -o), max(0, n - max(0, o))) for o, n in zip(offset, shape, strict=True))
    there = tuple(slice(max(0, o), max(0, n - max(0, -o))) for o, n in zip(offset, shape, strict=True))
    return here, there
