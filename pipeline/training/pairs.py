"""Pairs of a volume and its target: opened, held decoded where there is room, and checked before the first step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import Pair
from pipeline.errors import InputError
from pipeline.geometry import Box, Grid, mirror, visible_box
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.targets import ClassIds as ClassIds  # named here by those who check pairs
from pipeline.volume import Volume, open_volume
from pipeline.volume.sources.units import METRES

CELL = {2: 2048, 3: 256}
"""Longest edge of a sampled box in voxels, by number of spatial axes: bounds the memory of sampling."""

SAMPLED_BOXES = 64
"""Boxes that are looked at in a volume before training."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A volume to draw from: lazily, box by box, or from memory.

    Attributes:
        volume: the open volume.
        held: all its voxels ``(c, [z,] y, x)``, decoded; None where they are read when they are needed.
    """

    volume: Volume
    held: npt.NDArray[Any] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels, decoded."""
        return math.prod((self.volume.channels, *self.volume.shape)) * self.volume.dtype.itemsize

    def shown(self, box: Box) -> npt.NDArray[Any]:
        """Return what a box shows of the volume and, outside it, of its mirror image: ``(c, [z,] y, x)``."""
        if self.held is None:
            return self.volume.read_shown(box)
        inside_box = visible_box(box, self.volume.shape)
        inside = self.held[:, *inside_box.slices]
        return mirror(inside, inside_box=inside_box, box=box, shape=self.volume.shape)

    def sampled_boxes(self, most: int = SAMPLED_BOXES) -> Iterator[Box]:
        """Yield up to ``most`` boxes, evenly spaced over the volume; all of it where that is enough.

        The boxes are stored chunks, or parts of them where those are large. They do not depend on what is held.
        """
        volume = self.volume
        stored = dict(zip(volume.axes, volume.storage_grid.chunk, strict=True))
        longest = CELL[len(volume.shape)]
        cells = [min(stored[axis], n, longest) for axis, n in zip(volume.space.axes, volume.shape, strict=True)]
        grid = Grid(volume.shape, tuple(cells))
        count = min(most, len(grid))
        for index in range(count):
            yield grid.core(len(grid) * (2 * index + 1) // (2 * count))


@dataclass(frozen=True, slots=True, eq=False)
class OpenPair:
    """A volume and its target, open and fitting each other.

    Attributes:
        name: which entry of the job it is, and its paths: how errors name it.
        image: the volume.
        target: class ids, one channel.
        weight: how often it is drawn from, beside the others.
    """

    name: str
    image: Source
    target: Source
    weight: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in voxels."""
        return self.image.volume.shape


def open_pairs(
    pairs: Sequence[Pair], architecture: UNetArchitecture, *, entry: str = "pairs", holes: str = "error"
) -> list[OpenPair]:
    """Open the pairs of a job and check that they fit the network and each other; no voxel is read.

    Args:
        pairs: what the job names.
        architecture: the network.
        entry: the job's field that they stand in, for messages.
        holes: what a stored chunk that is missing means, ``"error"`` or ``"background"``.

    Raises:
        InputError: something does not fit; the pair is named.
        VolumeError: a volume cannot be opened.
    """
    opened = []
    for index, pair in enumerate(pairs):
        name = f"{entry}.{index} (image {pair.image}, target {pair.target})"
        image, target = (open_volume(url, holes=holes) for url in (pair.image, pair.target))
        _check_network(name, image, architecture)
        _check_target(name, image, target)
        _check_present(name, (image, target))
        opened.append(OpenPair(name, Source(image), Source(target), pair.weight))
    return opened


def hold(pairs: Iterable[OpenPair], limit: int) -> list[OpenPair]:
    """Read volumes into memory, one after the other, as long as all that are held fit into ``limit`` bytes."""
    held: list[OpenPair] = []
    room = limit
    for pair in pairs:
        sources = []
        for source in (pair.image, pair.target):
            if source.nbytes <= room:
                room -= source.nbytes
                source = replace(source, held=source.volume.read(source.volume.box))
            sources.append(source)
        held.append(replace(pair, image=sources[0], target=sources[1]))
    return held


def check_targets(pairs: Iterable[OpenPair], ids: ClassIds) -> None:
    """Look at a sample of every target (all of a small one); raise InputError if a value is no class id."""
    for pair in pairs:
        for box in pair.target.sampled_boxes():
            ids.check(pair.target.shown(box), pair.name)


def _check_network(name: str, image: Volume, architecture: UNetArchitecture) -> None:
    if image.channels != architecture.in_channels:
        raise InputError(
            f"{name}: the image has {image.channels} channel(s) (axes {image.axes}, shape {image.array.shape}), but"
            f" architecture.in_channels is {architecture.in_channels}; make it {image.channels}"
        )
    if architecture.dims > len(image.shape):
        raise InputError(
            f"{name}: the image has the spatial axes {image.space.axes}, but the network is {architecture.dims}-D;"
            " a 3-D network needs a stack: set architecture.dims to 2"
        )


def _check_target(name: str, image: Volume, target: Volume) -> None:
    if target.dtype.kind not in "iub":
        raise InputError(
            f"{name}: the target is of {target.dtype}; class ids are whole numbers: store them in an integer dtype"
            " (`overtile ingest` has --threshold and a map of values)"
        )
    if target.channels != 1:
        raise InputError(f"{name}: the target has {target.channels} channels; class ids have one")
    if (image.space.axes, image.shape) != (target.space.axes, target.shape):
        raise InputError(
            f"{name}: the image has {image.shape} voxels along {image.space.axes}, the target {target.shape} along"
            f" {target.space.axes}; they must be the same"
        )
    sizes = [_metres(volume) for volume in (image, target)]
    if None not in sizes and not np.allclose(sizes[0], sizes[1], rtol=1e-3, atol=0):  # type: ignore[arg-type]
        raise InputError(
            f"{name}: a voxel of the image is {image.space.voxel_size} {image.space.unit}, one of the target"
            f" {target.space.voxel_size} {target.space.unit}; they must be the same: correct the metadata of one"
        )


def _check_present(name: str, volumes: Sequence[Volume]) -> None:
    for volume in (v for v in volumes if v.holes == "error"):
        missing = volume.missing(volume.box)
        if missing:
            raise InputError(
                f"{name}: {volume.url} lacks {len(missing)} stored chunk(s) ({', '.join(missing[:3])}), which would be"
                " learnt from as if they were real; restore them, or set `holes: background`"
                " if chunks were left out because they hold nothing but the fill value"
            )


def _metres(volume: Volume) -> tuple[float, ...] | None:
    """Return the voxel size in metres, or None where its unit is not known."""
    metre = METRES.get(volume.space.unit or "")
    return None if metre is None else tuple(size * metre for size in volume.space.voxel_size)
