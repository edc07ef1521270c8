"""Which values the plots of many runs show; how they are drawn is in :mod:`pipeline.reporting.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.naming import short_names
from pipeline.evaluation.overall import Overall
from pipeline.evaluation.pairing import ModelComparison
from pipeline.evaluation.record import Evaluation
from pipeline.evaluation.trend import Series, series_of
from pipeline.reporting.plots import Dot, Line, Plot, difference_plot, dot_plot, numbered, time_plot

MOST_ROWS, MOST_PLOTS, MOST_MODELS = 30, 6, 8
"""Volumes of a plot, plots of differences and models of a plot at most; the table has everything."""

MEAN = "mean over volumes"

Intervals = Mapping[str, Mapping[str, Interval | None]]


def metric_plot(found: Overall, intervals: Intervals) -> Plot | None:
    """Return the first metric of each model on each volume, with intervals; None where there is nothing to draw."""
    metric, models = found.metrics[0], list(found.current)[:MOST_MODELS]
    summaries = {each.model: each for each in found.models if each.metric == metric}
    measured = [(n, each) for n, digest in enumerate(models) for each in found.current[digest].values()]
    names = _row_names(found, [each for _, each in measured], metric)
    dots = [_dot(MEAN, n, summaries[digest].mean, summaries[digest].interval) for n, digest in enumerate(models)]
    dots += [
        _dot(name, n, each.values.get(metric), intervals[each.source].get(metric))
        for row, name in names.items()
        for n, each in measured
        if found.target(each) == row
    ]
    known = [dot for dot in dots if dot is not None]
    if not known:
        return None
    text = (
        f"{metric} of {len(models)} models on {len(names)} volumes, with intervals; the numbers are in the tables"
    )
    groups = [found.names[digest] for digest in models]
    return dot_plot(known, groups=groups, label=metric, text=text, summary=MEAN)


def difference_plots(found: Overall) -> list[tuple[str, Plot]]:
    """Return the paired differences of every two models by the first metric: what is subtracted, and its plot."""
    shown = [each for each in found.comparisons if each.metric == found.metrics[0] and each.difference is not None]
    return [_difference_plot(found, each) for each in shown[:MOST_PLOTS]]


def trend_plot(found: Overall) -> Plot | None:
    """Return the first metric over time, a line a series; None unless some series has two results."""
    metric = found.metrics[0]
    series: dict[Series, list[Evaluation]] = {}
    for each in found.evaluations:
        if each.run is not None and each.run.sealed is not None and (key := series_of(each)) is not None:
            series.setdefault(key, []).append(each)
    if all(len({each.order[0] for each in several}) < 2 for several in series.values()):
        return None
    paths = sorted({key.model for key in series})[:MOST_MODELS]
    lines = [
        _line(paths.index(key.model), several, metric) for key, several in series.items() if key.model in paths
    ]
    drawn = [line for line in lines if line.values]
    text = f"{metric} of {len(series)} series over the time at which their results were sealed"
    return time_plot(drawn, groups=_path_names(paths), label=metric, text=text) if drawn else None


def _path_names(paths: Sequence[str]) -> list[str]:
    """Return short names of the paths of checkpoints."""
    names = short_names(paths)
    return list(numbered([names[path].removesuffix(".safetensors") for path in paths]))


def _line(group: int, several: Sequence[Evaluation], metric: str) -> Line:
    known = [
        (each.run.sealed, value)
        for each in several
        if each.run and each.run.sealed and (value := each.values.get(metric)) is not None
    ]
    return Line(group, tuple(time for time, _ in known), tuple(value for _, value in known))


def _difference_plot(found: Overall, each: ModelComparison) -> tuple[str, Plot]:
    first, second = found.names[each.first], found.names[each.second]
    names = _row_names(found, [pair.first for pair in each.pairs], each.metric)
    dots = [_dot(MEAN, 0, each.difference, each.interval)]
    for pair in sorted(each.pairs, key=lambda pair: found.target(pair.first)):
        if (row := found.target(pair.first)) in names:
            dots.append(_dot(names[row], 0, pair.difference, pair.interval))
    text = f"Paired differences in {each.metric}, {second} minus {first}, with their intervals"
    known = [dot for dot in dots if dot is not None]
    return f"{second} minus {first}", difference_plot(
        known, label=f"difference in {each.metric}", text=text, summary=MEAN
    )


def _row_names(found: Overall, several: Sequence[Evaluation], metric: str) -> dict[str, str]:
    """Return the names of the rows of a plot, by target: those with the lowest values where there are many."""
    lowest: dict[str, float] = {}
    for each in several:
        value = each.values.get(metric)
        name = found.target(each)
        lowest[name] = min(lowest.get(name, 2.0), 2.0 if value is None else value)
    chosen = sorted(sorted(lowest, key=lambda name: (lowest[name], name))[:MOST_ROWS])
    return dict(zip(chosen, numbered(chosen), strict=True))


def _dot(row: str, group: int, value: float | None, interval: Interval | None) -> Dot | None:
    if value is None:
        return None
    low, high = interval or (value, value)
    return Dot(row, group, value, low, high)
