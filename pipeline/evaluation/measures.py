"""What can be measured: of each chunk the statistics, of their sum the metrics. A job chooses from these.

A measure is small and picklable, so that workers have it; statistics are immutable and go through JSON, so that a
chunk's are one small object beside its line in the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from pipeline.errors import ChunkError, InputError
from pipeline.evaluation.calibration import calibration_metrics
from pipeline.evaluation.histograms import CalibrationStatistics
from pipeline.evaluation.keyed import Keyed
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.evaluation.window import Window
from pipeline.geometry import Box

MOST_CLASSES = 256
"""Most classes where nothing names them; more ids than that are objects, not classes."""

MOST_AREAS = 10_000
"""Most areas that are measured apart."""

TOP = -1
"""Stands, among the numbers of classes, for the most probable class and whether it is right."""

Names = Sequence[str]


class Measure(Protocol):
    """One thing that is measured.

    Attributes:
        name: key of its statistics in a chunk's object, and of its metrics.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    def of(self, window: Window) -> Any:
        """Return the statistics of a chunk.

        Raises:
            ChunkError: a counted value is none that this knows.
        """
        ...

    def zero(self) -> Any:
        """Return the statistics of no voxels."""
        ...

    def read(self, content: Mapping[str, Any]) -> Any:
        """Return the statistics that ``to_dict`` made JSON of."""
        ...

    def add(self, total: Any, part: Any) -> Any:
        """Return the sum of statistics, and those of one more chunk."""
        ...

    def metrics(self, total: Any, names: Names) -> Any:
        """Return the metrics of the sum of all chunks' statistics, JSON-ready.

        Args:
            total: the sum.
            names: of the classes.
        """
        ...


class Plain:
    """What most measures have in common."""

    def add(self, total: Any, part: Any) -> Any:
        """Return the sum of statistics, and those of one more chunk."""
        return total + part


@dataclass(frozen=True)
class Classes:
    """The confusion of classes, of which all metrics of classes are made.

    Attributes:
        classes: how many; None for as many as are found.
        objects: whether ids are of objects, so that the classes are background and object.
    """

    classes: int | None
    objects: bool = False
    name = "classes"

    def of(self, window: Window) -> ConfusionStatistics:  # noqa: D102
        prediction, target = (window.select(ids) for ids in (window.prediction, window.target))
        if self.objects:
            prediction, target = prediction != 0, target != 0
        classes = self.classes or _found(prediction, target)
        return replace(ConfusionStatistics.of(prediction, target, classes=classes), ignored=window.ignored)

    def zero(self) -> ConfusionStatistics:  # noqa: D102
        return ConfusionStatistics.zero(self.classes or 1)

    def read(self, content: Mapping[str, Any]) -> ConfusionStatistics:  # noqa: D102
        return ConfusionStatistics.from_dict(content)

    def add(self, total: ConfusionStatistics, part: ConfusionStatistics) -> ConfusionStatistics:  # noqa: D102
        classes = max(total.classes, part.classes)
        return total.padded(classes) + part.padded(classes)

    def metrics(self, total: ConfusionStatistics, names: Names) -> dict[str, Any]:  # noqa: D102
        return metrics(total.padded(len(names)), names)


@dataclass(frozen=True)
class Areas:
    """The confusion of classes in each of several areas.

    Attributes:
        confusion: of the whole.
        labels: names of areas by their number; those without one are called by it.
    """

    confusion: Classes
    labels: Mapping[int, str]
    name = "groups"

    def of(self, window: Window) -> Keyed[ConfusionStatistics]:  # noqa: D102
        areas = window.areas_known.reshape(-1)
        sides = [window.select(ids).reshape(-1) for ids in (window.prediction, window.target)]
        order = np.argsort(areas, kind="stable")
        numbers, starts = np.unique(areas[order], return_index=True)
        ends = np.append(starts[1:], areas.size)[: starts.size]
        if len(numbers) > MOST_AREAS:
            raise ChunkError(_too_many())
        parts = {
            int(number): self.confusion.of(_flat(*(side[order[a:b]] for side in sides)))
            for number, a, b in zip(numbers, starts, ends, strict=True)
            if number
        }
        return Keyed(parts)

    def zero(self) -> Keyed[ConfusionStatistics]:  # noqa: D102
        return Keyed.zero()

    def read(self, content: Mapping[str, Any]) -> Keyed[ConfusionStatistics]:  # noqa: D102
        return Keyed.from_dict(content, ConfusionStatistics.from_dict)

    def add(  # noqa: D102
        self, total: Keyed[ConfusionStatistics], part: Keyed[ConfusionStatistics]
    ) -> Keyed[ConfusionStatistics]:
        both = dict(total.parts)
        for number, each in part.parts.items():
            both[number] = self.confusion.add(both.get(number, self.confusion.zero()), each)
        if len(both) > MOST_AREAS:
            raise InputError(_too_many())
        return Keyed(dict(sorted(both.items())))

    def metrics(self, total: Keyed[ConfusionStatistics], names: Names) -> dict[str, Any]:  # noqa: D102
        found = {}
        for number, part in total.parts.items():
            each = metrics(part.padded(len(names)), names)
            found[self.labels.get(number, f"area {number}")] = {k: v for k, v in each.items() if k != "ignored"}
        return found


@dataclass(frozen=True)
class Probabilities(Plain):
    """Calibration, curves and the best threshold of the probabilities of each class, and of the most probable one.

    Attributes:
        classes: how many; of two, only the second is measured, as the first is the rest.
    """

    classes: int
    name = "probabilities"

    def of(self, window: Window) -> Keyed[CalibrationStatistics]:  # noqa: D102
        assert window.probabilities is not None
        probabilities, target = window.select(window.probabilities), window.select(window.target)
        single = len(probabilities) == 1
        found = {
            number: CalibrationStatistics.of(probabilities[0 if single else number], target, positive=number)
            for number in (range(self.classes) if self.classes > 2 else (1,))
        }
        if not single:
            found[TOP] = CalibrationStatistics.of_top_label(probabilities, target)
        return Keyed({number: replace(each, ignored=window.ignored) for number, each in sorted(found.items())})

    def zero(self) -> Keyed[CalibrationStatistics]:  # noqa: D102
        return Keyed.zero()

    def read(self, content: Mapping[str, Any]) -> Keyed[CalibrationStatistics]:  # noqa: D102
        return Keyed.from_dict(content, CalibrationStatistics.from_dict)

    def metrics(self, total: Keyed[CalibrationStatistics], names: Names) -> dict[str, Any]:  # noqa: D102
        found = {number: calibration_metrics(part) for number, part in total.parts.items()}
        top = found.pop(TOP, None)
        kept = ("voxels", "positives", "brier", "ece", "mce", "reliability", "undefined")
        return {
            "classes": {names[number]: each for number, each in found.items()},
            "top_label": None if top is None else {name: top[name] for name in kept},
        }


def _found(prediction: Any, target: Any) -> int:
    """Return the number of classes that a chunk's ids make necessary."""
    most = {role: int(ids.max(initial=0)) for role, ids in (("prediction", prediction), ("target", target))}
    role, largest = max(most.items(), key=lambda each: each[1])
    if largest >= MOST_CLASSES:
        raise ChunkError(
            f"the {role} holds the value {largest}; ids above {MOST_CLASSES - 1} are objects, not classes. Name the"
            " classes with --classes if they are meant, or compare objects with --instances"
        )
    return largest + 1


def _too_many() -> str:
    return f"--groups: there are more than {MOST_AREAS} areas; are these ids of objects?"


def _flat(prediction: Any, target: Any) -> Window:
    """Return a window of chosen voxels alone."""
    return Window(Box.of_shape(target.shape), (0,), prediction, target)
