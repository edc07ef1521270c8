"""Distances, counted one by one up to a bound: sparse histograms that add over chunks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DistanceHistogram:
    """How often each distance occurs. Adds over any parts.

    Attributes:
        unit: resolution: distances are rounded to multiples of it.
        bound: greatest distance that is told from others.
        steps: distances in units, int64, ascending, each once, read-only; few, as those on a grid of voxels repeat.
        counts: how often each occurs, int64, read-only.
        beyond: how many distances are greater than the bound.
    """

    unit: float
    bound: float
    steps: Counts
    counts: Counts
    beyond: int = 0

    def __post_init__(self) -> None:
        steps, counts = np.array(self.steps), np.array(self.counts)
        if steps.ndim != 1 or steps.shape != counts.shape or {steps.dtype.kind, counts.dtype.kind} - {"i", "u"}:
            raise InputError("a histogram of distances has one whole count for each distance")
        if self.beyond < 0 or (steps.size and (min(steps.min(), counts.min()) < 0 or (np.diff(steps) <= 0).any())):
            raise InputError("distances ascend from 0, and none occurs less than 0 times")
        for name, array in (("steps", steps.astype(np.int64)), ("counts", counts.astype(np.int64))):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def zero(cls, unit: float, bound: float) -> Self:
        """The histogram of no distances."""
        return cls(unit, bound, np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def of(cls, distances: NDArray[Any], *, unit: float, bound: float) -> Self:
        """The histogram of distances of any shape, from 0 to infinity."""
        near = distances[distances < bound + unit / 2]
        steps, counts = np.unique(np.rint(near / unit).astype(np.int64), return_counts=True)
        return cls(unit, bound, steps, counts, int(distances.size - near.size))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``.

        Raises:
            InputError: the content is no histogram.
        """
        try:
            steps, counts = (np.array(content[name] or np.zeros(0, np.int64)) for name in ("steps", "counts"))
            return cls(float(content["unit"]), float(content["bound"]), steps, counts, int(content["beyond"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"a histogram of distances needs 'unit', 'bound', 'steps', 'counts' and 'beyond': {error!r}"
            ) from error

    @property
    def total(self) -> int:
        """Number of distances."""
        return int(self.counts.sum()) + self.beyond

    def within(self, distance: float) -> int:
        """How many are at most a distance, which is at most the bound."""
        return int(self.counts[self.steps <= round(distance / self.unit)].sum())

    def percentile(self, percent: float) -> float | None:
        """The distance that a percentage is at most; linear between ranks, as numpy's. None if beyond the bound.

        There must be at least one distance.
        """
        place = percent / 100 * (self.total - 1)
        low, high = self._ranked(math.floor(place)), self._ranked(math.ceil(place))
        if low is None or high is None:
            return None
        return low + (high - low) * (place - math.floor(place))

    def to_dict(self) -> dict[str, Any]:
        """The histogram as plain lists and numbers, ready for JSON."""
        lists = {"steps": self.steps.tolist(), "counts": self.counts.tolist()}
        return {"unit": self.unit, "bound": self.bound, **lists, "beyond": self.beyond}

    def __add__(self, other: DistanceHistogram) -> DistanceHistogram:
        if (self.unit, self.bound) != (other.unit, other.bound):
            raise InputError(
                f"distances up to {self.bound} and up to {other.bound}, or in other units, cannot be added;"
                " measure all with the same spacing and bound"
            )
        steps, places = np.unique(np.concatenate([self.steps, other.steps]), return_inverse=True)
        counts = np.zeros(steps.size, np.int64)
        np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
        return DistanceHistogram(self.unit, self.bound, steps, counts, self.beyond + other.beyond)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DistanceHistogram):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.unit, self.bound, self.steps.tobytes(), self.counts.tobytes(), self.beyond))

    def _ranked(self, rank: int) -> float | None:
        """The distance of a rank, from 0, in ascending order; None if it is beyond the bound."""
        place = int(np.searchsorted(self.counts.cumsum(), rank, side="right"))
        return float(self.steps[place]) * self.unit if place < self.steps.size else None
