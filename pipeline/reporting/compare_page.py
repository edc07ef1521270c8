"""A comparison of trainings as one page: how good each variant is, what it changes, and how it learnt."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.reporting.page import template
from pipeline.reporting.plots import Course, Dot, Plot, dot_plot, step_plot
from pipeline.reporting.words import NO_BREAK, duration, ratio

Document = Mapping[str, Any]
Curve = tuple[str, Sequence[Mapping[str, Any]]]

MEAN = "mean over seeds"


def compare_page(found: Document, curves: Sequence[Curve]) -> str:
    """Return the page; the same comparison gives the same page.

    Args:
        found: what :func:`pipeline.jobs.comparing.summary.summarise_all` returns.
        curves: of each trial its variant and the points of its learning curve (``step``, ``loss``,
            ``validation_mean_iou``).
    """
    names = list(dict.fromkeys(each["variant"] for each in found["variants"]))
    return template("compare.html.j2", "report.css", "overall.css").render(
        headline=_headline(found, names),
        metrics=found["metrics"],
        variants=[_variant(found, name) for name in names],
        differences=[_difference(each) for each in found["differences"]],
        metric_plot=_metric_plot(found, names),
        loss_plot=_curve_plot(curves, names, "loss", "training loss"),
        learning_plot=_curve_plot(curves, names, "validation_mean_iou", "validation mean IoU"),
        trials=[_trial(found, each) for each in found["trials"]],
        plan=[(each["name"], _short(each["value"]), each["reason"]) for each in found["plan"]],
        by_exam=found["exam"] == "exam",
        intervals=found["intervals"],
        version=importlib.metadata.version("overtile"),
    )


def _headline(found: Document, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the figures that stand at the top: value, and what it is."""
    seeds = {each["seed"] for each in found["trials"]}
    seconds = sum(each["seconds"] for each in found["trials"])
    told = sum(
        d["verdict"] in ("better", "worse") for d in found["differences"] if d["metric"] == found["metrics"][0]
    )
    return [
        (str(len(names)), "variants, with the base"),
        (str(len(seeds)), "seeds each"),
        (str(told), "told apart from the base"),
        (duration(seconds), "of training"),
    ]


def _variant(found: Document, name: str) -> dict[str, Any]:
    """Return one variant with its metrics, and what its networks cost."""
    trials = [each for each in found["trials"] if each["variant"] == name]
    cells = [
        (ratio(each["mean"]), "" if each["std"] is None else f"±{NO_BREAK}{ratio(each['std'])}")
        for each in found["variants"]
        if each["variant"] == name
    ]
    return {
        "name": name,
        "changes": _short(found["changes"].get(name, {})) if name in found["changes"] else "the job itself",
        "cells": cells,
        "seeds": len(trials),
        "parameters": trials[0]["parameters"],
        "steps": sum(each["steps"] for each in trials) // len(trials),
        "seconds": duration(sum(each["seconds"] for each in trials) / len(trials)),
    }


def _difference(each: Mapping[str, Any]) -> dict[str, str]:
    ends = [each["low"], each["high"]]
    return {
        "variant": each["variant"],
        "metric": each["metric"],
        "mean": _signed(each["mean"]),
        "interval": "" if ends[0] is None else f"{NO_BREAK}to{NO_BREAK}".join(map(_signed, ends)),
        "by_seed": ", ".join(_signed(value) for value in each["by_seed"].values()),
        "verdict": each["verdict"],
    }


def _trial(found: Document, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one network as the page shows it."""
    return {
        "name": f"{row['variant']}, seed {row['seed']}",
        "checkpoint": row["checkpoint"],
        "cells": [(ratio(row[metric]), "") for metric in found["metrics"]],
        "steps": row["steps"],
        "kept": row["kept_step"],
        "seconds": duration(row["seconds"]),
        "waited": f"{row['waited'] / max(row['seconds'], 1e-9):.1%}",
    }


def _metric_plot(found: Document, names: Sequence[str]) -> Plot | None:
    """Return the first metric of each variant: its mean with the range of its seeds, and each seed."""
    metric, dots = found["metrics"][0], []
    for each in (each for each in found["variants"] if each["metric"] == metric and each["mean"] is not None):
        values = [value for value in each["by_seed"].values() if value is not None]
        dots.append(Dot(each["variant"], 0, each["mean"], min(values), max(values)))
    if not dots:
        return None
    text = f"{metric} of {len(names)} variants: mean and range over seeds; the numbers are in the tables"
    return dot_plot(dots, groups=[MEAN], label=metric, text=text)


def _curve_plot(curves: Sequence[Curve], names: Sequence[str], key: str, label: str) -> Plot | None:
    """Return a value over steps, a line a training; None where no training has it."""
    courses = []
    for variant, points in curves:
        known = [(point["step"], point[key]) for point in points if point[key] is not None]
        if known:
            steps, values = zip(*known, strict=True)
            courses.append(Course(names.index(variant), steps, values))
    if not courses:
        return None
    return step_plot(
        courses, groups=names, label=label, text=f"{label} of {len(courses)} trainings over their steps"
    )


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}".replace("-", "−")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
