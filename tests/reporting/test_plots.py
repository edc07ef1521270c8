import base64
import io
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from pipeline.reporting.plots import (
    DARK,
    LIGHT,
    LONGEST,
    Dot,
    Line,
    difference_plot,
    dot_plot,
    drawable,
    numbered,
    time_plot,
)

EVIL = ["$x_{1$ $", "a\nb\tc", "漢字\U0001f600", "\\frac", "", "_private", "x" * 500, "<b>&amp;"]


def picture(uri):
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def has(image, colour):
    rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return bool(((image[..., :3] == rgb).all(axis=-1) & (image[..., 3] == 255)).any())


def check(plot, groups):
    """It is drawn in the colours of both themes, on nothing, in the size that it says."""
    for uri, theme in ((plot.light, LIGHT), (plot.dark, DARK)):
        image = picture(uri)
        assert image[0, 0, 3] == 0, "transparent"
        assert image.shape[1] / image.shape[0] == pytest.approx(plot.width / plot.height, rel=0.02)
        assert all(has(image, theme.models[group]) for group in range(groups))
        assert not has(image, "#ffffff")


def dots(names, groups=2):
    return [Dot(name, g, 0.5 + g / 10, 0.4, 0.7) for name in names for g in range(groups)]


def test_values_with_intervals():
    check(dot_plot(dots(["mean", "a", "b"]), groups=["m", "n"], label="mean_iou", text="t", summary="mean"), 2)


def test_differences_and_times():
    check(difference_plot([Dot("a", 0, 0.1, -0.1, 0.3)], label="x", text="t", summary="mean"), 1)
    check(difference_plot([Dot("a", 0, 0.0, 0.0, 0.0)], label="x", text="t", summary="a"), 1)
    times = tuple(datetime(2026, 5, day, tzinfo=UTC) for day in (1, 2, 9))
    lines = [Line(0, times, (0.5, 0.6, 0.7)), Line(1, times[:1], (0.4,))]
    check(time_plot(lines, groups=["m", "n"], label="x", text="t"), 2)


def test_more_models_than_colours_and_markers():
    plot = dot_plot(dots(["a"], groups=9), groups=[f"m{i}" for i in range(9)], label="x", text="t")
    check(plot, 6)


def test_hostile_names_are_plain_text():
    plot = dot_plot(dots(EVIL), groups=EVIL[:2], label=EVIL[0], text="t")
    check(plot, 2)
    check(
        time_plot([Line(0, (datetime(2026, 5, 1, tzinfo=UTC),), (0.1,))], groups=EVIL[2:3], label="$a$", text=""),
        1,
    )


def test_the_same_values_give_the_same_picture():
    one, other = (dot_plot(dots(["a"]), groups=["m", "n"], label="x", text="t") for _ in range(2))
    assert one == other


@pytest.mark.parametrize("name", EVIL)
def test_a_name_is_drawn_on_one_short_line(name):
    drawn = drawable(name)
    assert "\n" not in drawn
    assert len(drawn) <= LONGEST
    assert "漢" not in drawn


def test_names_that_look_alike_get_numbers():
    assert list(numbered(["漢", "字", "a"])) == ["▯ (1)", "▯ (2)", "a"]
