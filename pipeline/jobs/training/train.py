"""The job of training: one network, or one a fold, each resumable."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config import TrainJob
from pipeline.errors import InputError
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.training.launch import launch
from pipeline.jobs.training.lesson import Lesson, lessons
from pipeline.jobs.training.network import learn
from pipeline.jobs.training.prepared import Prepared, prepare
from pipeline.jobs.training.result import FORMAT, put_document
from pipeline.training.device import choose_device
from pipeline.training.ranks import Ranks, found_ranks, joined
from pipeline.training.resume import DONE


def train(job: TrainJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Train a network, and write a checkpoint, ``NAME.metrics.json`` and ``NAME.curve.png`` beside it.

    All of them are written at the end, each in one step: a checkpoint that is there already stays as it is until
    then. What a training needs to go on is in the folder ``NAME.training``, from its first point of the learning curve
    on: the same job again goes on from there, and on a CPU (without a time limit) ends with the same bits as if it had
    never been stopped. Logs and pictures stay there when it has ended.

    With ``split.folds`` there are as many networks, ``NAME.fold1.safetensors`` and so on, each measured on its part;
    ``NAME.metrics.json`` then has the means over the folds and their spread, and there is no ``NAME.safetensors``.

    With ``devices``, or started by ``torchrun``, several processes take a share of each batch; the first one measures,
    says and writes everything, and all of them have to see the same files. They return the same.

    The same job gives the same weights, bit by bit, on the same machine with the same number of threads (on a CPU,
    without a time limit).

    Args:
        job: the settings; what is left out is planned, see :mod:`pipeline.training.plan`.
        listener: who is told what is done.

    Returns:
        What ``NAME.metrics.json`` holds: ``checkpoint`` (path), ``digest``, ``steps``, ``patches``, ``seconds``,
        ``loss``, ``validation`` (metrics of what is kept, or None), ``calibration``, ``curve``, ``normalisation``,
        ``split``, ``plan``, ``provenance``, ``job``; of a cross-validation ``folds`` and ``summary``. Of a dry run,
        which writes nothing: ``plan`` (choices with ``name``, ``value`` and ``reason``), ``split`` (one entry a
        network), ``job`` (with nothing left out) and ``resumed`` (whether the training was begun before).

    Raises:
        InputError: refused before the first step; nothing was written.
        RunMismatchError: another training that is not finished has this output.
        OvertileError: training diverged; the checkpoint is as it was.
        EnvironmentFaultError: the output cannot be written, or a process of several has died; run it again.
    """
    listener = listener or Silent()
    if job.dry_run:
        prepared = prepare(job)
        return _planned(prepared, lessons(prepared, listener))
    if job.devices > 1 and found_ranks().count == 1:
        return launch(train, job, listener)
    with joined(choose_device(job.device)) as ranks:
        return _train(job, listener if ranks.is_first else Silent(), ranks)


def _train(job: TrainJob, listener: Listener, ranks: Ranks) -> dict[str, Any]:
    """Train, alone or as one of several processes."""
    prepared, parts = _begin(job, listener, ranks)
    if job.split.folds:
        found = _cross_validate(prepared, parts, listener)
    else:
        found = learn(prepared, parts[0], prepared.output, prepared.folder, listener)
    if ranks.is_first:
        prepared.folder.clear()
    return found


def _begin(job: TrainJob, listener: Listener, ranks: Ranks) -> tuple[Prepared, Sequence[Lesson]]:
    """Prepare, and write the plan down; the others go by what the first one has written."""
    begun: list[tuple[Prepared, Sequence[Lesson]]] = []

    def begin() -> str:
        prepared = prepare(job, ranks)
        parts = lessons(prepared, listener)
        for choice in prepared.plan.choices:
            listener.note(choice.text())
        if job.restart:
            prepared.folder.clear()
        prepared.begin()
        begun.append((prepared, parts))
        return prepared.folder.identity.fingerprint

    first = ranks.first(begin)
    if begun:
        return begun[0]
    prepared = prepare(job.model_copy(update={"restart": False}), ranks)
    if not prepared.resumed or prepared.folder.identity.fingerprint != first:
        raise InputError(
            f"{prepared.folder.path}: process {ranks.rank} does not see what the first one has begun here; all machines"
            " must see the same files at the same paths"
        )
    return prepared, lessons(prepared, listener)


def _planned(prepared: Prepared, parts: Sequence[Lesson]) -> dict[str, Any]:
    """Return what a dry run finds."""
    return {
        "plan": prepared.plan.document(),
        "split": [part.split for part in parts],
        "job": prepared.plan.job.model_dump(mode="json"),
        "resumed": prepared.resumed,
    }


def _cross_validate(prepared: Prepared, parts: Sequence[Lesson], listener: Listener) -> dict[str, Any]:
    """Train a network a fold, but for those that are done, and write the summary."""
    folds = []
    for number, lesson in enumerate(parts, start=1):
        folder = prepared.folder.part(f"fold{number}")
        found = prepared.ranks.first(partial(folder.document, DONE))
        if found is None:
            listener.note(f"fold {number} of {len(parts)}")
            found = learn(prepared, lesson, _fold_path(prepared.output, number), folder, listener)
            prepared.ranks.first(partial(folder.put, DONE, found))
        folds.append(found)
    document = {
        "format": FORMAT,
        "folds": folds,
        "summary": summary([fold["validation"] for fold in folds]),
        "steps": sum(fold["steps"] for fold in folds),
        "patches": sum(fold["patches"] for fold in folds),
        "seconds": round(sum(fold["seconds"] for fold in folds), 3),
        "plan": prepared.plan.document(),
        "job": prepared.plan.job.model_dump(mode="json"),
    }
    prepared.ranks.first(partial(put_document, prepared.output.with_suffix(".metrics.json"), document))
    return document


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and spread over folds, ready for JSON.

    Args:
        found: the metrics of each fold, at least two.

    Returns:
        For ``mean_iou``, ``mean_dice`` and, under ``classes``, each class's ``iou`` and ``dice``: ``mean``, ``std``
        (the sample's, with n - 1) and ``folds`` (how many had a value); None where fewer than one, or two, had.
    """
    names = ("mean_iou", "mean_dice")
    classes = {
        name: {key: _spread([each["classes"][name][key] for each in found]) for key in ("iou", "dice")}
        for name in found[0]["classes"]
    }
    return {name: _spread([each[name] for each in found]) for name in names} | {"classes": classes}


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
        "folds": len(known),
    }


def _fold_path(output: Path, number: int) -> Path:
    return output.with_name(f"{output.stem}.fold{number}{output.suffix}")
