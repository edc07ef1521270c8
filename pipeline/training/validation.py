"""Measuring a network on what is held out: whole regions, tile by tile, exactly as inference would have them.

Tiles are laid out exactly (``PatchLayout.exact``): each voxel's logits are those of the whole volume, so that the
sums over tiles are the metrics of the whole regions, whatever the tiles' size is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from torch import nn

from pipeline.evaluation.histograms import CalibrationStatistics
from pipeline.evaluation.logits import LogitHistogram
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.model.checkpoint import Normalisation
from pipeline.training.patches import Patch, PatchLayout
from pipeline.training.spread import evenly
from pipeline.training.targets import IGNORE

Voxels = npt.NDArray[Any]

SAMPLED = 1 << 18
"""Voxels whose logits are kept for the temperature, at most."""


class Tiles(Protocol):
    """The tiles of the regions that are held out, in order."""

    @property
    def layout(self) -> PatchLayout:
        """Where a tile lies in the network's input and output."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Patch:
        """Return a tile; what is not in the regions is ignored."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """A tile as the network saw it.

    Attributes:
        number: of the tile.
        image: the voxels under the target, raw, ``(c, *patch)``.
        target: class ids ``(*patch)``, negative where nothing is known.
        logits: ``(channels, *patch)``.
    """

    number: int
    image: Voxels
    target: Voxels
    logits: Voxels

    @property
    def found(self) -> Voxels:
        """The class ids that the logits speak for, at a threshold of one half."""
        classes: Voxels = self.logits[0] >= 0 if len(self.logits) == 1 else self.logits.argmax(0)
        return classes.astype(np.uint8)


@dataclass(slots=True)
class Measured:
    """Sums over tiles.

    Attributes:
        total: counts of target and found classes.
        sweep: raw probabilities of the foreground; of networks with one channel, where voxels are kept.
        histogram: and their logits.
        logits: of some voxels, ``(voxels, channels)`` each.
        targets: their class ids.
    """

    total: ConfusionStatistics
    sweep: CalibrationStatistics = field(default_factory=CalibrationStatistics.zero)
    histogram: LogitHistogram = field(default_factory=LogitHistogram.zero)
    logits: list[Voxels] = field(default_factory=list)
    targets: list[Voxels] = field(default_factory=list)

    def add(self, seen: Seen, *, keep: int) -> None:
        """Add a tile, and keep the logits of up to so many of its voxels; none for metrics alone."""
        self.total += ConfusionStatistics.of(seen.found, seen.target, classes=self.total.classes, ignore=IGNORE)
        if keep and len(seen.logits) == 1:
            self.sweep += CalibrationStatistics.of(expit(seen.logits[0]), seen.target, ignore=IGNORE)
            self.histogram += LogitHistogram.of(seen.logits[0], seen.target, ignore=IGNORE)
        known = np.flatnonzero(seen.target.ravel() >= 0)
        if keep and len(known):
            kept = known[list(evenly(len(known), keep))]
            self.logits.append(seen.logits.reshape(len(seen.logits), -1)[:, kept].T)
            self.targets.append(seen.target.ravel()[kept])

    def metrics(self, names: Sequence[str]) -> dict[str, Any] | None:
        """Return the metrics; None where no voxel was known."""
        return metrics(self.total, names) if self.total.counts.any() else None


def see(
    model: nn.Module, tiles: Tiles, normalisation: Normalisation, *, numbers: Sequence[int], batch: int
) -> Iterator[Seen]:
    """Yield what a network says of some tiles.

    Args:
        model: the network, in evaluation mode, on any device.
        tiles: what is held out.
        normalisation: mean and standard deviation of each channel.
        numbers: which tiles.
        batch: tiles at a time.
    """
    device = next(model.parameters()).device
    column = (-1,) + (1,) * len(tiles.layout.patch)
    mean, std = (torch.tensor(v).reshape(column) for v in (normalisation.mean, normalisation.std))
    for first in range(0, len(numbers), batch):
        some = numbers[first : first + batch]
        patches = [tiles.layout.cut(tiles[number]) for number in some]
        images = torch.from_numpy(np.stack([patch.image.astype(np.float32) for patch in patches]))
        images = (images - mean) / std
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            logits = model(images.to(device))[:, :, *tiles.layout.kept].float().cpu().numpy()
        for number, patch, each in zip(some, patches, logits, strict=True):
            yield Seen(number, _under(patch, tiles.layout), patch.target, each)


def measure(
    model: nn.Module,
    tiles: Tiles,
    normalisation: Normalisation,
    *,
    classes: int,
    batch: int,
    most: int | None = None,
    sampled: int = 0,
    shown: int = 0,
) -> tuple[Measured, list[Seen]]:
    """Measure a network on what is held out.

    Args:
        model: the network, in evaluation mode.
        tiles: what is held out.
        normalisation: mean and standard deviation of each channel.
        classes: number of classes.
        batch: tiles at a time.
        most: tiles to measure on, evenly spaced; None for all.
        sampled: voxels whose logits are kept, at most.
        shown: tiles to return, evenly spaced, for a picture.

    Returns:
        The sums, and the tiles for a picture.
    """
    numbers = evenly(len(tiles), len(tiles) if most is None else most)
    chosen = {numbers[place] for place in evenly(len(numbers), shown)}
    measured, kept = Measured(ConfusionStatistics.zero(classes)), []
    for seen in see(model, tiles, normalisation, numbers=numbers, batch=batch):
        measured.add(seen, keep=-(-sampled // len(numbers)))
        if seen.number in chosen:
            kept.append(seen)
    return measured, kept


def _under(patch: Patch, layout: PatchLayout) -> Voxels:
    """Return the image under the target, without the context."""
    place = tuple(slice(b, b + p) for b, p in zip(layout.before, layout.patch, strict=True))
    return patch.image[:, *place]
