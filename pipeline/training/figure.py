"""Figures of a training: loss and validation over the steps; how sure the network is, and how often right."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.training.learner import History

# Okabe and Ito (2008): told apart with any form of colour blindness.
_LOSS, _VALIDATION, _OTHER = "#0072B2", "#D55E00", "#999999"
_DOTS = 400  # most points of the loss that are drawn


def curve_png(history: History, title: str, *, loss: str = "cross-entropy") -> bytes:
    """Draw the learning curve as a PNG of 1200 x 675 pixels.

    Args:
        history: a training of at least one step.
        title: what was trained.
        loss: what the loss is.
    """
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.set_ylabel(f"training loss ({loss})", color=_LOSS)
    axes.plot(*_thinned(history.losses), color=_LOSS, linewidth=1.2)
    axes.set_xlim(0, len(history.losses))
    axes.set_ylim(bottom=min(0, *history.losses))
    axes.grid(alpha=0.3)
    measured = [point for point in history.curve if point["validation"] is not None]
    if measured:
        _draw_validation(axes, measured, history.best)
    return _png(figure)


def reliability_png(before: Mapping[str, Any], after: Mapping[str, Any], title: str) -> bytes:
    """Draw a reliability diagram (Guo et al. 2017, figure 1) as a PNG of 750 x 750 pixels.

    Args:
        before: what :func:`pipeline.training.calibrate.reliability` gave for the raw logits.
        after: and for those over the temperature.
        title: what was calibrated.
    """
    figure = Figure(figsize=(5, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.plot([0, 1], [0, 1], color=_OTHER, linestyle="--", linewidth=1)
    for found, name, colour in ((before, "raw", _LOSS), (after, "calibrated", _VALIDATION)):
        groups = [each for each in found["reliability"] if each["voxels"]]
        known = [each["mean_probability"] for each in groups], [each["positives"] for each in groups]
        axes.plot(*known, color=colour, marker="o", markersize=4, label=f"{name}: ECE {found['ece']:.3f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    return _png(figure)


def _draw_validation(axes: Axes, points: Sequence[dict[str, Any]], best: int | None) -> None:
    right = axes.twinx()
    right.set_ylabel("validation, mean IoU (thin: classes)", color=_VALIDATION)
    right.set_ylim(0, 1)
    for name in points[-1]["validation"]["classes"]:
        right.plot(*_known(points, name), color=_VALIDATION, alpha=0.35, linewidth=0.8)
    steps, values = _known(points, None)
    right.plot(steps, values, color=_VALIDATION, marker="o", markersize=4)
    if best in steps:
        value = values[steps.index(best)]
        right.annotate(f"best {value:.3f}", (best, value), (-4, -14), textcoords="offset points", ha="right")


def _known(points: Sequence[dict[str, Any]], name: str | None) -> tuple[list[int], list[float]]:
    """Return steps and values of the mean IoU, or of a class's, where it is defined."""
    found = [
        (p["step"], p["validation"]["mean_iou"] if name is None else p["validation"]["classes"][name]["iou"])
        for p in points
    ]
    return [s for s, v in found if v is not None], [v for _, v in found if v is not None]


def _thinned(losses: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return steps and losses, as means over runs of steps where there are many."""
    parts = np.array_split(np.arange(len(losses)), min(len(losses), _DOTS))
    values = np.asarray(losses)
    return [float(part.mean()) + 1 for part in parts], [float(values[part].mean()) for part in parts]


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
