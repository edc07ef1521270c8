"""Train one network: from its first step, or from where it was stopped, to its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline.config import TrainJob
from pipeline.errors import InputError, OvertileError
from pipeline.jobs.listener import Listener
from pipeline.jobs.training.lesson import Lesson
from pipeline.jobs.training.observer import Observer, Onlooker
from pipeline.jobs.training.prepared import Prepared
from pipeline.jobs.training.result import replaced, write, write_stopped
from pipeline.model.unet import UNet
from pipeline.training.augment import Augment
from pipeline.training.batches import Batches
from pipeline.training.determinism import deterministic_algorithms
from pipeline.training.device import torch_threads
from pipeline.training.ema import Ema
from pipeline.training.learner import Learner
from pipeline.training.loggers import make_loggers
from pipeline.training.loop import Course, DivergedError, fit
from pipeline.training.losses import loss_for
from pipeline.training.optimisers import make_optimiser, make_schedule
from pipeline.training.plan import TrainingPlan
from pipeline.training.ranks import Ranks
from pipeline.training.resume import TrainingFolder

LAST_GOOD = "last_good.safetensors"


def learn(
    prepared: Prepared, lesson: Lesson, output: Path, folder: TrainingFolder, listener: Listener
) -> dict[str, Any]:
    """Train one network and write its checkpoint; go on from the newest state where there is one.

    Args:
        prepared: the training.
        lesson: what this network learns from.
        output: its checkpoint.
        folder: its states, logs and pictures.
        listener: who is told.

    Returns:
        What ``NAME.metrics.json`` holds.

    Raises:
        OvertileError: training diverged; the checkpoint is as it was.
        EnvironmentFaultError: something cannot be written.
        InputError: this process does not see the states that the first of several sees.
    """
    plan, ranks = prepared.plan, prepared.ranks
    observer = Observer(prepared, lesson, folder, listener)
    with (
        torch_threads(prepared.threads),
        torch.random.fork_rng(),
        deterministic_algorithms(plan.job.deterministic),
    ):
        learner = _learner(plan, prepared.device)
        state = folder.newest(listener.note)
        if state is not None:
            learner.load(state)
            listener.note(f"goes on after step {state.step}")
        _check_together(ranks, folder, learner.history.step)
        observer.announce()
        listener.phase("train", plan.steps, "steps")
        if state is not None:
            listener.progress(state.step)
        try:
            _fit(prepared, lesson, learner, folder, observer)
        except DivergedError as error:
            text = str(error)
            raise OvertileError(ranks.first(lambda: _broken(prepared, lesson, learner, folder, text))) from error
        return ranks.first(lambda: _finish(prepared, lesson, learner, output, observer, listener))


def _finish(
    prepared: Prepared, lesson: Lesson, learner: Learner, output: Path, observer: Observer, listener: Listener
) -> dict[str, Any]:
    """Measure what is kept, and write it."""
    model = _kept(learner)
    measured = observer.whole(model)
    validation = None if measured is None else measured.metrics(prepared.plan.job.classes)
    if (worse := replaced(output, validation)) is not None:
        listener.note(worse)
    return write(prepared, lesson, output, model.cpu(), learner.history, measured)


def _check_together(ranks: Ranks, folder: TrainingFolder, step: int) -> None:
    """Refuse to train together from different states."""
    first = ranks.first(lambda: step)
    if step != first:
        raise InputError(
            f"{folder.path}: process {ranks.rank} sees the state after step {step}, the first one that after step"
            f" {first}; all machines must see the same files at this path"
        )


def _learner(plan: TrainingPlan, device: str) -> Learner:
    """Return a network that has not learnt yet: the same for the same seed."""
    torch.manual_seed(plan.job.seed)
    model = UNet(plan.architecture)
    layout = torch.channels_last if plan.architecture.dims == 2 else torch.channels_last_3d
    model = model.to(device).to(memory_format=layout)  # type: ignore[call-overload]
    optimiser = make_optimiser(plan.job, model.parameters())
    schedule = make_schedule(plan.job, optimiser, plan.steps)
    return Learner(model, optimiser, schedule, Ema(model, plan.job.ema) if plan.job.ema else None)


def _fit(prepared: Prepared, lesson: Lesson, learner: Learner, folder: TrainingFolder, observer: Observer) -> None:
    plan, ranks, done = prepared.plan, prepared.ranks, learner.history.step
    change = Augment(plan.augment, lesson.normalisation)
    batches = Batches(
        lesson.patches,
        lesson.normalisation,
        count=plan.steps * plan.batch,
        size=plan.batch,
        first=done * plan.batch,
        change=change,
        loaders=prepared.loaders,
        share=(ranks.rank, ranks.count),
    )
    loss = loss_for(plan.loss, outputs=plan.architecture.classes, class_shares=lesson.shares)
    names = plan.job.loggers if ranks.is_first else ()
    fit(
        learner,
        batches,
        loss=loss,
        course=_course(plan, prepared.device),
        observer=observer if ranks.is_first else Onlooker(),
        loggers=make_loggers(
            names,
            folder.path / "logs",
            name=prepared.output.stem,
            step=done,
            settings=plan.job.model_dump(mode="json"),
        ),
        ranks=ranks,
    )


def _course(plan: TrainingPlan, device: str) -> Course:
    job: TrainJob = plan.job
    return Course(
        steps=plan.steps,
        validate_every=plan.validate_every,
        clip=job.clip,
        time_limit=job.time_limit,
        patience=job.patience,
        precision=job.precision,
        device=device,
    )


def _kept(learner: Learner) -> UNet:
    """Return the network with the weights that are kept: the best that were measured, else the last."""
    model = learner.model
    model.load_state_dict(learner.best or learner.weights())
    return model.eval()


def _broken(prepared: Prepared, lesson: Lesson, learner: Learner, folder: TrainingFolder, why: str) -> str:
    """Keep the best weights so far where people can use them, and say how to go on."""
    if not learner.best:
        state = folder.newest(lambda text: None)
        if state is not None:
            learner.load(state)
    advice = (
        f"begin anew with --restart and a learning_rate below {prepared.plan.learning_rate:g}, or with"
        " architecture.norm: batch"
    )
    if not learner.best and learner.history.step == 0:
        return f"{why} and nothing was written; {advice}"
    kept = folder.path / LAST_GOOD
    write_stopped(prepared, lesson, kept, _kept(learner).cpu(), learner.history, why)
    step = learner.history.best or learner.history.step
    return f"{why}; the weights of step {step} are kept in {kept}, and {prepared.output} is as it was; {advice}"
