"""Variants of one training side by side: means and spreads over seeds, paired differences with intervals.

Every network is measured on the same tiles of the same regions. Two things could have come out otherwise, and they are
told apart: other regions might have been measured (tiles are resampled, both networks alike, so that what is hard for
both does not widen the interval; :mod:`pipeline.evaluation.bootstrap`), and training might have begun at other random
numbers (the difference of each seed is told by itself: a handful of seeds has no interval worth the name).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import (
    Floats,
    Interval,
    Resampling,
    chunk_intervals,
    metric_values,
    resampled_metrics,
)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One network, measured.

    Attributes:
        variant: which one it is of.
        seed: of its training.
        counts: voxels by ``[tile, target class, prediction class]``; tiles are the same for all variants of a seed.
        names: of the classes.
    """

    variant: str
    seed: int
    counts: NDArray[np.int64]
    names: tuple[str, ...]

    def values(self) -> dict[str, float | None]:
        """Return all metrics by name, of the sum over tiles."""
        found = metric_values(self.counts.sum(axis=0, keepdims=True), self.names)
        return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in found.items()}

    def intervals(self, resampling: Resampling) -> dict[str, Interval | None]:
        """Return the interval of each metric over tiles."""
        return chunk_intervals(self.counts, self.names, resampling)


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric of one variant over its seeds.

    Attributes:
        variant: its name.
        metric: the metric's.
        values: by seed; None where it is not defined.
        mean: over the seeds that have one.
        std: their standard deviation (n - 1); None with fewer than two.
    """

    variant: str
    metric: str
    values: Mapping[int, float | None]
    mean: float | None
    std: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A variant minus the base, in one metric.

    Attributes:
        variant: its name.
        metric: the metric's.
        by_seed: of the networks that began at the same seed; None where it is not defined.
        mean: over seeds.
        interval: of the mean, over tiles.
        verdict: ``better`` or ``worse`` where neither the interval nor any seed says otherwise, ``not told apart``, or
            ``no interval``.
    """

    variant: str
    metric: str
    by_seed: Mapping[int, float | None]
    mean: float | None
    interval: Interval | None
    verdict: str


def summarise(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Summary]:
    """Return mean and spread of each metric of each variant, in the order of the trials."""
    found = []
    for variant in dict.fromkeys(each.variant for each in trials):
        values = {each.seed: each.values() for each in trials if each.variant == variant}
        found += [
            _summary(variant, metric, {seed: of[metric] for seed, of in values.items()}) for metric in metrics
        ]
    return found


def compare_variants(
    trials: Sequence[Trial], base: str, metrics: Sequence[str], resampling: Resampling
) -> list[Difference]:
    """Return the difference of every variant to the base, in each metric.

    Args:
        trials: all networks; those of one seed were measured on the same tiles.
        base: name of the variant that the others are compared with.
        metrics: names (:func:`pipeline.evaluation.bootstrap.metric_names`).
        resampling: how intervals are made.
    """
    drawn = {(each.variant, each.seed): _drawn(each, metrics, resampling) for each in trials}
    known = {(each.variant, each.seed): each.values() for each in trials}
    found = []
    for variant in dict.fromkeys(each.variant for each in trials if each.variant != base):
        seeds = [each.seed for each in trials if each.variant == variant and (base, each.seed) in known]
        for metric in metrics:
            by_seed = {s: _minus(known[variant, s][metric], known[base, s][metric]) for s in seeds}
            resampled = [drawn[variant, s][metric] - drawn[base, s][metric] for s in seeds if drawn[base, s]]
            found.append(_difference(variant, metric, by_seed, resampled, resampling))
    return found


def to_json(summaries: Sequence[Summary], differences: Sequence[Difference]) -> dict[str, Any]:
    """Return both, JSON-ready: ``variants`` and ``differences``, with the attributes' names; ``low`` and ``high``."""
    return {
        "variants": [
            {"variant": s.variant, "metric": s.metric, "mean": s.mean, "std": s.std, "by_seed": _keyed(s.values)}
            for s in summaries
        ],
        "differences": [
            {
                "variant": d.variant,
                "metric": d.metric,
                "mean": d.mean,
                "low": d.interval and d.interval[0],
                "high": d.interval and d.interval[1],
                "by_seed": _keyed(d.by_seed),
                "verdict": d.verdict,
            }
            for d in differences
        ],
    }


def _keyed(values: Mapping[int, float | None]) -> dict[str, float | None]:
    return {str(seed): value for seed, value in values.items()}


def _summary(variant: str, metric: str, values: Mapping[int, float | None]) -> Summary:
    known = [value for value in values.values() if value is not None]
    mean = statistics.fmean(known) if known else None
    return Summary(variant, metric, values, mean, statistics.stdev(known) if len(known) > 1 else None)


def _drawn(trial: Trial, metrics: Sequence[str], resampling: Resampling) -> dict[str, Floats]:
    """Return the resampled metrics of a trial; none of one that has a single tile."""
    if len(trial.counts) < 2:
        return {}
    values = resampled_metrics(trial.counts, trial.names, resampling)
    return {metric: values[metric] for metric in metrics}


def _minus(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _difference(
    variant: str,
    metric: str,
    by_seed: Mapping[int, float | None],
    resampled: Sequence[Floats],
    resampling: Resampling,
) -> Difference:
    known = [value for value in by_seed.values() if value is not None]
    mean = statistics.fmean(known) if known else None
    interval = resampling.interval(np.mean(resampled, axis=0)) if known and resampled else None
    return Difference(variant, metric, by_seed, mean, interval, _verdict(known, interval))


def _verdict(by_seed: Sequence[float], interval: Interval | None) -> str:
    if interval is None:
        return "no interval"
    if interval[0] > 0 and min(by_seed) > 0:
        return "better"
    if interval[1] < 0 and max(by_seed) < 0:
        return "worse"
    return "not told apart"
