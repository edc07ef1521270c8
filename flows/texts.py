"""What flows say about their results: small tables, as Prefect's artifacts take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = {"iou": "IoU", "dice": "Dice", "precision": "precision", "recall": "recall"}
"""Ratios of the table of an evaluation, and their headings."""


def facts(title: str, values: Mapping[str, Any]) -> str:
    """Return names and values as a markdown table; what is None is left out."""
    rows = [f"| {name} | {_cell(value)} |" for name, value in values.items() if value is not None]
    return "\n".join([f"### {_cell(title)}", "", "| | |", "|---|---|", *rows])


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
