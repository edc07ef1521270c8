"""The picture of a training: loss and validation over the steps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.training.loop import History

_LOSS, _VALIDATION = "#0072B2", "#D55E00"  # Okabe and Ito (2008): told apart with any form of colour blindness
_DOTS = 400  # most points of the loss that are drawn


def curve_png(history: History, title: str) -> bytes:
    """Draw the learning curve as a PNG of 1200 x 675 pixels.

    Args:
        history: a training of at least one step.
        title: what was trained.
    """
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.set_ylabel("training loss (cross-entropy)", color=_LOSS)
    axes.plot(*_thinned(history.losses), color=_LOSS, linewidth=1.2)
    axes.set_xlim(0, len(history.losses))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    measured = [point for point in history.curve if point["validation"] is not None]
    if measured:
        _draw_validation(axes, measured)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _draw_validation(axes: Axes, points: Sequence[dict[str, Any]]) -> None:
    right = axes.twinx()
    right.set_ylabel("validation, mean IoU", color=_VALIDATION)
    right.set_ylim(0, 1)
    values = [point["validation"]["mean_iou"] for point in points]
    known = [(point["step"], value) for point, value in zip(points, values, strict=True) if value is not None]
    right.plot([s for s, _ in known], [v for _, v in known], color=_VALIDATION, marker="o", markersize=4)
    if known:
        step, value = known[-1]
        right.annotate(f"{value:.3f}", (step, value), (-4, -14), textcoords="offset points", ha="right")


def _thinned(losses: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return steps and losses, as means over runs of steps where there are many."""
    parts = np.array_split(np.arange(len(losses)), min(len(losses), _DOTS))
    values = np.asarray(losses)
    return [float(part.mean()) + 1 for part in parts], [float(values[part].mean()) for part in parts]
