"""The training loop: Lightning walks through the batches, and what happens at each step stands on this page.

A step: forward, crop to the patch, loss, backward, clip, optimiser, learning rate, moving average. Now and then a
point of the learning curve: the network is measured, and its weights are kept if they are the best so far. Then, and
once a minute besides, everything is stored, so that a killed training goes on from there.

Several processes take a share of each batch each; what they go by (losses, the clock) is the mean over them.

With a time limit the learning rate follows the steps or the clock, whichever is further on, so that it has come down
when either runs out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import TorchElasticEnvironment  # type: ignore[attr-defined]
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pipeline.errors import OvertileError
from pipeline.model.unet import UNet
from pipeline.training.batches import Batch, Batches, loader
from pipeline.training.learner import History, Learner, Point
from pipeline.training.losses import Loss
from pipeline.training.patches import PatchLayout
from pipeline.training.quiet import quiet_lightning
from pipeline.training.ranks import ALONE, Ranks
from pipeline.training.resume import State

STORE_EVERY = 60.0
"""Seconds between two states, at most by a step."""

LOG_EVERY = 10
"""Steps between two losses that are logged."""

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


class DivergedError(OvertileError):
    """The loss is no number any more; the states that were stored before are good."""


class Observer(Protocol):
    """Hears of the steps, measures the network and stores states."""

    def measure(self, model: UNet) -> dict[str, Any] | None:
        """Measure the network, which is in evaluation mode, at a point of the learning curve."""
        ...

    def progress(self, step: int) -> None:
        """So many steps are done."""
        ...

    def point(self, point: Point) -> None:
        """There is a new point of the learning curve."""
        ...

    def store(self, state: State) -> None:
        """Keep the state."""
        ...


@dataclass(frozen=True, slots=True)
class Course:
    """How long to learn, and how Lightning takes the steps.

    Attributes:
        steps: steps of the optimiser in all.
        validate_every: steps between two points of the learning curve.
        clip: largest norm of the gradient; a larger one is scaled down to it.
        time_limit: seconds from the first step to the last, or None.
        patience: stop after so many points that brought nothing better, or None.
        precision: ``float32``, ``bfloat16`` or ``float16``; the latter two mixed with float32.
        device: ``cpu`` or ``cuda``.
    """

    steps: int
    validate_every: int
    clip: float = 1.0
    time_limit: float | None = None
    patience: int | None = None
    precision: str = "float32"
    device: str = "cpu"


class _Module(LightningModule):
    """One step: forward, crop to the patch, loss.

    Attributes:
        mean_loss: loss of the step, over all processes.
        clock: seconds since the first step began, in all lives; the same in all processes.
    """

    def __init__(self, learner: Learner, layout: PatchLayout, loss: Loss, course: Course, ranks: Ranks) -> None:
        super().__init__()
        self.model = learner.model
        self.learner = learner
        self.layout = layout
        self.loss = loss
        self.course = course
        self.ranks = ranks
        self.mean_loss = self.clock = 0.0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the first step began, in all lives."""
        return time.monotonic() - self._began

    def on_train_start(self) -> None:
        self._began = time.monotonic() - self.learner.history.seconds
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and self.learner.scaler:
            scaler.load_state_dict(self.learner.scaler)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        logits = self.model(batch.images)[:, :, *self.layout.kept]
        loss = self.loss(logits.float(), batch.targets, batch.weights)
        self.mean_loss, self.clock = self.ranks.mean(float(loss.detach()), self.seconds)
        if not math.isfinite(self.mean_loss):
            step = self.learner.history.step + 1
            raise DivergedError(f"the loss is {self.mean_loss} at step {step}: training has diverged")
        return loss

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        return [self.learner.optimiser], [{"scheduler": self.learner.schedule, "interval": "step"}]

    def lr_scheduler_step(self, scheduler: LRScheduler, metric: Any) -> None:
        steps, limit = self.course.steps, self.course.time_limit
        share = min(self.clock / limit, 1) if limit else 0
        place = min(max(scheduler.last_epoch + 1, math.floor(share * steps)), steps - 1)
        while scheduler.last_epoch < place:
            scheduler.step()


class _Watch(Callback):
    """After each step: average, count, measure now and then, store, stop when it is time."""

    def __init__(self, observer: Observer, batches: Batches, waited: float) -> None:
        self._observer = observer
        self._batches = batches
        self._waited = waited
        self._stored = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(module, _Module)
        module.learner.wake()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, _Module)
        learner, course = module.learner, module.course
        history = learner.history
        history.losses.append(module.mean_loss)
        if learner.ema is not None:
            learner.ema.update(learner.model)
        late = course.time_limit is not None and module.clock >= course.time_limit
        ends = late or history.step == course.steps
        if ends or history.step % course.validate_every == 0:
            self._add_point(trainer, module)
            ends = ends or (course.patience is not None and history.stale >= course.patience)
        history.seconds, history.waited = module.seconds, self._waited + self._batches.waited
        if history.step % LOG_EVERY == 0:
            _log_all(trainer, {"loss": history.losses[-1]}, history.step)
        trainer.should_stop = trainer.should_stop or ends
        self._observer.progress(history.step)
        if ends or history.step % course.validate_every == 0 or time.monotonic() - self._stored > STORE_EVERY:
            self._store(trainer, module)

    def _add_point(self, trainer: Trainer, module: _Module) -> None:
        learner, history = module.learner, module.learner.history
        done = history.curve[-1]["step"] if history.curve else 0
        recent = history.losses[done:]
        rate = learner.optimiser.param_groups[0]["lr"]
        point = {
            "step": history.step,
            "seconds": module.seconds,
            "learning_rate": rate,
            "loss": sum(recent) / len(recent),
        }
        with learner.measured() as model:
            point["validation"] = module.ranks.first(lambda: self._observer.measure(model))
        history.curve.append(point)
        learner.judge(point)
        self._observer.point(point)
        _log(trainer, point)

    def _store(self, trainer: Trainer, module: _Module) -> None:
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        module.learner.scaler = {} if scaler is None else scaler.state_dict()
        if module.ranks.is_first:
            self._observer.store(module.learner.state())
        self._stored = time.monotonic()


def _log(trainer: Trainer, point: Point) -> None:
    """Log a point of the learning curve."""
    found = point["validation"] or {"classes": {}}
    values = {"learning_rate": point["learning_rate"], "mean_loss": point["loss"]}
    values |= {name: found.get(name) for name in ("mean_iou", "mean_dice")}
    values |= {f"iou_{name}": each["iou"] for name, each in found["classes"].items()}
    _log_all(trainer, {name: value for name, value in values.items() if value is not None}, point["step"])


def _log_all(trainer: Trainer, values: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(values, step)


def fit(
    learner: Learner,
    batches: Batches,
    *,
    loss: Loss,
    course: Course,
    observer: Observer,
    loggers: Sequence[Logger] = (),
    ranks: Ranks = ALONE,
) -> History:
    """Train a network from where it is to the end of the course, in place.

    Args:
        learner: the network and all that changes; comes back on the CPU, in training mode.
        batches: those of the steps that are still to be done: this process's share of them.
        loss: what is made small.
        course: how long, and how.
        observer: told of every step and every point of the learning curve, in this thread.
        loggers: told of every loss and every point.
        ranks: this process among those that train together, which have joined each other.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    left = course.steps - learner.history.step
    stopped = course.patience is not None and learner.history.stale >= course.patience
    if left <= 0 or stopped:
        return learner.history
    with quiet_lightning():
        trainer = Trainer(
            accelerator="gpu" if course.device == "cuda" else "cpu",
            **_together(ranks, course.device),
            max_steps=left,
            precision=PRECISIONS[course.precision],  # type: ignore[arg-type]
            gradient_clip_val=course.clip,
            callbacks=[_Watch(observer, batches, learner.history.waited)],
            logger=list(loggers) or False,
            log_every_n_steps=LOG_EVERY,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(_Module(learner, batches.layout, loss, course, ranks), loader(batches))
    return learner.history


def _together(ranks: Ranks, device: str) -> dict[str, Any]:
    """Return what Lightning needs to know of the processes that train together."""
    if ranks.count == 1:
        return {"devices": 1}
    return {
        "devices": ranks.here,
        "num_nodes": ranks.machines,
        "strategy": DDPStrategy(cluster_environment=TorchElasticEnvironment()),
        "sync_batchnorm": device == "cuda",  # torch has it for GPUs alone
        "use_distributed_sampler": False,
    }
