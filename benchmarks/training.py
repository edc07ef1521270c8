"""What the benchmarks of training share: budgets, data, job files, and the table.

Budgets stand here and nowhere else. OVERTILE_BUDGET scales all of them: ``OVERTILE_BUDGET=0.01`` tries a benchmark out.
Each job is written to the folder that ``--keep`` names, so that ``overtile train --config`` trains the same again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
import zarr

import pipeline
from benchmarks.real import Printer
from pipeline.config import SegmentJob, TrainJob

SEED = 1


@dataclass(frozen=True, slots=True)
class Budget:
    """What one training may cost; whichever ends first. The learning rate falls to zero by either.

    Attributes:
        minutes: of training.
        steps: of the optimiser.
    """

    minutes: float
    steps: int


BUDGETS = {
    "train_isbi": Budget(100, 3000),
    "train_mito": Budget(45, 2000),
    "train_nuclei": Budget(45, 2000),
    "train_buildings": Budget(15, 600),
    "train_3d": Budget(45, 1500),
    "train_shapes": Budget(8, 500),
    "train_classics": Budget(4, 300),
    "seams": Budget(6, 500),
}
"""Of each training: ``train_buildings`` has four (folds), ``train_shapes`` six, ``train_classics`` many."""


def budget(name: str) -> dict[str, Any]:
    """Return the settings of a job that say how long it may take, and how often it is measured: ten times."""
    scale = float(os.environ.get("OVERTILE_BUDGET", "1"))
    steps = max(3, round(BUDGETS[name].steps * scale))
    limit = max(5.0, 60 * BUDGETS[name].minutes * scale)
    return {"steps": steps, "time_limit": limit, "validate_every": -(-steps // 10)}


def data_folder(name: str) -> Path | None:
    """Return the folder of a set of real images, below OVERTILE_DATA; None where it is not there."""
    folder = Path(os.environ.get("OVERTILE_DATA", "../shared/data")).resolve() / name
    return folder if folder.is_dir() else None


def skipped(name: str) -> str:
    """Return what a benchmark says whose images are not there."""
    return f"skipped: there is no {name} (set OVERTILE_DATA to the folder of the images, see docs/results.md)"


def trained(place: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Train what a job says, with its file beside it; what was trained before is not trained again.

    Args:
        place: folder for ``train.yaml`` and ``model.safetensors``.
        values: the job without output and seed.

    Returns:
        What ``model.metrics.json`` holds.
    """
    place.mkdir(parents=True, exist_ok=True)
    file, done = place / "train.yaml", place / "model.metrics.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    job = TrainJob.model_validate({"output": str(place / "model.safetensors"), "seed": SEED} | dict(values))
    file.write_text(yaml.safe_dump(json.loads(job.model_dump_json(exclude_unset=True)), sort_keys=False))
    return pipeline.train(job, listener=Printer())


def segmented(place: Path, source: Path | str, name: str, **options: Any) -> npt.NDArray[Any]:
    """Segment a volume with ``model.safetensors``, and return what was found, ``([c,] [z,] y, x)``.

    Args:
        place: folder of the checkpoint and of the result, ``NAME.zarr``.
        source: what is segmented.
        name: of the result.
        options: of the job.
    """
    output, file = place / f"{name}.zarr", place / f"{name}.yaml"
    values = {"input": str(source), "output": str(output), "model": str(place / "model.safetensors"), **options}
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    pipeline.segment(SegmentJob.model_validate(values), listener=Printer())
    return np.asarray(zarr.open_array(str(output / "0"), mode="r")[...])


def told(found: Mapping[str, Any]) -> str:
    """Return what was trained, for a row of the table."""
    return f"{found['steps']} steps, {found['patches']} patches | {found['seconds']:.0f}"


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def number(value: float | None) -> str:
    """Return a metric for people."""
    return "undefined" if value is None else f"{value:.4f}"
