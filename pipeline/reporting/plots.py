"""Plots of metrics as pictures that a page can hold in itself, drawn twice: for light pages and for dark ones.

Models differ by colour and by marker, so that no plot needs colours to be told apart. Names are put in as plain text:
no name is taken for a formula, and a letter that the font lacks is drawn as a box.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

WIDTH, DPI = 8.6, 170
"""Inches and pixels an inch of a plot."""

LONGEST = 38
"""Letters of a name at most."""

_MARKERS = "osD^vPX*"
_BOX = "\u25af"


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a plot.

    Attributes:
        ink: of texts.
        soft: of axes and their numbers.
        line: of the grid.
        models: of the models; with more models than colours they begin again, with other markers.
    """

    ink: str
    soft: str
    line: str
    models: tuple[str, ...]


LIGHT = Theme("#16191d", "#59616b", "#d5d7d3", ("#0068a3", "#c2410c", "#00734f", "#8e3a80", "#8a6100", "#4b5563"))
DARK = Theme("#e9ecef", "#9ba5af", "#343b43", ("#62b5ec", "#f0844a", "#5fd0a5", "#e0a3d4", "#e6c229", "#b6c0ca"))


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with its interval.

    Attributes:
        row: name of its row.
        group: which model, by its number.
        value: the value.
        low: lower end of its interval; equal to the value where there is none.
        high: upper end.
    """

    row: str
    group: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """Values over time.

    Attributes:
        group: which model, by its number.
        times: when, in order.
        values: one for each time.
    """

    group: int
    times: tuple[datetime, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Course:
    """Values over the steps of a training.

    Attributes:
        group: which model, by its number.
        steps: at which there is a value, in order.
        values: one for each of them.
    """

    group: int
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot for a page.

    Attributes:
        light: data URI for light pages.
        dark: data URI for dark pages.
        width: in pixels of the page.
        height: in pixels of the page.
        text: what it shows, for those who do not see it.
    """

    light: str
    dark: str
    width: int
    height: int
    text: str


def dot_plot(
    dots: Sequence[Dot], *, groups: Sequence[str], label: str, text: str, summary: str | None = None
) -> Plot:
    """Draw values with intervals: a row for each name, top down in the order given, a marker for each model.

    Args:
        dots: at least one.
        groups: names of the models.
        label: of the axis.
        text: what the plot shows.
        summary: name of a row that is set apart from the others.
    """
    rows = list(dict.fromkeys(dot.row for dot in dots))

    def draw(axes: Axes, theme: Theme) -> None:
        spread = min(0.5, 0.18 * (len(groups) - 1))
        for dot in dots:
            shift = spread * (dot.group / max(1, len(groups) - 1) - 0.5)
            _draw_dot(axes, dot, rows.index(dot.row) + shift, theme, strong=dot.row == summary)
        if summary in rows:
            axes.axhline(rows.index(summary) + 0.5, color=theme.soft, linewidth=0.8)
        _name_rows(axes, rows)
        axes.set_xlabel(label, color=theme.ink, parse_math=False)
        _draw_legend(axes, groups, theme)

    return _plot(draw, 1.2 + len(rows) * max(0.32, 0.17 * len(groups)), text)


def difference_plot(dots: Sequence[Dot], *, label: str, text: str, summary: str) -> Plot:
    """Draw differences with intervals against zero, a row for each name.

    Args:
        dots: at least one; all in one colour.
        label: of the axis.
        text: what the plot shows.
        summary: name of the row that is set apart.
    """
    rows = list(dict.fromkeys(dot.row for dot in dots))

    def draw(axes: Axes, theme: Theme) -> None:
        axes.axvline(0, color=theme.ink, linewidth=1)
        for dot in dots:
            _draw_dot(axes, dot, rows.index(dot.row), theme, strong=dot.row == summary)
        if summary in rows:
            axes.axhline(rows.index(summary) + 0.5, color=theme.soft, linewidth=0.8)
        _name_rows(axes, rows)
        low, high = min(0, *(dot.low for dot in dots)), max(0, *(dot.high for dot in dots))
        room = 0.08 * max(high - low, 1e-3)
        axes.set_xlim(low - room, high + room)
        axes.set_xlabel(label, color=theme.ink, parse_math=False)

    return _plot(draw, 0.9 + len(rows) * 0.32, text)


def time_plot(lines: Sequence[Line], *, groups: Sequence[str], label: str, text: str) -> Plot:
    """Draw values over time, a line for each volume in the colour of its model.

    Args:
        lines: at least one.
        groups: names of the models.
        label: of the axis.
        text: what the plot shows.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        for line in lines:
            colour, marker = _style(line.group, theme)
            times = [date2num(time) for time in line.times]
            axes.plot(times, line.values, linewidth=1.2, markersize=5, alpha=0.85, color=colour, marker=marker)
        locator = AutoDateLocator(minticks=3, maxticks=7)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.margins(x=0.05, y=0.12)
        axes.grid(axis="y", color=theme.line, linewidth=0.8)
        axes.set_ylabel(label, color=theme.ink, parse_math=False)
        axes.xaxis.get_offset_text().set_color(theme.soft)
        _draw_legend(axes, groups, theme)

    return _plot(draw, 3.4, text)


def step_plot(
    courses: Sequence[Course], *, groups: Sequence[str], label: str, text: str, across: str = "step"
) -> Plot:
    """Draw values over steps, a line for each training in the colour of its model.

    Args:
        courses: at least one.
        groups: names of the models.
        label: of the axis.
        text: what the plot shows.
        across: what the steps are.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        for each in courses:
            colour, marker = _style(each.group, theme)
            axes.plot(each.steps, each.values, linewidth=1.2, markersize=4, alpha=0.8, color=colour, marker=marker)
        axes.margins(x=0.05, y=0.12)
        axes.grid(axis="y", color=theme.line, linewidth=0.8)
        axes.set_xlabel(across, color=theme.ink)
        axes.set_ylabel(label, color=theme.ink, parse_math=False)
        _draw_legend(axes, groups, theme)

    return _plot(draw, 3.6, text)


def drawable(name: str) -> str:
    """Return a name as the plots' font can draw it: on one line, not too long, unknown letters as boxes."""
    known = get_font(findfont(FontProperties())).get_charmap()
    text = "".join(c if c.isprintable() and ord(c) in known else _BOX for c in name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2 - 1]}…{text[-LONGEST // 2 :]}"


def _draw_dot(axes: Axes, dot: Dot, y: float, theme: Theme, *, strong: bool) -> None:
    colour, marker = _style(dot.group, theme)
    axes.plot([dot.low, dot.high], [y, y], color=colour, linewidth=2.4 if strong else 1.6, alpha=0.75)
    axes.plot([dot.value], [y], linestyle="none", markersize=8 if strong else 6, color=colour, marker=marker)


def _style(group: int, theme: Theme) -> tuple[str, str]:
    """Return colour and marker of a model."""
    return theme.models[group % len(theme.models)], _MARKERS[group % len(_MARKERS)]


def _name_rows(axes: Axes, rows: Sequence[str]) -> None:
    axes.set_yticks(range(len(rows)), [drawable(row) for row in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _draw_legend(axes: Axes, groups: Sequence[str], theme: Theme) -> None:
    handles = []
    for group in range(len(groups)):
        colour, marker = _style(group, theme)
        handles += axes.plot([], [], linestyle="none", markersize=6, color=colour, marker=marker)
    legend = axes.legend(
        handles,
        [drawable(group) for group in groups],
        loc="lower left",
        bbox_to_anchor=(0, 1.01),
        ncols=3,
        frameon=False,
        borderaxespad=0,
        handletextpad=0.2,
        labelcolor=theme.ink,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _plot(draw: Callable[[Axes, Theme], None], height: float, text: str) -> Plot:
    light, dark = (_png(draw, height, theme) for theme in (LIGHT, DARK))
    return Plot(light, dark, round(WIDTH * 100), round(height * 100), text)


def _png(draw: Callable[[Axes, Theme], None], height: float, theme: Theme) -> str:
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.grid(axis="x", color=theme.line, linewidth=0.8)
    axes.set_axisbelow(True)
    draw(axes, theme)
    axes.tick_params(colors=theme.soft, length=0)
    axes.tick_params(axis="y", labelcolor=theme.ink)
    for spine in axes.spines.values():
        spine.set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def numbered(names: Sequence[str]) -> Iterator[str]:
    """Yield names as :func:`drawable` gives them, each one once: what looks alike gets its number."""
    drawn = [drawable(name) for name in names]
    for number, name in enumerate(drawn, start=1):
        yield name if drawn.count(name) == 1 else f"{name} ({number})"
