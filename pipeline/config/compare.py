"""A comparison: one job of training in several variants, each from several seeds, measured on the same regions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pipeline.config.load import load_job
from pipeline.config.training import Pair, TrainJob
from pipeline.config.values import Job, Names, Seeds
from pipeline.errors import InputError

BASE = "base"
"""Name of the job that all variants are compared with."""

OURS = frozenset({"output", "seed", "restart", "dry_run"})
"""Fields of a training that the comparison gives each of them."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


class CompareJob(Job):
    """Train variants of one job from several seeds, and measure all of them on the same held-out regions."""

    base: dict[str, Any] = Field(
        description="the job of training, as `overtile train` takes it, without output and seed; what it leaves out is"
        " planned once, for all variants"
    )
    variants: dict[str, dict[str, Any]] = Field(
        description="what each variant changes of it, by name: {autoencoder: {architecture: {skip: none}}}"
    )
    out: str = Field(description="folder for the networks, the table and the page")
    seeds: Annotated[Seeds, Field(min_length=1)] = Field(
        (0, 1, 2), description="seeds of the trainings: each variant is trained once from each"
    )
    exam: tuple[Pair, ...] = Field(
        (),
        description="what all are measured on, never used by any training; where left out, what each training holds"
        " out, which also chose its weights",
    )
    metrics: Annotated[Names, Field(min_length=1)] = Field(
        ("mean_iou", "mean_dice"),
        description="metrics by which variants are compared, the first one is drawn: mean_iou,iou_nucleus",
    )
    resamples: Annotated[int, Field(ge=200, le=100_000)] = Field(
        2000, description="resamples of the bootstrap, for confidence intervals"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="share of the resamples that an interval holds")
    restart: bool = Field(False, description="throw away what was trained before, and begin anew")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.variants:
            raise ValueError("variants: there is nothing to compare the base with; name at least one")
        for what, several in (("seeds", self.seeds), ("metrics", self.metrics)):
            if len(set(several)) < len(several):
                raise ValueError(f"{what} {','.join(map(str, several))}: each one once")
        for name, changes in ((BASE, self.base), *self.variants.items()):
            _check_changes(name, changes)
        for name in self.variants:
            if name == BASE or not _NAME.fullmatch(name):
                raise ValueError(
                    f"variant {name!r}: names are made of letters, digits, dots, dashes and underscores, and not"
                    f" {BASE!r}; it is the name of a folder"
                )
        if self.named(BASE).classes != (other := self._other_classes()):
            raise ValueError(f"variants have other classes ({', '.join(other)}) than the base: not comparable")
        return self

    def _other_classes(self) -> tuple[str, ...]:
        """Return the classes of the first variant that has others than the base; else the base's."""
        base = self.named(BASE).classes
        return next((job.classes for name in self.variants if (job := self.named(name)).classes != base), base)

    def names(self) -> tuple[str, ...]:
        """Return the names of all variants, the base first."""
        return (BASE, *self.variants)

    def named(self, name: str, base: Mapping[str, Any] | None = None, **given: Any) -> TrainJob:
        """Return a variant's job of training.

        Args:
            name: of the variant.
            base: the base with nothing left out, if that is known already.
            given: what the comparison says itself: ``output``, ``seed``.

        Raises:
            ValueError: it is not valid; the message names the variant.
        """
        changes = {} if name == BASE else self.variants[name]
        values = merged(self.base if base is None else base, changes) | {"output": "model.safetensors"} | given
        try:
            return load_job(TrainJob, values)
        except InputError as error:
            raise ValueError(f"{name}: {error}") from error


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with changes: mappings are changed inside, all else is replaced.

    A mapping that tells its ``kind`` (a loss) replaces the base's, as other kinds have other settings.
    """
    found = dict(base)
    for key, value in changes.items():
        before = found.get(key)
        inside = isinstance(before, Mapping) and isinstance(value, Mapping) and "kind" not in value
        found[key] = merged(before, value) if inside else value  # type: ignore[arg-type]
    return found


def _check_changes(name: str, changes: Mapping[str, Any]) -> None:
    told = sorted(OURS & set(changes))
    if told:
        raise ValueError(f"{name}: {', '.join(told)} is given by the comparison itself: leave it out")
    split = changes.get("split")
    if isinstance(split, Mapping) and split.get("folds"):
        raise ValueError(f"{name}: split.folds: each training is one network; leave folds out")
