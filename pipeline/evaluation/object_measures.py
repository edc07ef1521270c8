"""What can be measured of objects and their outlines, beside classes: see :mod:`pipeline.evaluation.measures`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.boundaries import Outline, OutlineStatistics, boundary_metrics
from pipeline.evaluation.contingency import ContingencyTable, Tables
from pipeline.evaluation.instances import instance_metrics
from pipeline.evaluation.isbi import IsbiStatistics, isbi_metrics
from pipeline.evaluation.keyed import Keyed
from pipeline.evaluation.measures import Names, Plain
from pipeline.evaluation.partitions import PartitionSums, partition_metrics
from pipeline.evaluation.window import Window


@dataclass(frozen=True)
class Boundary(Plain):
    """The outline of each class but class 0.

    Attributes:
        outline: how it is measured.
        tolerances: of surface Dice.
        objects: whether ids are of objects: then the outline of all of them together.
    """

    outline: Outline
    tolerances: tuple[float, ...]
    objects: bool = False
    name = "boundary"

    def of(self, window: Window) -> Keyed[OutlineStatistics]:  # noqa: D102
        known = window.known
        prediction, target = window.prediction, window.target
        if self.objects:
            prediction, target = prediction != 0, target != 0
        seen = {int(n) for ids in (prediction, target) for n in np.unique(ids if known is None else ids[known])}
        return Keyed(
            {
                number: OutlineStatistics.of(
                    prediction, target, positive=number, outline=self.outline, core=window.core, known=known
                )
                for number in sorted(seen - {0})
            }
        )

    def zero(self) -> Keyed[OutlineStatistics]:  # noqa: D102
        return Keyed.zero()

    def read(self, content: Mapping[str, Any]) -> Keyed[OutlineStatistics]:  # noqa: D102
        return Keyed.from_dict(content, OutlineStatistics.from_dict)

    def metrics(self, total: Keyed[OutlineStatistics], names: Names) -> dict[str, Any]:  # noqa: D102
        nothing = OutlineStatistics.zero(self.outline)
        classes = {
            names[number]: boundary_metrics(total.parts.get(number, nothing), tolerances=self.tolerances)
            for number in range(1, len(names))
        }
        return {"width": self.outline.width, "bound": self.outline.bound, "classes": classes}


@dataclass(frozen=True)
class Instances:
    """Objects of both sides, matched, and how both divide space.

    Attributes:
        thresholds: IoU above which two objects match.
    """

    thresholds: tuple[float, ...]
    name = "instances"

    def of(self, window: Window) -> ContingencyTable:  # noqa: D102
        return ContingencyTable.of(window.select(window.prediction), window.select(window.target))

    def zero(self) -> Tables:  # noqa: D102
        return Tables()

    def read(self, content: Mapping[str, Any]) -> ContingencyTable:  # noqa: D102
        return ContingencyTable.from_dict(content)

    def add(self, total: Tables, part: ContingencyTable) -> Tables:  # noqa: D102
        return total.add(part)

    def metrics(self, total: Tables, names: Names) -> dict[str, Any]:  # noqa: D102
        table = total.merged()
        return {
            **instance_metrics(table, thresholds=self.thresholds),
            "partition": partition_metrics(PartitionSums.of(table)),
            "partition_of_foreground": partition_metrics(PartitionSums.of_foreground(table)),
        }


@dataclass(frozen=True)
class Isbi(Plain):
    """The measures of ISBI 2012, slice by slice.

    Attributes:
        interior: class of the interior of cells; all others are membranes.
    """

    interior: int
    name = "isbi"

    def of(self, window: Window) -> IsbiStatistics:  # noqa: D102
        found, target = self._interior(window), (window.target == self.interior)[window.core.slices]
        if target.ndim == 2:
            return IsbiStatistics.of(found, target, number=0)
        return IsbiStatistics.of_stack(found, target, first=window.start[0] + window.core.start[0])

    def zero(self) -> IsbiStatistics:  # noqa: D102
        return IsbiStatistics.zero()

    def read(self, content: Mapping[str, Any]) -> IsbiStatistics:  # noqa: D102
        return IsbiStatistics.from_dict(content)

    def metrics(self, total: IsbiStatistics, names: Names) -> dict[str, Any]:  # noqa: D102
        return {"interior": names[self.interior], **isbi_metrics(total)}

    def _interior(self, window: Window) -> Any:
        """Return the probability of interior in the core."""
        probabilities, slices = window.probabilities, window.core.slices
        if probabilities is None:
            return (window.prediction == self.interior)[slices].astype(np.float64)
        if len(probabilities) > 1:
            return probabilities[self.interior][slices]
        one = probabilities[0][slices]
        return one if self.interior else one.dtype.type(255 if one.dtype == np.uint8 else 1) - one
