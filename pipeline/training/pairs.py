"""Pairs of an image and its target: opened, checked, and held decoded where there is room."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config.training import Pair
from pipeline.errors import InputError
from pipeline.geometry import Box, Grid, mirror, visible_box
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.areas import Area
from pipeline.training.cache import ChunkCache, Pieces
from pipeline.training.fitting import check_alike, check_fits, check_network, check_present, check_stored
from pipeline.training.opening import open_area, open_pair_image, open_pair_target
from pipeline.training.targets import Instances
from pipeline.volume import Volume
from pipeline.volume.image import Image

CELL = {2: 2048, 3: 256}
"""Longest edge of a sampled box in voxels, by number of spatial axes: bounds the memory of sampling."""

SAMPLED_BOXES = 64
"""Boxes that are looked at in a volume before training."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """An image to draw from: lazily, box by box, or from memory. Any number of threads may read at once.

    Attributes:
        volume: the open image, of any format.
        held: all its voxels ``(c, [z,] y, x)``, decoded; None where they are read when they are needed.
        pieces: decoded pieces of it that are shared; None where each read decodes what it needs.
    """

    volume: Image
    held: npt.NDArray[Any] | None = None
    pieces: Pieces | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels, decoded."""
        return math.prod((self.volume.channels, *self.volume.shape)) * self.volume.dtype.itemsize

    def shown(self, box: Box) -> npt.NDArray[Any]:
        """Return what a box shows of the image and, outside it, of its mirror image: ``(c, [z,] y, x)``."""
        if self.held is None and self.pieces is None:
            return self.volume.look(box).shown(finite=False)
        inside_box = visible_box(box, self.volume.shape)
        inside = self.held[:, *inside_box.slices] if self.held is not None else self._cached(inside_box)
        return mirror(inside, inside_box=inside_box, box=box, shape=self.volume.shape)

    def _cached(self, box: Box) -> npt.NDArray[Any]:
        assert self.pieces is not None
        return self.pieces.read(box)

    def hold(self) -> Source:
        """Return the same image with all of its voxels in memory."""
        return replace(self, held=self.volume.read(self.volume.box), pieces=None)

    def share(self, cache: ChunkCache) -> Source:
        """Return the same image, read piece by piece through a cache; as it is where any box is cheap to read."""
        piece = self.volume.pieces
        if self.held is not None or max(piece) == 1:
            return self
        return replace(self, pieces=Pieces(self.volume.read, self.volume.shape, piece, cache))

    def sampled_boxes(self, most: int = SAMPLED_BOXES) -> Iterator[Box]:
        """Yield up to ``most`` boxes, evenly spaced over the image; all of it where that is enough.

        The boxes are stored chunks, or parts of them where those are large. They do not depend on what is held.
        """
        longest = CELL[len(self.volume.shape)]
        shape = zip(self._stored(longest), self.volume.shape, strict=True)
        grid = Grid(self.volume.shape, tuple(min(stored, n, longest) for stored, n in shape))
        count = min(most, len(grid))
        for index in range(count):
            yield grid.core(len(grid) * (2 * index + 1) // (2 * count))

    def _stored(self, longest: int) -> tuple[int, ...]:
        """Return the spatial shape of stored objects; of files, of as many of their pieces as fit."""
        volume = self.volume
        if isinstance(volume, Volume):
            stored = dict(zip(volume.axes, volume.storage_grid.chunk, strict=True))
            return tuple(stored[axis] for axis in volume.space.axes)
        return tuple(max(piece, longest // piece * piece) for piece in volume.pieces)


@dataclass(frozen=True, slots=True, eq=False)
class OpenPair:
    """An image and its target, open and fitting each other.

    Attributes:
        name: which entry of the job it is, and its paths: how errors name it.
        image: the image.
        target: class ids or instance ids, one channel.
        weight: how often it is drawn from, beside the others.
        area: what of the target is known and may be used; None for all.
        number: which entry of the job it is, counted from 0.
    """

    name: str
    image: Source
    target: Source
    weight: float
    area: Area | None = None
    number: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in voxels."""
        return self.image.volume.shape

    @property
    def known(self) -> Area:
        """What of the target is known and may be used."""
        return self.area or Area.whole(self.shape)


def open_pairs(
    pairs: Sequence[Pair],
    architecture: UNetArchitecture | None = None,
    *,
    entry: str = "pairs",
    holes: str = "error",
    classes: Sequence[str] = (),
    instances: Instances = "none",
) -> list[OpenPair]:
    """Open the pairs of a job and check that they fit the network and each other; no voxel is read.

    Args:
        pairs: what the job names.
        architecture: the network; None where it is planned from what is opened here.
        entry: the job's field that they stand in, for messages.
        holes: what a stored chunk that is missing means, ``"error"`` or ``"background"``.
        classes: names of the class ids: how polygons that have classes become class ids.
        instances: what becomes of instance ids: unless ``none``, each polygon is an instance.

    Raises:
        InputError: something does not fit; the pair is named.
        VolumeError: an image, a target or a mask cannot be opened.
    """
    names = [f"{entry}.{i} (image {pair.image}, target {pair.target})" for i, pair in enumerate(pairs)]
    images = [open_pair_image(pair, holes) for pair in pairs]
    if architecture is not None:
        for name, image in zip(names, images, strict=True):
            check_network(name, image, architecture)
    check_alike(names, images)
    targets = [
        open_pair_target(pair, image, name, holes=holes, classes=classes, instances=instances)
        for pair, image, name in zip(pairs, images, names, strict=True)
    ]
    for name, target in zip(names, targets, strict=True):
        check_stored(name, target)
    check_fits(names, images, targets)
    opened = []
    for i, (pair, name, image, target) in enumerate(zip(pairs, names, images, targets, strict=True)):
        check_present(name, (image, target))
        area = open_area(pair, image, name)
        opened.append(OpenPair(name, Source(image), Source(target), pair.weight, area, i))
    return opened


def hold(pairs: Iterable[OpenPair], limit: int) -> list[OpenPair]:
    """Keep decoded voxels in memory, up to a number of bytes in all.

    Volumes are read whole, one after the other, as long as all that are held fit. What room is left is a cache that
    the others share, decoded piece by piece.

    Raises:
        InputError: an image that is held has a voxel that is NaN or infinite.
    """
    held: list[OpenPair] = []
    room = limit
    for pair in pairs:
        sources = []
        for source in (pair.image, pair.target):
            if source.nbytes <= room:
                room -= source.nbytes
                source = source.hold()
            sources.append(source)
        held.append(replace(pair, image=sources[0], target=sources[1]))
    cache = ChunkCache(room)
    for pair in held:
        if pair.image.held is not None:
            check_finite(pair.name, pair.image.held, pair.image.volume.box)
    return [replace(p, image=p.image.share(cache), target=p.target.share(cache)) for p in held]


def check_finite(name: str, voxels: npt.NDArray[Any], box: Box) -> None:
    """Raise InputError if a voxel of a box of an image is NaN or infinite."""
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise InputError(
            f"{name}: the image holds NaN or infinity in voxels {box}; training cannot use them: replace them by"
            " numbers"
        )
