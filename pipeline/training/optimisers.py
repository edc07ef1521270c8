"""What makes a step of a gradient, and how the learning rate changes over the steps."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from pipeline.config.training import TrainJob

LEARNING_RATES = {"adamw": 1e-3, "sgd": 1e-2}
"""Peak learning rates of jobs that name none."""


def learning_rate(job: TrainJob) -> float:
    """Return the peak learning rate of a job."""
    return LEARNING_RATES[job.optimiser] if job.learning_rate is None else job.learning_rate


def make_optimiser(job: TrainJob, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return the optimiser: AdamW (Loshchilov and Hutter 2019), or SGD with momentum (Ronneberger et al. 2015, 3)."""
    rate = learning_rate(job)
    if job.optimiser == "sgd":
        return SGD(parameters, lr=rate, momentum=job.momentum, weight_decay=job.weight_decay)
    return AdamW(parameters, lr=rate, weight_decay=job.weight_decay)


def make_schedule(job: TrainJob, optimiser: Optimizer, steps: int) -> LRScheduler:
    """Return the schedule, to be stepped after each step of the optimiser.

    - ``one_cycle`` (Smith and Topin 2018): up over the first 30 % of the steps, then down to nearly zero. AdamW's
      first beta goes the other way; SGD keeps its momentum.
    - ``cosine`` (Loshchilov and Hutter 2017): up in a straight line over the share ``warmup`` of the steps, then down
      along half a cosine. The last step has the rate ``(1 - cos(pi / n)) / 2``, n steps being left after the warm-up.
    - ``constant``: the same for all steps.

    Its ``state_dict`` is plain numbers; a schedule made by the same job goes on from it.

    Args:
        job: the settings.
        optimiser: made by :func:`make_optimiser`.
        steps: steps of the optimiser in all.
    """
    if job.schedule == "one_cycle":
        return OneCycleLR(
            optimiser, max_lr=learning_rate(job), total_steps=steps, cycle_momentum=job.optimiser == "adamw"
        )
    if job.schedule == "constant":
        return LambdaLR(optimiser, lambda step: 1.0)
    return LambdaLR(optimiser, lambda step: _cosine(step, steps, math.ceil(job.warmup * steps)))


def _cosine(step: int, steps: int, rise: int) -> float:
    """Return the share of the peak rate at a step, counted from 0."""
    if step < rise:
        return (step + 1) / (rise + 1)
    return (1 + math.cos(math.pi * min((step - rise) / max(steps - rise, 1), 1))) / 2
