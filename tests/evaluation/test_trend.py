import pytest
from evaluations import evaluation

from pipeline.evaluation.trend import BELOW, DROPPED, Series, below, dropped, newest_of_series, series_of

SERIES = Series("/models/m.safetensors", "t", None, None)


def at(n, **changes):
    """An evaluation with an accuracy of n eighths."""
    return evaluation([[[n, 8 - n], [0, 0]]], **changes)


def test_a_series_is_a_path_on_a_target():
    assert series_of(at(4)) == SERIES
    assert series_of(at(4, region="0:1", ignore=3)) == Series(SERIES.model, "t", "0:1", 3)
    assert series_of(at(4, model=None, source="p")) == Series("/p/p.zarr", "t", None, None)
    assert series_of(at(4, target=None)) is None


def test_the_newest_of_a_series_counts():
    old, new = (at(n, source=s, sealed=f"2026-05-0{d}T00:00:00Z") for n, s, d in ((7, "z", 1), (5, "a", 2)))
    assert newest_of_series([new, old]) == newest_of_series([old, new]) == {SERIES: new}


@pytest.mark.parametrize(("bound", "told"), [(0.5, False), (0.51, True), (0.0, False), (1.0, True)])
def test_below_its_bound(bound, told):
    found = below({SERIES: at(4)}, {"accuracy": bound, "iou_b": 1.0})
    expected = [(BELOW, "accuracy", 0.5, bound, None)] if told else []
    assert [(a.kind, a.metric, a.value, a.limit, a.previous) for a in found if a.metric == "accuracy"] == expected


def test_what_is_not_defined_is_not_below():
    assert below({SERIES: evaluation([[[4, 0], [0, 0]]])}, {"iou_b": 1.0, "unheard": 1.0}) == []


@pytest.mark.parametrize(
    ("before", "drop", "told"),
    [
        (0.5, 0.0, False),
        (0.625, 0.125, False),
        (0.625, 0.12, True),
        (0.51, 0.0, True),
        (0.2, 0.0, False),
        (None, 0.0, False),
    ],
)
def test_fallen_by_more_than_is_borne(before, drop, told):
    found = dropped({SERIES: at(4)}, {SERIES: {"accuracy": before}}, ["accuracy"], drop)
    assert [(a.kind, a.value, a.previous) for a in found] == ([(DROPPED, 0.5, before)] if told else [])


def test_what_is_new_has_not_dropped():
    assert dropped({SERIES: at(0)}, {}, ["accuracy"], 0.0) == []
