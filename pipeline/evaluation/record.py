"""One evaluation as its folder tells it: checked, and with what decides which others it can be compared with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.config import explain
from pipeline.errors import InputError
from pipeline.evaluation.chunk_counts import ChunkCounts, read_counts
from pipeline.evaluation.metrics import RATIOS, metrics
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.run.summary import RunSummary

METRICS, STATISTICS = "metrics.json", "statistics.parquet"
"""Files of an evaluation; the first one is written last."""


class Measured(BaseModel):
    """The part of ``metrics.json`` that tells what was compared; numbers are worked out of the confusion again."""

    model_config = ConfigDict(frozen=True)

    prediction: str
    target: str
    region: str | None
    ignore: int | None
    ignored: int = Field(ge=0)
    classes: dict[str, Any] = Field(min_length=1)
    confusion: tuple[tuple[int, ...], ...]
    target_identity: str | None = None
    run: RunSummary | None = None


class TargetKey(NamedTuple):
    """What two evaluations must share to be compared.

    Attributes:
        identity: of the target, where it lies and how it is stored.
        region: the part that was compared.
        ignore: the value that was not counted.
        names: of the classes.
        voxels: of each class in the target, and those that were left out: the same place may hold another truth now.
    """

    identity: str
    region: str | None
    ignore: int | None
    names: tuple[str, ...]
    voxels: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation of one prediction.

    Attributes:
        source: its folder.
        measured: what was compared.
        counts: of its chunks.
    """

    source: str
    measured: Measured
    counts: ChunkCounts

    @property
    def run(self) -> RunSummary | None:
        """The run of the prediction, as it was then; None where the prediction was made otherwise."""
        return self.measured.run

    @property
    def model(self) -> str | None:
        """Digest of the model; None where it is not known."""
        return None if self.run is None else self.run.model_digest

    @property
    def order(self) -> tuple[float, str]:
        """Evaluations in the order in which their predictions were sealed, and where that is equal by their place."""
        sealed = self.run.sealed if self.run else None
        return (sealed.timestamp() if sealed else 0.0, self.source)

    @cached_property
    def key(self) -> TargetKey | None:
        """What it can be compared on; None where the target is not identified."""
        told = self.measured
        if told.target_identity is None:
            return None
        voxels = (*self.counts.counts.sum(axis=(0, 2)).tolist(), told.ignored)
        return TargetKey(told.target_identity, told.region, told.ignore, self.counts.names, voxels)

    @cached_property
    def values(self) -> dict[str, float | None]:
        """Every metric by its name, see :func:`pipeline.evaluation.bootstrap.metric_names`."""
        total = ConfusionStatistics(self.counts.counts.sum(axis=0))
        found = metrics(total, self.counts.names)
        flat = {name: found[name] for name in ("accuracy", *(f"mean_{ratio}" for ratio in RATIOS))}
        return flat | {
            f"{ratio}_{name}": each[ratio] for name, each in found["classes"].items() for ratio in RATIOS
        }


def read_evaluation(folder: Path) -> Evaluation:
    """Read the evaluation in a folder.

    Raises:
        InputError: a file is missing, is not what ``overtile evaluate --out`` writes, or the two contradict each
            other.
    """
    path = folder / METRICS
    try:
        measured = Measured.model_validate(json.loads(path.read_text()))
    except FileNotFoundError:
        raise InputError(f"{folder}: has no {METRICS}; the evaluation was stopped: make it again") from None
    except ValidationError as error:
        found = explain(error, option="{}")
        raise InputError(f"{path}: not what `overtile evaluate --out` writes ({found}); evaluate again") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); evaluate again") from error
    if not (folder / STATISTICS).is_file():
        raise InputError(f"{folder}: has no {STATISTICS}; evaluate again")
    counts = read_counts(folder / STATISTICS)
    total = [tuple(row) for row in counts.counts.sum(axis=0).tolist()]
    told = (tuple(measured.classes), list(measured.confusion), measured.ignored)
    if told != (counts.names, total, counts.ignored):
        raise InputError(f"{folder}: {METRICS} and {STATISTICS} are of different evaluations; evaluate again")
    return Evaluation(str(folder), measured, counts)
