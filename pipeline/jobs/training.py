"""Train a network on pairs of volumes and targets: from the job to a checkpoint and its learning curve."""

from __future__ import annotations

import importlib.metadata
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline.config import TrainJob, explain
from pipeline.config.losses import CrossEntropy
from pipeline.errors import EnvironmentFaultError, InputError
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.outputs import checkpoint_path
from pipeline.model.checkpoint import CheckpointHeader, Normalisation, Scalar
from pipeline.model.unet import UNet
from pipeline.model.weights import save_checkpoint
from pipeline.run.machine import this_machine
from pipeline.store import put_file
from pipeline.training.batches import Batches, predictions
from pipeline.training.device import choose_device, torch_threads
from pipeline.training.figure import curve_png
from pipeline.training.loop import History, Point, Schedule, fit
from pipeline.training.losses import IGNORE, Loss, loss_for
from pipeline.training.normalisation import measure_normalisation
from pipeline.training.pairs import ClassIds, OpenPair, check_targets, hold, open_pairs
from pipeline.training.patches import PatchLayout, PatchStream
from pipeline.training.plan import TrainingPlan, plan_training
from pipeline.training.rules import Means
from pipeline.training.survey import Facts, Look
from pipeline.volume import open_volume

FORMAT = "overtile-training/1"

VALIDATION_PATCHES = 32
"""Most patches that a point of the learning curve is measured on."""

_TRAINING, _VALIDATION = 0, 1  # streams of random numbers


@dataclass(frozen=True, slots=True)
class _Data:
    """What is learnt from and measured on, checked."""

    pairs: Sequence[OpenPair]
    patches: PatchStream
    validation: PatchStream | None


def train(job: TrainJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Train a network, and write a checkpoint, ``NAME.metrics.json`` and ``NAME.curve.png`` beside it.

    All three are written at the end, each in one step: a checkpoint that is there already stays as it is until
    then, and a training that fails or is interrupted changes nothing. With ``time_limit`` the learning rate follows
    the clock, so that it has come down when time is up; the last measurement and the writing come on top of it.

    The same job gives the same weights, bit by bit, on the same machine with the same number of threads (on a CPU,
    without a time limit).

    Args:
        job: the settings.
        listener: who is told what is done.

    Returns:
        What ``NAME.metrics.json`` holds: ``checkpoint`` (path), ``digest``, ``steps``, ``patches``, ``seconds``,
        ``loss``, ``validation`` (metrics at the end, or None), ``curve``, ``normalisation``, ``provenance``, ``job``.

    Raises:
        InputError: refused before the first step; nothing was written.
        OvertileError: training diverged; nothing was written.
        EnvironmentFaultError: the output cannot be written.
    """
    listener = listener or Silent()
    device = choose_device(job.device)
    output = checkpoint_path(job.output)
    plan = _plan(job, device)
    job = plan.job
    data = _open(plan)
    header = _header(plan, data, job.normalisation or measure_normalisation(data.pairs, listener.note))
    with torch_threads(job.threads or this_machine().cores), torch.random.fork_rng():
        torch.manual_seed(job.seed)
        model = UNet(plan.architecture)
        if plan.architecture.dims == 2:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        history = _fit(plan, model, data, header.normalisation, device, listener)
    return _write(plan, output, model, header, history)


def _plan(job: TrainJob, device: str) -> TrainingPlan:
    """Choose what the job leaves out."""
    volumes = [open_volume(pair.image, holes=job.holes) for pair in job.pairs]
    first = volumes[0]
    shares = (1 / len(job.classes),) * len(job.classes)
    shapes = tuple(volume.shape for volume in volumes)
    labelled = sum(math.prod(shape) for shape in shapes)
    look: Look = "grey" if first.channels == 1 else "colour"
    facts = Facts(first.space, shapes, first.channels, labelled, shares, None, look)
    return plan_training(job, facts, Means(device, this_machine().memory // 2))


def _open(plan: TrainingPlan) -> _Data:
    """Open and check everything that the job names."""
    job = plan.job
    _check_batch(plan)
    twice = {_place(pair.image) for pair in job.pairs} & {_place(pair.image) for pair in job.validation}
    if twice:
        raise InputError(
            f"{', '.join(sorted(map(str, twice)))}: under `pairs` and under `validation`; what is trained on cannot"
            " measure the network: take it out of one"
        )
    ids = ClassIds(len(job.classes), job.ignore)
    layout = PatchLayout.plain(plan.architecture, plan.patch)
    opened = open_pairs(job.pairs, plan.architecture, holes=job.holes)
    measured = open_pairs(job.validation, plan.architecture, entry="validation", holes=job.holes)
    pairs = hold([*opened, *measured], job.cache)
    check_targets(pairs, ids)
    learnt, measured = pairs[: len(opened)], pairs[len(opened) :]
    patches = PatchStream(learnt, layout, ids, seed=(job.seed, _TRAINING), augment=plan.augment.flips)
    if not measured:
        return _Data(learnt, patches, None)
    exact = PatchLayout.exact(plan.architecture, plan.patch)
    # The same patches for every seed, so that trainings can be compared.
    return _Data(learnt, patches, PatchStream(measured, exact, ids, seed=(0, _VALIDATION), augment=False))


def _check_batch(plan: TrainingPlan) -> None:
    """Refuse what batch normalisation cannot average over: a single voxel at the lowest level."""
    network = plan.architecture
    lowest = plan.batch * math.prod(length // network.reach().stride for length in plan.patch)
    if network.norm == "batch" and network.padding == "same" and lowest == 1:
        raise InputError(
            f"patch {','.join(map(str, plan.patch))}, batch 1: one voxel at the lowest level cannot be normalised;"
            " make the patch or the batch larger"
        )


def _place(path: str) -> Path:
    return Path(path).resolve()


def _header(plan: TrainingPlan, data: _Data, normalisation: Normalisation) -> CheckpointHeader:
    """Return the checkpoint's header, still without provenance; before training, so that it is refused in time."""
    space, dims = data.pairs[0].image.volume.space, plan.architecture.dims
    try:
        return CheckpointHeader(
            architecture=plan.architecture,
            normalisation=normalisation,
            classes=plan.job.classes,
            axes=space.axes[-dims:],
            voxel_size=space.voxel_size[-dims:] if space.unit else None,
            unit=space.unit,
        )
    except ValidationError as error:
        raise InputError(f"the checkpoint would not be valid: {explain(error)}") from error


def _provenance(plan: TrainingPlan, history: History) -> dict[str, Scalar]:
    job, last = plan.job, history.curve[-1]
    found = last["validation"] or {}
    return {
        "overtile": importlib.metadata.version("overtile"),
        "torch": torch.__version__,
        "trained": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "images": ", ".join(Path(pair.image).name for pair in job.pairs),
        "validation_images": ", ".join(Path(pair.image).name for pair in job.validation) or None,
        "seed": job.seed,
        "steps": last["step"],
        "patches": last["step"] * plan.batch,
        "seconds": round(history.seconds, 3),
        "loss": last["loss"],
        "validation_mean_iou": found.get("mean_iou"),
        "validation_mean_dice": found.get("mean_dice"),
    }


class _Observer:
    """Tells the job's listener, and measures on the validation patches."""

    def __init__(self, plan: TrainingPlan, data: _Data, normalisation: Normalisation, listener: Listener) -> None:
        self._job = plan.job
        self._listener = listener
        self._batches: Batches | None = None
        if data.validation is not None:
            count = max(1, min(VALIDATION_PATCHES, data.validation.distinct))
            self._batches = Batches(data.validation, normalisation, count=count, size=plan.batch)

    def measure(self, model: UNet) -> dict[str, Any] | None:
        """Return the network's metrics on the validation patches, if there are any."""
        if self._batches is None:
            return None
        total = ConfusionStatistics.zero(len(self._job.classes))
        for found, target in predictions(model, self._batches):
            total += ConfusionStatistics.of(found, target, classes=total.classes, ignore=self._job.ignore)
        return metrics(total, self._job.classes)

    def progress(self, step: int) -> None:
        """Pass on how many steps are done."""
        self._listener.progress(step)

    def point(self, point: Point) -> None:
        """Say a point of the learning curve in one line."""
        found = point["validation"]
        quality = "" if found is None else f", validation mean IoU {_rounded(found['mean_iou'])}"
        self._listener.note(f"step {point['step']}: loss {point['loss']:.4f}{quality}")


@dataclass(frozen=True, slots=True)
class _Ignoring:
    """A loss of targets in which some value means that nothing is known."""

    loss: Loss
    ignore: int | None

    def __call__(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        if self.ignore is not None:
            target = torch.where(target == self.ignore, IGNORE, target)
        return self.loss(logits, target, weights)


def _fit(
    plan: TrainingPlan, model: UNet, data: _Data, normalisation: Normalisation, device: str, listener: Listener
) -> History:
    job = plan.job
    listener.phase("train", plan.steps, "steps")
    return fit(
        model,
        Batches(data.patches, normalisation, count=plan.steps * plan.batch, size=plan.batch),
        loss=_Ignoring(loss_for(CrossEntropy(), outputs=plan.architecture.classes), job.ignore),
        schedule=Schedule(plan.steps, plan.learning_rate, job.weight_decay, plan.validate_every, job.time_limit),
        device=device,
        observer=_Observer(plan, data, normalisation, listener),
    )


def _write(
    plan: TrainingPlan, output: Path, model: UNet, header: CheckpointHeader, history: History
) -> dict[str, Any]:
    """Write the checkpoint, the metrics and the figure; return the metrics."""
    header = header.model_copy(update={"provenance": _provenance(plan, history)})
    digest = save_checkpoint(output, model.eval(), header)
    last = history.curve[-1]
    document = {
        "format": FORMAT,
        "checkpoint": str(output),
        "digest": digest,
        "steps": last["step"],
        "patches": last["step"] * plan.batch,
        "seconds": round(history.seconds, 3),
        "loss": last["loss"],
        "validation": last["validation"],
        "curve": history.curve,
        "normalisation": header.normalisation.model_dump(mode="json"),
        "provenance": header.provenance,
        "plan": plan.document(),
        "job": plan.job.model_dump(mode="json"),
    }
    try:
        put_file(output.with_suffix(".metrics.json"), (json.dumps(document, indent=2) + "\n").encode())
        put_file(output.with_suffix(".curve.png"), curve_png(history, f"Training of {output.name}"))
    except OSError as error:
        raise EnvironmentFaultError(
            f"{output}: what was measured cannot be written beside it ({error})"
        ) from error
    return document


def _rounded(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
