"""What a comparison is to train and to measure on: settled, checked and refused before the first step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import CompareJob
from pipeline.config.compare import BASE, OURS
from pipeline.errors import InputError, RunMismatchError
from pipeline.evaluation.bootstrap import metric_names
from pipeline.jobs.comparing.exam import open_exam
from pipeline.jobs.comparing.trial import Trial
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.training.result import put_document
from pipeline.jobs.training.train import train

FORMAT, PLAN = "overtile-compare/1", "plan.json"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison that may begin.

    Attributes:
        job: the settings.
        out: the folder for everything.
        choices: how the base was planned (``name``, ``value``, ``reason``).
        trials: what is trained, seed by seed, the base first.
        tile: voxels of the exam's tiles, along the network's axes.
    """

    job: CompareJob
    out: Path
    choices: tuple[Mapping[str, Any], ...]
    trials: tuple[Trial, ...]
    tile: tuple[int, ...]


def begin(job: CompareJob, listener: Listener) -> Comparison:
    """Plan the base, open everything, and refuse what cannot be trained or compared.

    What the base leaves out is planned once, for the base, and kept in ``OUT/plan.json``: variants differ from it in
    what they name alone, now and when the comparison goes on.

    Raises:
        InputError: a variant cannot be trained; variants would be measured on other regions, or with networks of other
            dimensions; nothing was trained.
        RunMismatchError: the folder holds another comparison.
    """
    out = _folder(job)
    _check_metrics(job)
    known = None if job.restart else _known(job, out)
    planned = known or _planned(job, out)
    trials = [_trial(job, out, planned["base"], name, seed) for seed in job.seeds for name in job.names()]
    tile = _check(job, trials, listener)
    if job.restart:
        _clear(job, out)
    if known is None:
        put_document(out / PLAN, planned)
    return Comparison(job, out, tuple(planned["choices"]), tuple(trials), tile)


def _folder(job: CompareJob) -> Path:
    """Return the folder for everything; it is made when something is written."""
    out = Path(job.out)
    if out.exists() and not out.is_dir():
        raise InputError(f"out {out}: is a file; name a folder")
    return out


def _check_metrics(job: CompareJob) -> None:
    known = metric_names(job.named(BASE).classes)
    for name in job.metrics:
        if name not in known:
            raise InputError(f"metrics {name}: there is no such metric; there are {', '.join(known)}")


def _clear(job: CompareJob, out: Path) -> None:
    """Throw away what this comparison trained before, and nothing else."""
    if not (out / PLAN).exists():
        return
    for name in job.names():
        for folder in out.glob(f"{name}/seed*"):
            shutil.rmtree(folder)
    (out / PLAN).unlink()


def _given(job: CompareJob) -> dict[str, Any]:
    """Return what must be the same when a comparison goes on: variants and seeds may be added."""
    given: dict[str, Any] = json.loads(json.dumps({"base": job.base, "exam": job.model_dump(mode="json")["exam"]}))
    return given


def _known(job: CompareJob, out: Path) -> dict[str, Any] | None:
    """Return what was planned before; None at the beginning."""
    path = out / PLAN
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        same = found["format"] == FORMAT and found["given"] == _given(job)
    except (ValueError, KeyError, TypeError) as error:
        raise RunMismatchError(f"{path}: is not the plan of a comparison; choose another `out`") from error
    if not same:
        raise RunMismatchError(
            f"{out} holds a comparison of another base, or by another exam: give those that it was begun with, another"
            " `out`, or --restart to throw its networks away"
        )
    return found


def _planned(job: CompareJob, out: Path) -> dict[str, Any]:
    """Plan the base: nothing of it is left out then."""
    draft = job.named(
        BASE, output=_output(out, BASE, job.seeds[0]), seed=job.seeds[0], dry_run=True, restart=job.restart
    )
    found = train(draft)
    settled = {name: value for name, value in found["job"].items() if name not in OURS and value is not None}
    return {"format": FORMAT, "given": _given(job), "base": settled, "choices": found["plan"]}


def _trial(job: CompareJob, out: Path, base: Mapping[str, Any], name: str, seed: int) -> Trial:
    try:
        settled = job.named(name, base, output=_output(out, name, seed), seed=seed)
    except ValueError as error:
        raise InputError(f"variant {error}") from error
    return Trial(name, seed, settled, job.exam)


def _output(out: Path, name: str, seed: int) -> str:
    return str(out / name / f"seed{seed}" / "model.safetensors")


@dataclass(frozen=True, slots=True)
class _Measured:
    """What is kept of a trial's exam, which itself holds decoded voxels.

    Attributes:
        name: of the trial.
        seed: of the trial.
        regions: which regions they are.
        tile: voxels of a tile that suits the network.
    """

    name: str
    seed: int
    regions: str
    tile: tuple[int, ...]


def _check(job: CompareJob, trials: Sequence[Trial], listener: Listener) -> tuple[int, ...]:
    """Open what each trial is measured on, and try its training without a step.

    Returns:
        The tiles for all: a multiple of every stride, as strides are powers of two.

    Raises:
        InputError: see :func:`begin`.
    """
    listener.phase("check", len(trials), "trainings")
    found: list[_Measured] = []
    for number, trial in enumerate(trials, start=1):
        try:
            found.append(_look(job, trial))
        except InputError as error:
            raise type(error)(f"{trial.name}: {error}") from error
        _check_same(found[-1], next(each for each in found if each.seed == trial.seed), found[0])
        listener.progress(number)
    return tuple(max(lengths) for lengths in zip(*(each.tile for each in found), strict=True))


def _look(job: CompareJob, trial: Trial) -> _Measured:
    """Look at what a trial is measured on; where it is still to be trained, also at what it learns from."""
    prepared = trial.prepare_exam()
    exam = open_exam(prepared)
    if job.exam and (job.restart or trial.trained(prepared) is None):
        train(trial.job.model_copy(update={"dry_run": True, "restart": job.restart}), listener=Silent())
    return _Measured(trial.name, trial.seed, exam.regions, exam.tiles.layout.patch)


def _check_same(each: _Measured, twin: _Measured, first: _Measured) -> None:
    """Refuse a trial that is measured on something else than the first of its seed, or of all."""
    if len(each.tile) != len(first.tile):
        raise InputError(
            f"{each.name}: a {len(each.tile)}-D network, and {first.name} is {len(first.tile)}-D: they see other tiles,"
            " and are compared by `overtile evaluate` and `overtile aggregate`"
        )
    if each.regions != twin.regions:
        raise InputError(
            f"{each.name}: would be measured on other regions than {twin.name}, as blocks and guards follow from patch"
            " and network: give `exam` pairs, or the same split.block and split.guard in the base"
        )
