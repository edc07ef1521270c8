"""One training of a comparison: trained once, measured once, and never again unless something of it has changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Pair, TrainJob
from pipeline.evaluation import variants
from pipeline.jobs.comparing.exam import exam_job, open_exam, take_exam
from pipeline.jobs.listener import Listener
from pipeline.jobs.training.prepared import Prepared, prepare
from pipeline.jobs.training.result import put_document
from pipeline.jobs.training.train import train
from pipeline.model.checkpoint import digest
from pipeline.training.resume import FREE, Identity

FORMAT = "overtile-trial/1"

KEPT = ("digest", "steps", "kept_step", "patches", "seconds", "waited", "loss")
"""Numbers of a training that a trial keeps."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A variant that is trained from a seed.

    Attributes:
        variant: its name.
        seed: of the training.
        job: of the training, with nothing left out that the base settles.
        exam: what it is measured on; empty for what it holds out.
    """

    variant: str
    seed: int
    job: TrainJob
    exam: tuple[Pair, ...]

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def checkpoint(self) -> Path:
        """The network."""
        return Path(self.job.output)

    @property
    def record(self) -> Path:
        """The file that says that it is done."""
        return self.checkpoint.with_name("trial.json")

    def prepare_exam(self) -> Prepared:
        """Open what it is measured on. Errors as :func:`pipeline.jobs.training.prepared.prepare`."""
        return prepare(exam_job(self.job, self.exam))

    def fingerprint(self, prepared: Prepared) -> str:
        """Return the digest of its settings, and of the data that it learns from.

        Args:
            prepared: its exam.
        """
        data = prepared.folder.identity.data
        learnt = {name: value for name, value in data.items() if not self.exam or name.startswith("pairs")}
        return Identity(self.job.model_dump(mode="json"), learnt).fingerprint

    def trained(self, prepared: Prepared) -> dict[str, Any] | None:
        """Return its record; None where there is none, or of other settings, other data or another network.

        Args:
            prepared: its exam.
        """
        found = _document(self.record)
        if found is None or found.get("format") != FORMAT or not self.checkpoint.is_file():
            return None
        same = found["fingerprint"] == self.fingerprint(prepared)
        return found if same and digest(self.checkpoint) == found["digest"] else None


def run_trial(trial: Trial, tile: Sequence[int], listener: Listener) -> dict[str, Any]:
    """Train a network and measure it; or return what is there, where that is done.

    Args:
        trial: which one.
        tile: voxels of a tile of the exam, along the network's axes; the same for all trials.
        listener: who is told what is done.

    Returns:
        Its record: ``variant``, ``seed``, ``checkpoint``, ``parameters``, :data:`KEPT`, ``curve``, ``regions`` (places
        of the tiles), ``counts`` (by tile, target class and prediction class), ``tile`` and ``job``.

    Raises:
        InputError, OvertileError, EnvironmentFaultError: as :func:`pipeline.train`.
    """
    prepared = trial.prepare_exam()
    found, exam = trial.trained(prepared), prepared.folder.identity.fingerprint
    if found is not None and (found["tile"], found["exam"]) == (list(tile), exam):
        listener.note(f"{trial.name}: done before")
        return found
    trained = found["trained"] if found is not None else _trained(trial)
    if trained is None:
        del prepared  # which may hold as many decoded voxels as the training will
        listener.note(f"{trial.name}: is trained")
        trained = _shortened(train(trial.job, listener=listener))
        prepared = trial.prepare_exam()
    listener.note(f"{trial.name}: is measured")
    places, counts = take_exam(open_exam(prepared), trial.checkpoint, tile)
    record = {
        "format": FORMAT,
        "fingerprint": trial.fingerprint(prepared),
        "exam": exam,
        "variant": trial.variant,
        "seed": trial.seed,
        "checkpoint": str(trial.checkpoint),
        "parameters": prepared.plan.architecture.parameters(),
        **{name: trained[name] for name in KEPT},
        "curve": trained["curve"],
        "tile": list(tile),
        "regions": places,
        "counts": counts.tolist(),
        "trained": trained,
        "job": trial.job.model_dump(mode="json"),
    }
    put_document(trial.record, record)
    return record


def measured(record: dict[str, Any]) -> variants.Trial:
    """Return a trial's record as what variants are compared by."""
    names = tuple(record["job"]["classes"])
    return variants.Trial(record["variant"], record["seed"], np.array(record["counts"], np.int64), names)


def _trained(trial: Trial) -> dict[str, Any] | None:
    """Return what a training left that ended before it was measured; None where it has to be done.

    A network that was measured once, and is not done, belongs to other data or settings: it is trained anew.
    """
    found = None if trial.record.exists() else _document(trial.checkpoint.with_suffix(".metrics.json"))
    if found is None or not trial.checkpoint.is_file() or digest(trial.checkpoint) != found.get("digest"):
        return None
    given = json.loads(trial.job.model_dump_json())
    told = {name: value for name, value in given.items() if name not in FREE and value is not None}
    same = all(found["job"].get(name) == value for name, value in told.items())
    return _shortened(found) if same else None


def _shortened(found: dict[str, Any]) -> dict[str, Any]:
    """Return what a comparison keeps of a training: its numbers and its learning curve."""
    curve = [
        {
            "step": point["step"],
            "loss": point["loss"],
            "validation_mean_iou": point["validation"] and point["validation"]["mean_iou"],
        }
        for point in found["curve"]
    ]
    return {name: found[name] for name in KEPT} | {"curve": curve}


def _document(path: Path) -> dict[str, Any] | None:
    """Return a JSON document; None where it is not there or not whole."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
