"""What an evaluation found beside classes, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST_GROUPS = 20
"""Areas that are shown; the JSON has all."""

Facts = Iterator[tuple[str, str]]


def number(value: float | None) -> str:
    """Return a metric with four digits; a dash where it is not defined."""
    return "-" if value is None else f"{value:.4f}"


def more_facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a name and a sentence for each thing that was measured beside classes.

    Args:
        found: what :func:`pipeline.evaluate` gave.
    """
    told = {
        "groups": _groups,
        "probabilities": _probabilities,
        "boundary": _boundary,
        "instances": _instances,
        "isbi": _isbi,
    }
    return [fact for name, say in told.items() if name in found for fact in say(found[name])]


def _groups(found: Mapping[str, Any]) -> Facts:
    for name, each in list(found.items())[:MOST_GROUPS]:
        yield (
            name,
            f"mean IoU {number(each['mean_iou'])}, accuracy {number(each['accuracy'])}, {each['voxels']:,} voxels",
        )
    if len(found) > MOST_GROUPS:
        yield "", f"and {len(found) - MOST_GROUPS} more areas (--json lists them)"


def _probabilities(found: Mapping[str, Any]) -> Facts:
    for name, each in found["classes"].items():
        best = each["best"]
        at = "" if best is None else f", best threshold {best['threshold']:.3f} (Dice {number(best['dice'])})"
        yield (
            f"p({name})",
            f"ROC-AUC {number(each['roc_auc'])}, AP {number(each['average_precision'])}, ECE {number(each['ece'])},"
            f" Brier {number(each['brier'])}{at}",
        )


def _boundary(found: Mapping[str, Any]) -> Facts:
    for name, each in found["classes"].items():
        dice = ", ".join(f"{number(d['value'])} at {d['tolerance']:g}" for d in each["surface_dice"])
        distance = "-" if each["hausdorff"] is None else f"{each['hausdorff']:.4g}"
        yield (
            f"outline of {name}",
            f"boundary IoU {number(each['boundary_iou'])}, surface Dice {dice}, Hausdorff 95 {distance}",
        )


def _instances(found: Mapping[str, Any]) -> Facts:
    counts = [found[side]["count"] for side in ("prediction_objects", "target_objects")]
    yield "objects", f"{counts[0]:,} predicted, {counts[1]:,} in the target; AJI {number(found['aji'])}"
    for each in found["matches"]:
        yield (
            f"IoU > {each['threshold']:g}",
            f"F1 {number(each['f1'])}, PQ {number(each['pq'])}, SQ {number(each['sq'])}",
        )
    parts = found["partition"]
    yield (
        "segments",
        f"adapted Rand {number(parts['adapted_rand'])}, VI {number(parts['vi_split'])} + {number(parts['vi_merge'])}"
        " bits (split + merge)",
    )


def _isbi(found: Mapping[str, Any]) -> Facts:
    scores = found["per_slice"]
    said = ", ".join(f"{name} {number(scores[name]['value'])}" for name in ("v_rand", "v_info", "pixel_error"))
    yield "ISBI 2012", f"{said} over {found['slices']} slice(s)"
