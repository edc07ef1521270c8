"""Random patches: where they lie, what the network sees around them, and how they are turned.

A patch is a box of the target. What the network sees of the image for it depends on the network::

    valid padding                              same padding
    |------------- input -------------|        |---- input = patch ----|
       before |---- patch ----| after

An unpadded network needs the real voxels (or the mirror image, at the volume's border) around the patch, and its
output, cropped, is exactly the patch. A padded one is trained on the plain patch, as everybody does.

The stream of patches is a pure function of the seed and the patch's index: a run that is repeated, or goes on after
a break, sees the same patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, ModelError
from pipeline.geometry import Box, Turn
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.pairs import OpenPair
from pipeline.training.targets import ClassIds

Voxels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch, with the real context that the network sees around it.

    As it is drawn, and while it is changed at random, target and weights have the extent of the network's input;
    :meth:`PatchLayout.cut` leaves of them what the network's output is compared with.

    Attributes:
        image: ``(c, *input)``, in the image's dtype.
        target: ``(*input)``, or ``(*patch)`` once it is cut: class ids in int64,
            :data:`pipeline.training.targets.IGNORE` where nothing is known.
        weights: of the loss, float32, as the target; None where all voxels weigh the same.
    """

    image: Voxels
    target: Voxels
    weights: Voxels | None = None


@dataclass(frozen=True, slots=True)
class PatchLayout:
    """Where a patch lies in the network's input and output, in voxels along each of the network's axes.

    Attributes:
        patch: voxels of the patch.
        before: input voxels in front of the patch.
        after: input voxels behind it.
        crop: output voxels in front of the patch, which are thrown away.
        lattice: patches begin at multiples of this.
        step: lengths of patches are multiples of this.
    """

    patch: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    crop: tuple[int, ...]
    lattice: int = 1
    step: int = 1

    @classmethod
    def plain(cls, architecture: UNetArchitecture, patch: Sequence[int]) -> PatchLayout:
        """Return what training sees: the needed context without padding, the patch alone with it.

        Raises:
            InputError: a padded network does not take inputs of the patch's size; the nearest legal ones are named.
        """
        if architecture.padding == "valid":
            return cls._with_context(architecture, patch, lattice=1)
        for length in patch:
            try:
                architecture.output_length(length)
            except ModelError as error:
                raise InputError(f"patch {','.join(map(str, patch))}: {error}") from error
        none = (0,) * len(patch)
        return cls(tuple(patch), none, none, none, step=architecture.reach().stride)

    @classmethod
    def exact(cls, architecture: UNetArchitecture, patch: Sequence[int]) -> PatchLayout:
        """Return what validation sees: with this context, on this lattice, the output is the whole volume's."""
        return cls._with_context(architecture, patch, lattice=architecture.reach().stride)

    @classmethod
    def _with_context(cls, architecture: UNetArchitecture, patch: Sequence[int], *, lattice: int) -> PatchLayout:
        reach = architecture.reach()
        count = len(patch)
        after = tuple(reach.after(length) for length in patch)
        return cls(tuple(patch), (reach.before,) * count, after, (reach.crop,) * count, lattice)

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of the network's input."""
        return tuple(b + p + a for b, p, a in zip(self.before, self.patch, self.after, strict=True))

    def cut(self, patch: Patch) -> Patch:
        """Return a patch whose target and weights are cut from the extent of the input to the patch itself."""
        if patch.target.shape != self.input:
            return patch
        place = tuple(slice(b, b + p) for b, p in zip(self.before, self.patch, strict=True))
        weights = None if patch.weights is None else patch.weights[place]
        return replace(patch, target=patch.target[place], weights=weights)

    @property
    def kept(self) -> tuple[slice, ...]:
        """Slices that cut the patch out of the spatial axes of the network's output."""
        return tuple(slice(c, c + p) for c, p in zip(self.crop, self.patch, strict=True))


@dataclass(frozen=True, slots=True)
class Draw:
    """One random draw.

    Attributes:
        pair: number of the pair.
        start: first voxel of the patch along each axis of its volume.
        turn: how the patch is turned once it is read.
    """

    pair: int
    start: tuple[int, ...]
    turn: Turn


class PatchStream:
    """An endless stream of patches, by index.

    Args:
        pairs: what is drawn from: a pair by its weight, then a place uniformly over its volume.
        layout: size of the patches, and what the network sees around them.
        ids: what targets may hold; checked patch by patch.
        seed: the stream's number.
        augment: whether patches are flipped along every axis and, where they are square, turned in the plane.

    Raises:
        InputError: a volume is smaller than the patch.
    """

    def __init__(
        self, pairs: Sequence[OpenPair], layout: PatchLayout, ids: ClassIds, *, seed: Sequence[int], augment: bool
    ) -> None:
        for pair in pairs:
            _check_room(pair, layout)
        self.layout = layout
        self._pairs = pairs
        self._ids = ids
        self._seed = tuple(seed)
        self._augment = augment
        self._shares = np.cumsum([pair.weight for pair in pairs])

    @property
    def distinct(self) -> int:
        """Patches that fit side by side into all volumes."""
        return sum(
            math.prod(n // p for n, p in zip(pair.shape, self._box_shape(pair), strict=True))
            for pair in self._pairs
        )

    def draw(self, index: int) -> Draw:
        """Return which patch has this index: a function of the seed and the index alone."""
        random = np.random.default_rng((*self._seed, index))
        number = int(np.searchsorted(self._shares, random.random() * self._shares[-1], side="right"))
        pair = self._pairs[number]
        room = zip(pair.shape, self._box_shape(pair), strict=True)
        start = [int(random.integers(n - p + 1)) for n, p in room]
        lattice = self.layout.lattice
        lead = len(start) - len(self.layout.patch)
        start[lead:] = [a // lattice * lattice for a in start[lead:]]
        square = self.layout.patch[-1] == self.layout.patch[-2]
        bits = random.integers(2, size=1 + len(self.layout.patch)).astype(bool).tolist()
        if not self._augment:
            bits = [False] * len(bits)
        return Draw(number, tuple(start), Turn(bits[0] and square, tuple(bits[1:])))

    def read(self, draw: Draw) -> tuple[Voxels, Voxels]:
        """Read a patch.

        Returns:
            The network's input ``(c, *spatial)`` in the image's dtype, and the patch of target ``(*spatial)``, both
            turned alike; a slice of a stack without its z axis.

        Raises:
            InputError: the target holds a value that is no class id.
        """
        pair, layout = self._pairs[draw.pair], self.layout
        box = Box.of_shape(self._box_shape(pair)).shift(draw.start)
        target = pair.target.shown(box)
        self._ids.check(target, f"{pair.name}, voxels {box}")
        image = pair.image.shown(box.grow(*self._margins(box.ndim, draw.turn)))
        if box.ndim > len(layout.patch):
            image, target = image[:, 0], target[:, 0]
        return draw.turn.apply(image), draw.turn.apply(target)[0]

    def __getitem__(self, index: int) -> tuple[Voxels, Voxels]:
        return self.read(self.draw(index))

    def _box_shape(self, pair: OpenPair) -> tuple[int, ...]:
        """Shape of a patch along the axes of the pair's volume: one slice of a stack for a 2-D network."""
        return (1,) * (len(pair.shape) - len(self.layout.patch)) + self.layout.patch

    def _margins(self, ndim: int, turn: Turn) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Voxels to read before and after the patch, such that they have the layout's order once turned."""
        sides = [
            (after, before) if flip else (before, after)
            for before, after, flip in zip(self.layout.before, self.layout.after, turn.flips, strict=True)
        ]
        if turn.exchange:
            sides[-2:] = [sides[-1], sides[-2]]
        sides = [(0, 0)] * (ndim - len(sides)) + sides
        return tuple(a for a, _ in sides), tuple(b for _, b in sides)


def _check_room(pair: OpenPair, layout: PatchLayout) -> None:
    """Refuse a patch that is larger than the volume."""
    shape = pair.shape[-len(layout.patch) :]
    if all(n >= p for n, p in zip(shape, layout.patch, strict=True)):
        return
    largest = [n // layout.step * layout.step for n in shape]
    advice = f"the largest patch is {','.join(map(str, largest))}"
    if not all(largest):
        advice = f"this network needs at least {layout.step} along each axis: make it less deep"
    raise InputError(
        f"{pair.name}: the volume has {shape} voxels along the network's axes, less than a patch of {layout.patch};"
        f" {advice}"
    )
