"""Models side by side on the same targets: paired differences with intervals, and what has no partner.

Two evaluations are a pair where they share the target, the region and what was counted (:class:`TargetKey`). A
difference is that of the second model to the first one: above zero, the second one is better. Over several volumes
the pairs are resampled; of one volume alone its chunks are, if both predictions were cut alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from pipeline.evaluation.bootstrap import Floats, Interval, Resampling, mean_interval, resampled_metrics
from pipeline.evaluation.record import Evaluation, TargetKey

ByTarget = Mapping[TargetKey, Evaluation]

Drawn = Mapping[str, Mapping[str, Floats]]
"""Resampled metrics by evaluation and name."""

_DIFFERING = {
    "region": "another region",
    "ignore": "another ignored value",
    "names": "other classes",
    "voxels": "its target has changed in between: the classes' voxels differ",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models on one target.

    Attributes:
        first: evaluation of the first model.
        second: evaluation of the second one.
        difference: of the metric, second minus first; None where it is not defined in one of them.
        interval: of the difference, over chunks; None where the two were not cut alike, or there is one chunk.
    """

    first: Evaluation
    second: Evaluation
    difference: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """Two models by one metric.

    Attributes:
        metric: its name.
        first: digest of the first model.
        second: digest of the second one.
        pairs: all targets that both were measured on.
        difference: mean over the pairs that have one; None where none has.
        interval: of it.
        over: what was resampled for the interval, ``volumes`` or ``chunks``; None without one.
    """

    metric: str
    first: str
    second: str
    pairs: tuple[Pair, ...]
    difference: float | None
    interval: Interval | None
    over: str | None


@dataclass(frozen=True, slots=True)
class Unmatched:
    """An evaluation that a comparison leaves out.

    Attributes:
        source: of the evaluation.
        against: digest of the model that it is not compared with; None for all.
        why: the reason, for a person.
    """

    source: str
    against: str | None
    why: str


def newest(evaluations: Iterable[Evaluation]) -> dict[str, dict[TargetKey, Evaluation]]:
    """Return, by model and target, the evaluation of the result that was sealed last.

    Evaluations whose model or target is not known are left out, see :func:`unknown`. The order of the evaluations
    does not matter.
    """
    found: dict[str, dict[TargetKey, Evaluation]] = {}
    for each in sorted(evaluations, key=lambda each: each.order):
        if each.model is not None and each.key is not None:
            found.setdefault(each.model, {})[each.key] = each
    return found


def unknown(evaluations: Iterable[Evaluation]) -> list[Unmatched]:
    """Return the evaluations that cannot be compared with any other."""
    found = []
    for each in evaluations:
        if each.model is None:
            found.append(Unmatched(each.source, None, "the prediction has no run that tells its model"))
        elif each.key is None:
            found.append(Unmatched(each.source, None, "it does not tell its target; evaluate again"))
    return found


def compare(
    models: Mapping[str, ByTarget], metrics: Sequence[str], resampling: Resampling
) -> list[ModelComparison]:
    """Return every two models that share a target, by every metric.

    Args:
        models: evaluations by model and target; of two models the one that comes first is the first one.
        metrics: names, as in :attr:`Evaluation.values`; one that an evaluation lacks is not defined there.
        resampling: how intervals are made.
    """
    drawn = _drawn(models, metrics, resampling)
    found = []
    for first, second in combinations(models, 2):
        shared = sorted(set(models[first]) & set(models[second]), key=str)
        for metric in metrics if shared else ():
            pairs = [_pair(models[first][key], models[second][key], metric, drawn, resampling) for key in shared]
            found.append(_comparison(metric, first, second, pairs, resampling))
    return found


def unmatched(models: Mapping[str, ByTarget]) -> list[Unmatched]:
    """Return, for every two models, the evaluations of one whose target the other was not measured on."""
    found = []
    for one, other in ((a, b) for a in models for b in models if a != b):
        for key in sorted(set(models[one]) - set(models[other]), key=str):
            found.append(Unmatched(models[one][key].source, other, _reason(key, models[other])))
    return found


def _reason(key: TargetKey, others: Iterable[TargetKey]) -> str:
    """Return why a target has no partner, by the nearest of the others."""
    near = [each for each in others if each.identity == key.identity]
    differing = [[name for name in _DIFFERING if getattr(each, name) != getattr(key, name)] for each in near]
    if not differing:
        return "the other model was not evaluated on this target"
    return "evaluated, but with " + ", ".join(_DIFFERING[name] for name in min(differing, key=len))


def _drawn(models: Mapping[str, ByTarget], metrics: Sequence[str], resampling: Resampling) -> Drawn:
    """Return the resampled metrics of each evaluation that has a partner and several chunks: each one is made once."""
    times = Counter(key for targets in models.values() for key in targets)
    found = {}
    for each in (each for targets in models.values() for key, each in targets.items() if times[key] > 1):
        if len(each.counts.counts) > 1:
            values = resampled_metrics(each.counts.counts, each.counts.names, resampling)
            found[each.source] = {metric: values[metric] for metric in metrics if metric in values}
    return found


def _pair(first: Evaluation, second: Evaluation, metric: str, drawn: Drawn, resampling: Resampling) -> Pair:
    """Return two evaluations of one target as a pair; drawn alike, so that the difference is paired too."""
    before, after = first.values.get(metric), second.values.get(metric)
    if before is None or after is None:
        return Pair(first, second, None, None)
    interval = None
    if first.source in drawn and first.counts.is_paired_with(second.counts):
        interval = resampling.interval(drawn[second.source][metric] - drawn[first.source][metric])
    return Pair(first, second, after - before, interval)


def _comparison(
    metric: str, first: str, second: str, pairs: Sequence[Pair], resampling: Resampling
) -> ModelComparison:
    known = [pair for pair in pairs if pair.difference is not None]
    differences = [pair.difference for pair in known if pair.difference is not None]
    mean = sum(differences) / len(differences) if differences else None
    interval, over = mean_interval(differences, resampling), "volumes"
    if len(known) == 1:
        interval, over = known[0].interval, "chunks"
    return ModelComparison(metric, first, second, tuple(pairs), mean, interval, over if interval else None)
