"""The training loop: Lightning walks through the batches, and what happens at each step stands on this page.

The optimiser is AdamW (Loshchilov and Hutter 2019), its learning rate one cycle (Smith and Topin 2018): up, then
down to nearly zero. With a time limit the cycle follows the steps or the clock, whichever is further on, so that the
rate has come down when either runs out, and the weights at the end are good ones.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from pipeline.errors import OvertileError
from pipeline.model.unet import UNet
from pipeline.training.batches import Batch, Batches, loader
from pipeline.training.losses import Loss
from pipeline.training.patches import PatchLayout
from pipeline.training.quiet import quiet_lightning

CLIP = 1.0
"""Largest norm of the gradient; a larger one is scaled down to it."""

Point = dict[str, Any]


class Observer(Protocol):
    """Hears of the steps, and measures the network."""

    def measure(self, model: UNet) -> dict[str, Any] | None:
        """Measure the network, which is in evaluation mode, at a point of the learning curve."""
        ...

    def progress(self, step: int) -> None:
        """So many steps are done."""
        ...

    def point(self, point: Point) -> None:
        """There is a new point of the learning curve."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn.

    Attributes:
        steps: steps of the optimiser.
        learning_rate: peak of the cycle.
        weight_decay: of AdamW.
        validate_every: steps between two points of the learning curve.
        time_limit: seconds from the first step to the last, or None.
    """

    steps: int
    learning_rate: float
    weight_decay: float
    validate_every: int
    time_limit: float | None = None


@dataclass(slots=True)
class History:
    """What happened.

    Attributes:
        losses: loss of each step.
        curve: points of the learning curve: ``step``, ``seconds``, ``learning_rate``, ``loss`` (the mean since the
            point before) and ``validation`` (what was measured, or None).
        seconds: from the first step to the last, with validation.
    """

    losses: list[float] = field(default_factory=list)
    curve: list[Point] = field(default_factory=list)
    seconds: float = 0.0


class _Learner(LightningModule):
    """One step: forward, crop to the patch, loss."""

    def __init__(self, model: UNet, layout: PatchLayout, loss: Loss, schedule: Schedule) -> None:
        super().__init__()
        self.model = model
        self.layout = layout
        self.loss = loss
        self.schedule = schedule
        self._began = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the first step began."""
        return time.monotonic() - self._began

    def on_train_start(self) -> None:
        self._began = time.monotonic()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images, targets = batch
        loss = self.loss(self.model(images)[:, :, *self.layout.kept], targets)
        if not bool(torch.isfinite(loss)):
            raise OvertileError(
                f"the loss is {loss.item()} at step {index + 1}: training has diverged, nothing was written;"
                f" try a learning_rate below {self.schedule.learning_rate:g}, or architecture.norm: batch"
            )
        return loss

    def configure_optimizers(self) -> tuple[list[AdamW], list[Any]]:
        schedule = self.schedule
        optimiser = AdamW(self.model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
        cycle = OneCycleLR(optimiser, max_lr=schedule.learning_rate, total_steps=schedule.steps)
        return [optimiser], [{"scheduler": cycle, "interval": "step"}]

    def lr_scheduler_step(self, scheduler: LRScheduler, metric: Any) -> None:
        steps, limit = self.schedule.steps, self.schedule.time_limit
        share = min(self.seconds / limit, 1) if limit else 0
        place = min(max(scheduler.last_epoch + 1, math.floor(share * steps)), steps - 1)
        while scheduler.last_epoch < place:
            scheduler.step()


class _Watch(Callback):
    """After each step: count, measure now and then, stop when time is up."""

    def __init__(self, observer: Observer) -> None:
        self.history = History()
        self._observer = observer

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(module, _Learner)
        schedule, step = module.schedule, batch_idx + 1
        self.history.losses.append(float(outputs["loss"]))
        if schedule.time_limit is not None and module.seconds >= schedule.time_limit:
            trainer.should_stop = True
        if trainer.should_stop or step == schedule.steps or step % schedule.validate_every == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self._add_point(module, {"step": step, "seconds": module.seconds, "learning_rate": rate})
        self.history.seconds = module.seconds
        self._observer.progress(step)

    def _add_point(self, module: _Learner, point: Point) -> None:
        curve = self.history.curve
        recent = self.history.losses[curve[-1]["step"] if curve else 0 :]
        module.model.eval()
        measured = self._observer.measure(module.model)
        module.model.train()
        curve.append(point | {"loss": sum(recent) / len(recent), "validation": measured})
        self._observer.point(curve[-1])


def fit(
    model: UNet, batches: Batches, *, loss: Loss, schedule: Schedule, device: str, observer: Observer
) -> History:
    """Train a network, in place.

    Args:
        model: the network; comes back on the CPU, in training mode.
        batches: as many as there are steps.
        loss: what is made small.
        schedule: how long and how fast.
        device: ``cpu`` or ``cuda``.
        observer: told of every step and every point of the learning curve, in this thread.

    Raises:
        OvertileError: the loss became NaN or infinite.
    """
    watch = _Watch(observer)
    with quiet_lightning():
        trainer = Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            max_steps=schedule.steps,
            gradient_clip_val=CLIP,
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(_Learner(model.train(), batches.layout, loss, schedule), loader(batches))
    return watch.history
