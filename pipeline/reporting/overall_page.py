"""Many runs as one page: models side by side, their paired differences, the trend, and every row of the table."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.overall import Overall
from pipeline.evaluation.overall_table import BROKEN, EVALUATION, RUN
from pipeline.reporting.overall_plots import difference_plots, metric_plot, trend_plot
from pipeline.reporting.page import template
from pipeline.reporting.words import NO_BREAK, about, duration, ratio

SHOWN = 500
"""Rows of a table on the page at most; the Parquet table has all of them."""

Intervals = Mapping[str, Mapping[str, Interval | None]]


def overall_page(found: Overall, rows: Sequence[Mapping[str, Any]], intervals: Intervals) -> str:
    """Return the page; the same table gives the same page.

    Args:
        found: what the evaluations say together.
        rows: of the table.
        intervals: of each evaluation's metrics, by its place.
    """
    return template("overall.html.j2", "report.css", "overall.css").render(
        headline=_headline(found, rows),
        metrics=found.metrics,
        watched=bool(found.alerts),
        alerts=[found.alert_text(each) for each in found.alerts[:SHOWN]],
        more_alerts=max(0, len(found.alerts) - SHOWN),
        gone=[f"{each.model}: {each.region or 'all'} of target {each.target[:12]}" for each in found.gone[:SHOWN]],
        models=_models(found),
        comparisons=_comparisons(found),
        metric_plot=metric_plot(found, intervals),
        difference_plots=difference_plots(found),
        trend_plot=trend_plot(found),
        rows=[_row(found, row) for row in rows if row["kind"] != BROKEN][:SHOWN],
        more_rows=max(0, sum(row["kind"] != BROKEN for row in rows) - SHOWN),
        broken=[(row["source"], row["note"]) for row in rows if row["kind"] == BROKEN][:SHOWN],
        unmatched=[
            (each.source, found.names[each.against] if each.against else "any other", each.why)
            for each in found.unmatched[:SHOWN]
        ],
        more_unmatched=max(0, len(found.unmatched) - SHOWN),
        resampling=found.resampling,
        version=importlib.metadata.version("overtile"),
    )


def _headline(found: Overall, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the figures that stand at the top: value, and what it is."""
    counts = [(sum(row["kind"] == kind for row in rows), what) for kind, what in _KINDS.items()]
    targets = {key.identity for each in found.current.values() for key in each}
    shown = [counts[0], (len(found.names), "models"), (len(targets), "volumes with a target"), *counts[1:]]
    return [(str(count), what) for count, what in shown if count or what in ("evaluations", "models")]


_KINDS = {EVALUATION: "evaluations", RUN: "runs without an evaluation", BROKEN: "that cannot be read"}


def _models(found: Overall) -> list[dict[str, Any]]:
    """Return each model with its metrics over its volumes."""
    return [
        {
            "name": found.names[digest],
            "digest": digest,
            "volumes": len(targets),
            "cells": [_cell(each.mean, each.interval) for each in found.models if each.model == digest],
        }
        for digest, targets in found.current.items()
    ]


def _comparisons(found: Overall) -> list[dict[str, Any]]:
    return [
        {
            "metric": each.metric,
            "first": found.names[each.first],
            "second": found.names[each.second],
            "pairs": sum(pair.difference is not None for pair in each.pairs),
            "difference": _signed(each.difference),
            "interval": _range(each.interval, signed=True),
            "over": each.over or "–",
            "verdict": _verdict(each.interval),
        }
        for each in found.comparisons
    ]


def _verdict(interval: Interval | None) -> str:
    """Return what an interval of a difference says."""
    if interval is None:
        return "no interval"
    low, high = interval
    return "second is better" if low > 0 else "first is better" if high < 0 else "not told apart"


def _row(found: Overall, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row as the page shows it."""
    target = row.get("target")
    name = found.targets[target] if target else (row.get("volume") or "–")
    ends = ((row.get(f"low_{metric}"), row.get(f"high_{metric}")) for metric in found.metrics)
    cells = [
        _cell(row.get(metric), None if low is None or high is None else (low, high))
        for metric, (low, high) in zip(found.metrics, ends, strict=True)
    ]
    speed, seconds = row.get("voxels_per_second"), row.get("seconds")
    return {
        "name": f"{name} [{row['region']}]" if row.get("region") else name,
        "model": row.get("model") or "–",
        "state": row.get("state") or "–",
        "chunks": _chunks(row),
        "cells": cells,
        "seconds": "–" if seconds is None else duration(seconds),
        "speed": "" if speed is None else f"{about(speed)} voxels/s",
        "sealed": f"{row['sealed']:%Y-%m-%d %H:%M}" if row.get("sealed") else "–",
        "source": row["source"],
        "note": row.get("note") or "",
    }


def _chunks(row: Mapping[str, Any]) -> str:
    """Return the chunks of a run: how many are done of how many, and what else became of them."""
    if row.get("chunks") is None:
        return ""
    rest = [f"{row[state]:,}{NO_BREAK}{state}" for state in ("failed", "skipped", "pending") if row[state]]
    return ", ".join([f"{row['done']:,}{NO_BREAK}of{NO_BREAK}{row['chunks']:,}", *rest])


def _cell(value: float | None, interval: Interval | None) -> tuple[str, str]:
    """Return a value and its interval, as texts."""
    return ratio(value), _range(interval) if value is not None else ""


def _range(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return ""
    low, high = (_signed(end) if signed else ratio(end) for end in interval)
    return f"{low}{NO_BREAK}to{NO_BREAK}{high}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}".replace("-", "−")
