"""How long training waits for data: patches out of sharded Zarr, beside a dataset that slices Zarr by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.material import image
from pipeline.config.training import Augmentation, Pair
from pipeline.geometry import Box, Grid
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import Normalisation
from pipeline.model.unet import UNet
from pipeline.run.machine import this_machine
from pipeline.training.augment import Augment
from pipeline.training.batches import Batches, loader
from pipeline.training.losses import IGNORE
from pipeline.training.pairs import hold, open_pairs
from pipeline.training.patches import PatchLayout, PatchStream
from pipeline.training.targets import ClassIds
from pipeline.volume import ArraySpec, ShardWriter, Space, create_level, publish

SIDE, PATCH, BATCH, STEPS = 8192, 256, 8, 24
SCALE = Normalisation(mean=(120.0,) * 3, std=(50.0,) * 3)
LIGHT = UNetArchitecture(in_channels=3, classes=2, depth=4, width=16, padding="same", norm="batch")
"""The light U-Net of the README."""

SMALL = 48 << 20
"""Bytes of a cache that holds a fifth of the voxels: most patches have to be decoded."""

Pairs = Iterator[tuple[Tensor, Tensor]]


@dataclass(slots=True)
class Measured:
    """One way to get batches.

    Attributes:
        name: what the table calls it.
        alone: patches a second, with no network.
        step: seconds of a step, waiting included.
        waited: of these, seconds in which the network had no data.
    """

    name: str
    alone: float
    step: float
    waited: float

    def row(self, base: float) -> str:
        """Return its row of the table."""
        share = self.waited / self.step
        return f"| {self.name} | {self.alone:.0f} | {self.alone / base:.1f} | {self.step:.2f} | {share:.1%} |"


def run(place: Path) -> str:
    """Train the light U-Net for some steps on patches of one volume, whose data come in several ways."""
    volume = image(place / f"shapes-{SIDE}.zarr", (SIDE, SIDE))
    target = _target(place / f"shapes-{SIDE}-target.zarr", volume)
    pair, cores = Pair(image=str(volume), target=str(target)), this_machine().cores
    ways = [
        _measure("zarr slices, DataLoader in the training's process", Naive(volume, target), workers=0),
        _measure(f"zarr slices, DataLoader with {cores} processes", Naive(volume, target), workers=cores),
        _ours("Overtile, a cache for a fifth of the voxels", pair, SMALL, cores),
        _ours("Overtile, all voxels in memory", pair, 2 << 30, cores),
        _ours("Overtile, a fifth, flips and turns", pair, SMALL, cores, Augmentation()),
    ]
    lines = [
        f"{SIDE} x {SIDE} x 3 uint8 with a target, in shards; {STEPS} steps of {BATCH} patches of {PATCH} x {PATCH};"
        f" {LIGHT.parameters():,} parameters, {cores} cores.",
        "",
        "| way | patches/s alone | ratio | s a step | waiting |",
        "|---|---|---|---|---|",
        *(way.row(ways[0].alone) for way in ways),
    ]
    return "\n".join(lines)


class Naive(Dataset[tuple[Tensor, Tensor]]):
    """What most people write: random slices of two Zarr arrays."""

    def __init__(self, volume: Path, target: Path) -> None:
        self._places = (str(volume / "0"), str(target / "0"))
        self._arrays: list[zarr.Array] = []

    def __len__(self) -> int:
        return BATCH * STEPS

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Read a patch at a random place."""
        if not self._arrays:
            self._arrays = [zarr.open_array(place, mode="r") for place in self._places]
        side = self._arrays[1].shape[0]
        y, x = np.random.default_rng(index).integers(side - PATCH + 1, size=2)
        voxels = np.asarray(self._arrays[0][:, y : y + PATCH, x : x + PATCH])
        target = np.asarray(self._arrays[1][y : y + PATCH, x : x + PATCH])
        return (torch.from_numpy(voxels).float() - 120) / 50, torch.from_numpy(target).long()


def _measure(name: str, dataset: Naive, *, workers: int) -> Measured:
    """Measure the naive way."""
    batches = DataLoader(
        dataset,
        batch_size=BATCH,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,  # a fork would lose the threads of Zarr
        persistent_workers=bool(workers),
    )
    alone = _alone((one, other) for one, other in batches)
    return Measured(name, alone, *_trained((one, other) for one, other in batches))


def _ours(name: str, pair: Pair, cache: int, loaders: int, changes: Augmentation | None = None) -> Measured:
    """Measure the way of the training job."""
    pairs = hold(open_pairs([pair]), cache)
    stream = PatchStream(pairs, PatchLayout.plain(LIGHT, (PATCH, PATCH)), ClassIds(2), seed=(0,))
    change = None if changes is None else Augment(changes, SCALE)
    batches = Batches(stream, SCALE, count=BATCH * STEPS, size=BATCH, change=change, loaders=loaders)
    alone = _alone((batch.images, batch.targets) for batch in loader(batches))
    before = batches.waited
    step, _ = _trained((batch.images, batch.targets) for batch in loader(batches))
    return Measured(name, alone, step, (batches.waited - before) / (STEPS - 1))


def _alone(batches: Pairs) -> float:
    """Return the patches a second that come if nothing is done with them, from the second batch on."""
    next(batches)
    began = time.monotonic()
    count = sum(len(images) for images, _ in batches)
    return count / (time.monotonic() - began)


def _trained(batches: Pairs) -> tuple[float, float]:
    """Return the seconds of a step, and how many of them the network waited, from the second step on."""
    torch.manual_seed(0)
    model = UNet(LIGHT).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(model.parameters())
    loss = nn.CrossEntropyLoss(ignore_index=IGNORE)
    waited, began, steps = 0.0, time.monotonic(), 0
    asked = began
    for images, targets in batches:
        if steps == 0:  # the first batch has nothing to be made behind
            began = time.monotonic()
        else:
            waited += time.monotonic() - asked
        optimiser.zero_grad()
        loss(model(images.contiguous(memory_format=torch.channels_last)), targets).backward()
        optimiser.step()
        steps, asked = steps + 1, time.monotonic()
    return (asked - began) / steps, waited / (steps - 1)


def _target(path: Path, volume: Path) -> Path:
    """Write a class map in shards: where the first channel is bright."""
    if (path / "zarr.json").exists():
        return path
    source = zarr.open_array(str(volume / "0"), mode="r")
    shard, space = (2048, 2048), Space.unscaled("yx")
    spec = ArraySpec((SIDE, SIDE), None, np.dtype("u1"), shard, (512, 512), space)
    writer = ShardWriter(create_level(path, "0", spec))
    for core in Grid((SIDE, SIDE), shard).cores():
        bright = np.asarray(source[0, *core.slices]) > 127
        writer.write(Box(core.start, core.stop), bright.astype(np.uint8))
    publish(path, name="target", axes="yx", levels=[("0", space)], classes=("ground", "bright"))
    return path
