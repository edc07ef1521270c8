"""Metrics as a report takes them: what ``overtile evaluate`` wrote, checked before any of it is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.config import explain
from pipeline.errors import InputError
from pipeline.geometry import Box
from pipeline.reporting.recorded import parse_box

Ratio = Annotated[float, Field(ge=0, le=1)] | None
Count = Annotated[int, Field(ge=0)]


class ClassMetrics(BaseModel):
    """The metrics of one class."""

    model_config = ConfigDict(frozen=True)

    iou: Ratio
    dice: Ratio
    precision: Ratio
    recall: Ratio
    target_voxels: Count


class WorstChunk(BaseModel):
    """A chunk with many wrong voxels."""

    model_config = ConfigDict(frozen=True)

    position: str
    core: str = Field(pattern=r"^\d+:\d+(,\d+:\d+)*$")
    wrong: Count


class Measured(BaseModel):
    """The part of ``metrics.json`` that a report shows."""

    model_config = ConfigDict(frozen=True)

    prediction: str
    target: str
    ignore: int | None
    voxels: Count
    ignored: Count
    chunks: Count
    accuracy: Ratio
    mean_iou: Ratio
    mean_dice: Ratio
    mean_precision: Ratio
    mean_recall: Ratio
    absent: tuple[str, ...]
    classes: dict[str, ClassMetrics]
    worst: tuple[WorstChunk, ...] = ()

    def worst_core(self, shape: tuple[int, ...]) -> Box | None:
        """Return the core of the chunk with the most wrong voxels, if it lies in a volume of ``shape``."""
        if not self.worst:
            return None
        core = parse_box(self.worst[0].core)
        return core if core.ndim == len(shape) and Box.of_shape(shape).contains(core) else None


def check_metrics(metrics: Mapping[str, Any], *, where: str = "the metrics") -> Measured:
    """Return metrics as a report takes them.

    Raises:
        InputError: they are not what ``overtile evaluate`` gives.
    """
    try:
        return Measured.model_validate(dict(metrics))
    except ValidationError as error:
        found = explain(error).replace("--", "")
        raise InputError(
            f"{where}: not what `overtile evaluate --out` writes to metrics.json ({found}); give that file"
        ) from error


def read_metrics(path: str | Path) -> dict[str, Any]:
    """Return the content of a ``metrics.json``.

    Raises:
        InputError: it cannot be read, or is not what ``overtile evaluate`` writes.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the metrics cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not what `overtile evaluate --out` writes to metrics.json; give that file")
    check_metrics(content, where=str(path))
    return content
