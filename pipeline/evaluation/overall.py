"""Everything that a table over many runs says as a whole: each model, models in pairs, and what has dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import AggregateJob
from pipeline.evaluation.bootstrap import Interval, Resampling, mean_interval
from pipeline.evaluation.naming import short_names
from pipeline.evaluation.pairing import (
    ByTarget,
    ModelComparison,
    Pair,
    Unmatched,
    compare,
    newest,
    unknown,
    unmatched,
)
from pipeline.evaluation.record import Evaluation
from pipeline.evaluation.trend import Alert, Series, below, dropped, newest_of_series, series_of


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One metric of one model over its volumes.

    Attributes:
        model: its digest.
        metric: the name.
        volumes: targets on which the metric is defined.
        mean: over them, each counting alike; None where there is none.
        interval: of the mean, over volumes; None with fewer than two.
    """

    model: str
    metric: str
    volumes: int
    mean: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Overall:
    """What many evaluations say together.

    Attributes:
        metrics: names of those that are compared.
        resampling: how intervals are made.
        names: of the models, by digest.
        targets: names of the targets, by their address.
        evaluations: all of them, in the order of their results.
        current: the newest ones by model and target.
        models: each metric of each model.
        comparisons: of every two models that share a target.
        unmatched: evaluations without a partner.
        series: the newest evaluation of each series, and its metrics in the previous table.
        alerts: metrics below their bound, or dropped.
        gone: series that the previous table has and this one has not.
    """

    metrics: tuple[str, ...]
    resampling: Resampling
    names: Mapping[str, str]
    targets: Mapping[str, str]
    evaluations: tuple[Evaluation, ...]
    current: Mapping[str, ByTarget]
    models: tuple[ModelSummary, ...]
    comparisons: tuple[ModelComparison, ...]
    unmatched: tuple[Unmatched, ...]
    series: tuple[tuple[Evaluation, Mapping[str, float | None]], ...]
    alerts: tuple[Alert, ...]
    gone: tuple[Series, ...]

    def model(self, each: Evaluation) -> str:
        """Return the name of an evaluation's model."""
        return "unknown model" if each.model is None else self.names[each.model]

    def target(self, each: Evaluation) -> str:
        """Return the name of what an evaluation was measured on."""
        name = self.targets[each.measured.target]
        return name if each.measured.region is None else f"{name} [{each.measured.region}]"

    def to_json(self) -> dict[str, Any]:
        """Return it JSON-ready.

        Keys: ``metrics``; ``intervals`` (``resamples``, ``confidence``, ``seed``); ``models`` (``model``, ``digest``,
        ``metric``, ``volumes``, ``mean``, ``low``, ``high``); ``comparisons`` (``metric``, ``first``, ``second``,
        ``volumes``, ``difference``, ``low``, ``high``, ``over``, ``pairs``); ``unmatched`` (``source``, ``against``,
        ``why``); ``series`` (``model``, ``target``, ``region``, ``source``, ``sealed``, ``values``, ``previous``);
        ``alerts`` (``kind``, ``metric``, ``model``, ``target``, ``region``, ``value``, ``limit``, ``previous``,
        ``source``, ``text``); ``gone``.
        """
        how = self.resampling
        return {
            "metrics": list(self.metrics),
            "intervals": {"resamples": how.resamples, "confidence": how.confidence, "seed": how.seed},
            "models": [
                {
                    "model": self.names[each.model],
                    "digest": each.model,
                    "metric": each.metric,
                    "volumes": each.volumes,
                    "mean": each.mean,
                    **_ends(each.interval),
                }
                for each in self.models
            ],
            "comparisons": [self._comparison(each) for each in self.comparisons],
            "unmatched": [
                {"source": each.source, "against": each.against and self.names[each.against], "why": each.why}
                for each in self.unmatched
            ],
            "series": [self._series(each, previous) for each, previous in self.series],
            "alerts": [self._alert(each) for each in self.alerts],
            "gone": [each._asdict() for each in self.gone],
        }

    def alert_text(self, each: Alert) -> str:
        """Return an alert as a sentence."""
        where = f"{each.metric} of {self.model(each.evaluation)} on {self.target(each.evaluation)}"
        if each.previous is None:
            return f"{where} is {each.value:.4f}, below its bound {each.limit:g}"
        return f"{where} has dropped from {each.previous:.4f} to {each.value:.4f}"

    def _comparison(self, each: ModelComparison) -> dict[str, Any]:
        return {
            "metric": each.metric,
            "first": self.names[each.first],
            "second": self.names[each.second],
            "volumes": sum(pair.difference is not None for pair in each.pairs),
            "difference": each.difference,
            **_ends(each.interval),
            "over": each.over,
            "pairs": [self._pair(pair, each.metric) for pair in each.pairs],
        }

    def _pair(self, pair: Pair, metric: str) -> dict[str, Any]:
        return {
            "target": pair.first.measured.target,
            "region": pair.first.measured.region,
            "first": pair.first.values.get(metric),
            "second": pair.second.values.get(metric),
            "difference": pair.difference,
            **_ends(pair.interval),
            "sources": [pair.first.source, pair.second.source],
        }

    def _series(self, each: Evaluation, previous: Mapping[str, float | None]) -> dict[str, Any]:
        sealed = each.run.sealed if each.run else None
        return {
            "model": self.model(each),
            "target": each.measured.target,
            "region": each.measured.region,
            "source": each.source,
            "sealed": sealed.isoformat() if sealed else None,
            "values": {metric: each.values.get(metric) for metric in self.metrics},
            "previous": {metric: previous.get(metric) for metric in self.metrics},
        }

    def _alert(self, each: Alert) -> dict[str, Any]:
        series = series_of(each.evaluation)
        assert series is not None  # only series have alerts
        return {
            "kind": each.kind,
            "metric": each.metric,
            "model": series.model,
            "target": each.evaluation.measured.target,
            "region": each.evaluation.measured.region,
            "value": each.value,
            "limit": each.limit,
            "previous": each.previous,
            "source": each.evaluation.source,
            "text": self.alert_text(each),
        }


def overall(
    job: AggregateJob,
    evaluations: Sequence[Evaluation],
    *,
    names: Mapping[str, str],
    before: Mapping[Series, Mapping[str, float | None]],
    resampling: Resampling,
) -> Overall:
    """Work everything out that the evaluations say together; their order does not matter.

    Args:
        job: the settings.
        evaluations: all of them.
        names: of the models, by digest.
        before: metrics of each series in the previous table.
        resampling: how intervals are made.
    """
    evaluations = sorted(evaluations, key=lambda each: each.source)
    found = newest(evaluations)
    current = {digest: found[digest] for digest in sorted(found, key=lambda digest: (names[digest], digest))}
    series = newest_of_series(evaluations)
    watched = sorted({*job.metrics, *job.bounds})
    alerts = below(series, job.bounds)
    if job.drop is not None:
        alerts += dropped(series, before, watched, job.drop)
    return Overall(
        metrics=job.metrics,
        resampling=resampling,
        names=names,
        targets=short_names({each.measured.target for each in evaluations}),
        evaluations=tuple(sorted(evaluations, key=lambda each: each.order)),
        current=current,
        models=tuple(
            _summary(digest, current[digest], metric, resampling) for digest in current for metric in job.metrics
        ),
        comparisons=tuple(compare(current, job.metrics, resampling)),
        unmatched=(*unknown(evaluations), *unmatched(current)),
        series=tuple((series[key], before.get(key, {})) for key in sorted(series, key=str)),
        alerts=tuple(
            sorted(alerts, key=lambda each: (each.value - each.limit, each.metric, each.evaluation.source))
        ),
        gone=tuple(sorted(set(before) - set(series), key=str)),
    )


def _summary(digest: str, targets: ByTarget, metric: str, resampling: Resampling) -> ModelSummary:
    ordered = (targets[key].values.get(metric) for key in sorted(targets, key=str))
    values = [value for value in ordered if value is not None]
    mean = sum(values) / len(values) if values else None
    return ModelSummary(digest, metric, len(values), mean, mean_interval(values, resampling))


def _ends(interval: Interval | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {"low": low, "high": high}
