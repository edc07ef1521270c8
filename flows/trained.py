"""What the flow of training shows: where the weights are, how good they are, and why they were made so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.artifacts import show_markdown, show_picture, show_table
from flows.texts import class_rows, facts, fold_rows
from pipeline.training.choices import Choice


def show_trained(found: Mapping[str, Any], output: str) -> None:
    """Show a training's checkpoint, its plan with the reasons, its learning curve and its last validation.

    Args:
        found: what :func:`pipeline.train` gave.
        output: the checkpoint, or what those of the folds are named after.
    """
    show_table("train-plan", plan_rows(found["plan"]), f"{output}: what was chosen, and why")
    if "resumed" in found:  # a dry run
        return
    if "folds" in found:
        shown = {name: found[name] for name in ("steps", "patches", "seconds")}
        show_markdown("train-checkpoint", facts(output, shown), output)
        show_table("train-validation", fold_rows(found["summary"]), f"{output}: mean and spread over the folds")
        return
    shown = {name: found[name] for name in ("digest", "steps", "kept_step", "patches", "seconds", "loss")}
    measured = found["validation"] or {}
    quality = {f"validation {name}": measured.get(name) for name in ("mean_iou", "mean_dice")}
    show_markdown("train-checkpoint", facts(output, shown | quality), output)
    if measured:
        show_table("train-validation", class_rows(measured), f"{output}: measured on what was held out")
    show_picture("train-curve", Path(output).with_suffix(".curve.png"), f"{output}: learning curve")


def plan_rows(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a plan's table."""
    made = [Choice(**each) for each in choices]
    return [{"choice": each.name, "value": each.shown, "reason": each.reason} for each in made]
