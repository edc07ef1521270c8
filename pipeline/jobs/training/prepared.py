"""Everything that is settled before the first step: what is opened, measured, planned and refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config import Pair, TrainJob, explain
from pipeline.config.losses import BorderCrossEntropy
from pipeline.errors import InputError
from pipeline.jobs.outputs import checkpoint_path
from pipeline.model.checkpoint import CheckpointHeader, Normalisation
from pipeline.run.machine import this_machine
from pipeline.training.device import choose_device, memory_for_training
from pipeline.training.fitting import check_alike, check_network
from pipeline.training.loggers import check_loggers
from pipeline.training.pairs import OpenPair, hold, open_pairs
from pipeline.training.patches import PatchLayout, check_room
from pipeline.training.plan import TrainingPlan, plan_training, settled
from pipeline.training.ranks import ALONE, Ranks, check_devices
from pipeline.training.resume import Identity, TrainingFolder
from pipeline.training.rules import Means
from pipeline.training.survey import survey
from pipeline.training.targets import ClassIds, TargetRule, Weighing
from pipeline.training.weights import border_context, border_weights


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training that may begin.

    Attributes:
        plan: what is done, nothing left out.
        device: ``cpu`` or ``cuda``.
        output: the checkpoint.
        folder: plan, states, logs and pictures.
        pairs: what ``pairs`` names, open.
        measured: what ``validation`` names, open.
        rule: how class ids are made of what targets store.
        header: of the checkpoint, before what is learnt from is known: without normalisation and provenance.
        resumed: whether the training was begun before.
        ranks: this process among those that train together.
    """

    plan: TrainingPlan
    device: str
    output: Path
    folder: TrainingFolder
    pairs: Sequence[OpenPair]
    measured: Sequence[OpenPair]
    rule: TargetRule
    header: CheckpointHeader
    resumed: bool
    ranks: Ranks

    @property
    def threads(self) -> int:
        """Threads of the network."""
        return self.plan.job.threads or max(1, this_machine().cores // self.ranks.here)

    @property
    def loaders(self) -> int:
        """Threads that make patches."""
        return self.plan.job.loaders or max(1, this_machine().cores // self.ranks.here)

    def begin(self) -> None:
        """Write the plan down, right before the first step."""
        if not self.resumed:
            self.folder.begin({"job": self.plan.job.model_dump(mode="json"), "choices": self.plan.document()})


def prepare(job: TrainJob, ranks: Ranks = ALONE) -> Prepared:
    """Open and check everything that a job names, and plan what it leaves out; nothing is written.

    Args:
        job: the settings.
        ranks: this process among those that train together.

    Raises:
        InputError: refused; the message says what, where and what to do.
    """
    check_loggers(job.loggers)
    device = choose_device(job.device)
    check_devices(device, job.devices, ranks)
    devices = max(job.devices, ranks.count)
    if job.precision == "float16" and device == "cpu":
        raise InputError("precision float16 is for GPUs; on a CPU take bfloat16 or float32")
    output = checkpoint_path(job.output)
    _check_apart(job)
    opened = _open(job)
    folder = TrainingFolder(output.with_suffix(".training"), _identity(job, opened))
    begun = None if job.restart else folder.plan()
    pairs = hold(opened, job.cache)
    learnt, measured = pairs[: len(job.pairs)], pairs[len(job.pairs) :]
    plan = _plan(job, learnt, device, devices) if begun is None else _begun(job, begun)
    for pair in pairs:
        check_network(pair.name, pair.image.volume, plan.architecture)
    for pair in learnt:
        check_room(pair, PatchLayout.plain(plan.architecture, plan.patch))
    plan.check_batch()
    plan.check_shares(devices)
    rule = target_rule(plan.job)
    header = _header(plan, pairs[0])
    return Prepared(plan, device, output, folder, learnt, measured, rule, header, begun is not None, ranks)


def target_rule(job: TrainJob) -> TargetRule:
    """Return how class ids, and the weights of the paper's loss, are made of what targets store."""
    weighing = None
    if isinstance(job.loss, BorderCrossEntropy):
        w0, sigma = job.loss.w0, job.loss.sigma
        weighing = Weighing(partial(border_weights, w0=w0, sigma=sigma), border_context(w0, sigma))
    return TargetRule(ClassIds(len(job.classes), job.ignore), job.instances, job.boundary, weighing)


def _open(job: TrainJob) -> list[OpenPair]:
    """Open all pairs of a job: what is learnt from, then what it is measured on."""
    options: dict[str, Any] = {"holes": job.holes, "classes": job.classes, "instances": job.instances}
    pairs = open_pairs(job.pairs, job.architecture, **options)
    measured = open_pairs(job.validation, job.architecture, entry="validation", **options)
    both = [*pairs, *measured]
    check_alike([pair.name for pair in both], [pair.image.volume for pair in both])
    return both


def _check_apart(job: TrainJob) -> None:
    """Refuse what is both learnt from and measured on."""
    twice = {_place(pair) for pair in job.pairs} & {_place(pair) for pair in job.validation}
    if twice:
        raise InputError(
            f"{', '.join(sorted(map(str, twice)))}: under `pairs` and under `validation`; what is trained on cannot"
            " measure the network: take it out of one"
        )


def _place(pair: Pair) -> str:
    return pair.image if "://" in pair.image else str(Path(pair.image).resolve())


def _identity(job: TrainJob, pairs: Sequence[OpenPair]) -> Identity:
    """Return what must be the same when a training goes on: the job, and what the data are stored in."""
    data = {}
    for pair in pairs:
        entry = pair.name.partition(" ")[0]
        for kind, source in (("image", pair.image), ("target", pair.target)):
            data[f"{entry}.{kind}"] = _stored(source.volume)
    return Identity(job.model_dump(mode="json"), data)


def _stored(volume: Any) -> str:
    """Return a digest of an image's layout, and of the identities of all that it is stored in."""
    found = hashlib.blake2b(json.dumps(volume.metadata, sort_keys=True, default=str).encode(), digest_size=16)
    for digest in volume.identities().digests(volume.box):
        found.update(digest.encode())
    return found.hexdigest()


def _plan(job: TrainJob, pairs: Sequence[OpenPair], device: str, devices: int) -> TrainingPlan:
    facts = survey(pairs, target_rule(job))
    means = Means(device, memory_for_training(device, this_machine().memory, job.cache), devices)
    return plan_training(job, facts, means)


def _begun(job: TrainJob, begun: Mapping[str, Any]) -> TrainingPlan:
    """Return the plan that a training was begun with; what does not change its result is as the job says now."""
    return settled(job, TrainJob.model_validate(begun["job"]), begun["choices"])


def _header(plan: TrainingPlan, pair: OpenPair) -> CheckpointHeader:
    """Return the checkpoint's header as far as it is known before training, so that it is refused in time."""
    space, dims, channels = pair.image.volume.space, plan.architecture.dims, pair.image.volume.channels
    try:
        return CheckpointHeader(
            architecture=plan.architecture,
            normalisation=plan.job.normalisation or Normalisation(mean=(0,) * channels, std=(1,) * channels),
            classes=plan.job.classes,
            axes=space.axes[-dims:],
            voxel_size=space.voxel_size[-dims:] if space.unit else None,
            unit=space.unit,
        )
    except ValidationError as error:
        raise InputError(f"the checkpoint would not be valid: {explain(error)}") from error
