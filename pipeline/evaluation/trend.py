"""How a metric goes on: the newest value of every volume against a bound, and against that of the previous table.

A *series* is what one checkpoint's path gives on one target, whatever lies at that path: a network that is trained
anew every week goes on in its series. A prediction without a run, whose model is not known, is a series by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.evaluation.record import Evaluation

BELOW, DROPPED = "below", "dropped"
"""Kinds of alerts: less than the bound; fallen by more than is borne."""


class Series(NamedTuple):
    """What is followed over time.

    Attributes:
        model: path of the checkpoint; of a prediction without a run, the prediction.
        target: identity of the target.
        region: the part that was compared.
        ignore: the value that was not counted.
    """

    model: str
    target: str
    region: str | None
    ignore: int | None


@dataclass(frozen=True, slots=True)
class Alert:
    """A metric that somebody is to be told of.

    Attributes:
        kind: ``below`` or ``dropped``.
        metric: its name.
        value: of the newest evaluation.
        limit: the least that it should have been.
        previous: its value in the previous table; None of a bound.
        evaluation: the newest one.
    """

    kind: str
    metric: str
    value: float
    limit: float
    previous: float | None
    evaluation: Evaluation


def series_of(each: Evaluation) -> Series | None:
    """Return the series that an evaluation belongs to; None where it does not tell its target."""
    if each.key is None:
        return None
    model = each.measured.prediction if each.run is None else each.run.model
    return Series(model, each.key.identity, each.key.region, each.key.ignore)


def newest_of_series(evaluations: Iterable[Evaluation]) -> dict[Series, Evaluation]:
    """Return the evaluation of each series whose result was sealed last; the order given does not matter."""
    found = {}
    for each in sorted(evaluations, key=lambda each: each.order):
        if (series := series_of(each)) is not None:
            found[series] = each
    return found


def below(current: Mapping[Series, Evaluation], bounds: Mapping[str, float]) -> list[Alert]:
    """Return what is less than its bound; a metric that is not defined is neither less nor enough."""
    return [
        Alert(BELOW, metric, value, bound, None, each)
        for each in current.values()
        for metric, bound in bounds.items()
        if (value := each.values.get(metric)) is not None and value < bound
    ]


def dropped(
    current: Mapping[Series, Evaluation],
    before: Mapping[Series, Mapping[str, float | None]],
    metrics: Iterable[str],
    drop: float,
) -> list[Alert]:
    """Return what has fallen by more than ``drop``.

    Args:
        current: newest evaluations.
        before: metrics by name of the same series in the previous table.
        metrics: names of those that count.
        drop: most that one may fall.
    """
    found = []
    for metric in metrics:
        for series, each in current.items():
            value, previous = each.values.get(metric), before.get(series, {}).get(metric)
            if value is not None and previous is not None and value < previous - drop:
                found.append(Alert(DROPPED, metric, value, previous - drop, previous, each))
    return found
