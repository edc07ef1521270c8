"""What flows say about their results: small tables, as Prefect's artifacts take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = {"iou": "IoU", "dice": "Dice", "precision": "precision", "recall": "recall"}
"""Ratios of the table of an evaluation, and their headings."""

MOST_ROWS = 1000
"""Rows of a table of many runs at most; the Parquet table has all of them."""


def facts(title: str, values: Mapping[str, Any]) -> str:
    """Return names and values as a markdown table; what is None is left out."""
    rows = [f"| {name} | {_cell(value)} |" for name, value in values.items() if value is not None]
    return "\n".join([f"### {_cell(title)}", "", "| | |", "|---|---|", *rows])


def seam_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the contrasts that show a seam, the clearest first.

    Args:
        found: ``seams`` of a run's status.
    """
    shown = ("borders", "axis", "scale", "strips", "share", "ratio", "p")
    return [{name: each[name] for name in shown} for each in found["flagged_by"]]


def class_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of an evaluation's table: one a class, and the means.

    Args:
        found: what :func:`pipeline.evaluate` gave. A ratio that is not defined is None there and here.
    """
    rows = [
        {
            "class": name,
            **{heading: _rounded(each[ratio]) for ratio, heading in SHOWN.items()},
            "target voxels": each["target_voxels"],
            "prediction voxels": each["prediction_voxels"],
        }
        for name, each in found["classes"].items()
    ]
    mean = {heading: _rounded(found[f"mean_{ratio}"]) for ratio, heading in SHOWN.items()}
    return [*rows, {"class": "mean", **mean, "target voxels": None, "prediction voxels": None}]


def model_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each metric of each model over its volumes, of what :func:`pipeline.aggregate` gave."""
    return [
        {
            "model": each["model"],
            "metric": each["metric"],
            "volumes": each["volumes"],
            **{name: _rounded(each[name]) for name in ("mean", "low", "high")},
        }
        for each in found["models"][:MOST_ROWS]
    ]


def pair_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the paired differences of models, of what :func:`pipeline.aggregate` gave."""
    return [
        {
            **{name: each[name] for name in ("first", "second", "metric", "volumes")},
            **{name: _rounded(each[name]) for name in ("difference", "low", "high")},
            "over": each["over"],
        }
        for each in found["comparisons"][:MOST_ROWS]
    ]


def series_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the newest metrics of each volume, and in brackets those of the previous table.

    Args:
        found: what :func:`pipeline.aggregate` gave.
    """
    return [
        {
            "target": each["target"] + (f" [{each['region']}]" if each["region"] else ""),
            "model": each["model"],
            "sealed": each["sealed"],
            **{name: _against(value, each["previous"][name]) for name, value in each["values"].items()},
        }
        for each in found["series"][:MOST_ROWS]
    ]


def alert_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is below a bound or has dropped, the worst first, of what :func:`pipeline.aggregate` gave."""
    named = ("metric", "model", "target", "region", "value", "limit", "previous", "source")
    return [
        {name: _rounded(each[name]) if isinstance(each[name], float) else each[name] for name in named}
        for each in found["alerts"][:MOST_ROWS]
    ]


def _against(value: float | None, previous: float | None) -> str:
    """Return a metric, and in brackets what it was before."""
    now, before = ("–" if each is None else f"{each:.4f}" for each in (value, previous))
    return now if previous is None else f"{now} ({before})"


def fold_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a cross-validation's table: mean and standard deviation over the folds.

    Args:
        summary: as :func:`pipeline.train` gives it.
    """
    named = {**summary["classes"], "mean": {name: summary[f"mean_{name}"] for name in ("iou", "dice")}}
    return [
        {"class": name}
        | {
            f"{SHOWN[ratio]} {part}": _rounded(of[ratio][part])
            for ratio in ("iou", "dice")
            for part in ("mean", "std")
        }
        for name, of in named.items()
    ]


def variant_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each variant's metrics over its seeds, of what :func:`pipeline.compare` gave."""
    return [
        {"variant": each["variant"], "metric": each["metric"]}
        | {name: _rounded(each[name]) for name in ("mean", "std")}
        | {"seeds": len(each["by_seed"])}
        for each in found["variants"]
    ]


def difference_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each variant's difference to the base, of what :func:`pipeline.compare` gave."""
    return [
        {"variant": each["variant"], "metric": each["metric"]}
        | {"difference": _rounded(each["mean"])}
        | {name: _rounded(each[name]) for name in ("low", "high")}
        | {"verdict": each["verdict"]}
        for each in found["differences"]
    ]


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 4)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value).replace("|", "\\|")
