"""The plan of a training: the job with nothing left out, and the reason of every choice.

What the job says is taken as it is. What it leaves out is chosen by :mod:`pipeline.training.rules`, in an order in
which each choice may rest on the ones before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pipeline.config.losses import LossSettings
from pipeline.config.training import Augmentation, TrainJob
from pipeline.errors import InputError
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.choices import Choice
from pipeline.training.optimisers import learning_rate
from pipeline.training.patches import PatchLayout
from pipeline.training.rules import (
    Means,
    choose_augment,
    choose_balance,
    choose_batch,
    choose_depth,
    choose_dims,
    choose_loss,
    choose_patch,
    choose_steps,
    choose_width,
)
from pipeline.training.survey import Facts

POINTS = 20
"""Points of the learning curve."""

BLOCKS = 5
"""Blocks that a split by blocks needs, at least."""

GIVEN = "as the job says"


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """A job with nothing left out.

    Attributes:
        job: the job with nothing left out; giving it back plans the same.
        architecture: the network.
        patch: voxels of a patch, along the network's axes.
        batch: patches a step.
        steps: steps of the optimiser.
        validate_every: steps between two points of the learning curve.
        loss: what is made small.
        balance: share of the patches that hold a class drawn evenly.
        augment: random changes of patches.
        learning_rate: peak learning rate.
        choices: what was chosen, in order.
    """

    job: TrainJob
    architecture: UNetArchitecture
    patch: tuple[int, ...]
    batch: int
    steps: int
    validate_every: int
    loss: LossSettings
    balance: float
    augment: Augmentation
    learning_rate: float
    choices: tuple[Choice, ...]

    def check_batch(self) -> None:
        """Refuse what batch normalisation cannot average over: a single voxel at the lowest level.

        Raises:
            InputError: which says what to make larger.
        """
        network = self.architecture
        lowest = self.batch * math.prod(length // network.reach().stride for length in self.patch)
        if network.norm == "batch" and network.padding == "same" and lowest == 1:
            raise InputError(
                f"patch {','.join(map(str, self.patch))}, batch 1: one voxel at the lowest level cannot be"
                " normalised; make the patch or the batch larger"
            )

    def check_shares(self, count: int) -> None:
        """Refuse a batch that so many processes cannot share evenly.

        Raises:
            InputError: which names the next batch that they can.
        """
        if self.batch % count:
            raise InputError(
                f"batch {self.batch}: {count} processes train together, and each takes as many patches of a batch; make"
                f" it {-(-self.batch // count) * count}"
            )

    def document(self) -> list[dict[str, Any]]:
        """Return the choices, ready for JSON."""
        return [{"name": c.name, "value": c.value, "reason": c.reason} for c in self.choices]


class _Draft:
    """A plan while it is made."""

    def __init__(self, job: TrainJob) -> None:
        self._job = job
        self.choices: list[Choice] = []

    def settle(self, name: str, chosen: tuple[Any, str]) -> Any:
        """Take what the job says of a field, else what was chosen."""
        given = getattr(self._job, name)
        value, reason = chosen if given is None else (given, GIVEN)
        self.note(name, value, reason)
        return value

    def note(self, name: str, value: Any, reason: str) -> None:
        """Write a choice down."""
        shown = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        self.choices.append(Choice(name, list(shown) if isinstance(shown, tuple) else shown, reason))


SETTLED = (
    "architecture", "patch", "batch", "steps", "validate_every", "loss", "balance", "augment", "learning_rate",
)  # fmt: skip
"""Fields of a job that a plan leaves none of open."""


def settled(job: TrainJob, begun: TrainJob, choices: Sequence[Mapping[str, Any]]) -> TrainingPlan:
    """Return the plan of a training that goes on.

    Args:
        job: the job as it is given now.
        begun: the job that the training was begun with, nothing left out.
        choices: its choices, as :meth:`TrainingPlan.document` gave them.
    """
    values = {name: getattr(begun, name) for name in SETTLED}
    return TrainingPlan(job.model_copy(update=values), choices=tuple(Choice(**each) for each in choices), **values)


def plan_training(job: TrainJob, facts: Facts, means: Means) -> TrainingPlan:
    """Choose all that a job leaves out.

    Args:
        job: the job.
        facts: what the data are like.
        means: what there is to train with.

    Raises:
        InputError: the network does not take the job's patch.
    """
    draft = _Draft(job)
    parts = BLOCKS if job.split.by in ("auto", "block") and not job.validation else 0
    architecture = job.architecture or _narrow(job, facts, draft)
    patch = draft.settle("patch", choose_patch(facts, architecture, means, parts))
    PatchLayout.plain(architecture, patch)  # refuses what the network does not take
    if job.architecture is None:
        architecture, why = choose_width(architecture, patch, means)
        draft.note("architecture.width", architecture.width, why)
    else:
        draft.note("architecture", architecture, GIVEN)
    batch = draft.settle("batch", choose_batch(architecture, patch, means))
    steps = draft.settle("steps", choose_steps(facts, patch, batch, means))
    settled: dict[str, Any] = {
        "architecture": architecture,
        "patch": patch,
        "batch": batch,
        "steps": steps,
        "validate_every": draft.settle(
            "validate_every", (-(-steps // POINTS), f"{min(steps, POINTS)} points of the learning curve")
        ),
        "loss": draft.settle("loss", choose_loss(facts)),
        "balance": draft.settle("balance", choose_balance(facts)),
        "augment": draft.settle("augment", choose_augment(facts, architecture.dims)),
        "learning_rate": draft.settle("learning_rate", (learning_rate(job), f"usual for {job.optimiser}")),
    }
    if job.normalisation is None:
        draft.note("normalisation", "global", "mean and deviation of each channel over all that is learnt from")
    return TrainingPlan(job.model_copy(update=settled), choices=tuple(draft.choices), **settled)


def _narrow(job: TrainJob, facts: Facts, draft: _Draft) -> UNetArchitecture:
    """Choose the network but for its width, which the patch's memory decides."""
    if job.patch is None:
        dims, why = choose_dims(facts)
    else:
        dims, why = len(job.patch), f"the job's patch has {len(job.patch)} axes"
    draft.note("architecture.dims", dims, why)
    depth, why = choose_depth(facts, dims, blocks=_splits_by_blocks(job, facts, dims))
    if job.patch is not None:
        while depth > 1 and any(length % 2 ** (depth - 1) for length in job.patch):
            depth, why = depth - 1, "the job's patch can be halved so often"
    draft.note("architecture.depth", depth, why)
    classes = 1 if len(job.classes) == 2 else len(job.classes)
    draft.note("architecture.classes", classes, "a sigmoid tells two classes apart, a softmax more")
    draft.note("architecture.padding", "same", "patches need no context; tiles are exact by their halo")
    draft.note("architecture.norm", "batch", "learns faster, and is exact in inference")
    return UNetArchitecture(
        dims=dims,
        in_channels=facts.channels,
        classes=classes,
        depth=depth,
        width=8,
        padding="same",
        norm="batch",
    )


def _splits_by_blocks(job: TrainJob, facts: Facts, dims: int) -> bool:
    """Whether blocks are held out: where there are neither volumes nor slices enough."""
    if job.validation or job.split.by != "auto":
        return not job.validation and job.split.by == "block"
    return len(facts.shapes) < BLOCKS and dims == len(facts.space.axes)
