"""Random patches: where they lie, and what the network sees around them.

A patch is a box of the target. What the network sees of the image for it depends on the network::

    valid padding                              same padding
    |------------- input -------------|        |---- input = patch ----|
       before |---- patch ----| after

An unpadded network needs the real voxels (or the mirror image, at the volume's border) around the patch, and its
output, cropped, is exactly the patch. A padded one is trained on the plain patch, as everybody does.

The stream of patches is a pure function of the seed and the patch's index: a run that is repeated, or goes on after
a break, sees the same patches. The target is read as far as the network's input reaches, so that image and target can
be changed alike; it is cut to the patch at the end. Where a change moves voxels, as many around the input are read as
it brings into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, ModelError
from pipeline.geometry import Box
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.census import Counted, take_census
from pipeline.training.pairs import OpenPair, check_finite
from pipeline.training.sampling import Places
from pipeline.training.targets import ClassIds, TargetRule
from pipeline.training.truth import read_truth

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
        step: lengths of patches are multiples of this.
    """

    patch: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    crop: tuple[int, ...]
    step: int = 1

    @classmethod
    def plain(cls, architecture: UNetArchitecture, patch: Sequence[int]) -> PatchLayout:
        """Return what training sees: the needed context without padding, the patch alone with it.

        Raises:
            InputError: a padded network does not take inputs of the patch's size; the nearest legal ones are named.
        """
        if architecture.padding == "valid":
            return cls.exact(architecture, patch)
        for length in patch:
            try:
                architecture.output_length(length)
            except ModelError as error:
                raise InputError(f"patch {','.join(map(str, patch))}: {error}") from error
        none = (0,) * len(patch)
        return cls(tuple(patch), none, none, none, step=architecture.reach().stride)

    @classmethod
    def exact(cls, architecture: UNetArchitecture, patch: Sequence[int]) -> PatchLayout:
        """Return what inference sees: on the lattice of the stride, the output of a patch is the whole volume's."""
        reach = architecture.reach()
        count = len(patch)
        after = tuple(reach.after(length) for length in patch)
        return cls(tuple(patch), (reach.before,) * count, after, (reach.crop,) * count)

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
    """

    pair: int
    start: tuple[int, ...]


class PatchStream:
    """An endless stream of patches, by index. Any number of threads may ask for patches at once.

    Law: what is drawn, and what is known of it, is a function of the seed, the index and the pairs alone; it depends
    neither on what is held in memory nor on what was drawn before. Nothing is known of voxels that the pairs' areas
    leave out: what is held out and the guard around it may be in the image of a patch, never in its target.

    Args:
        pairs: what is drawn from: a pair by its weight, then a known voxel, see :mod:`pipeline.training.sampling`. With
            a census, or without: then it is taken now.
        layout: size of the patches, and what the network sees around them.
        rule: how class ids are made of what is stored; class ids alone for targets that store them.
        seed: the stream's number.
        balance: share of the patches that hold a voxel of a class, every class as often as the others.

    Raises:
        InputError: a volume is smaller than the patch; nothing is known of any; a target holds what is no class id.
    """

    def __init__(
        self,
        pairs: Sequence[OpenPair] | Sequence[Counted],
        layout: PatchLayout,
        rule: TargetRule | ClassIds,
        *,
        seed: Sequence[int],
        balance: float = 0.0,
    ) -> None:
        self.rule = TargetRule(rule) if isinstance(rule, ClassIds) else rule
        bare = [each for each in pairs if isinstance(each, OpenPair)]
        for pair in (each if isinstance(each, OpenPair) else each.pair for each in pairs):
            check_room(pair, layout)
        counted = take_census(bare, self.rule, layout.patch) if bare else []
        counted += [each for each in pairs if isinstance(each, Counted)]
        if not any(each.census.labelled for each in counted):
            raise InputError("no voxel of any target is known, so there is nothing to draw patches from")
        self.layout = layout
        self.seed = tuple(seed)
        self._pairs = [each.pair for each in counted]
        self._places = Places(counted, self.rule, layout.patch, balance)

    def draw(self, index: int) -> Draw:
        """Return which patch has this index: a function of the seed and the index alone."""
        random = np.random.default_rng((*self.seed, index))
        return Draw(*self._places.draw(random))

    def read(self, draw: Draw, part: Box | None = None) -> Patch:
        """Read a patch; a slice of a stack comes without its z axis.

        Args:
            draw: which one.
            part: what to read of it: a box counted from the first voxel of the network's input, which may reach
                outside of that; None for the input.

        Raises:
            InputError: the target holds a value that is no class id, the image NaN or infinity.
            ChunkError, StoreError: image or target cannot be read.
        """
        pair, layout = self._pairs[draw.pair], self.layout
        dims = len(layout.patch)
        part = Box.of_shape(layout.input) if part is None else part
        lead = (0,) * (len(pair.shape) - dims)
        first = [a - b for a, b in zip(draw.start, (*lead, *layout.before), strict=True)]
        seen = Box(lead + part.start, (1,) * len(lead) + part.stop).shift(first)
        image = pair.image.shown(seen)
        check_finite(pair.name, image, seen)
        target, weights = read_truth(pair, seen, self.rule, dims)
        if lead:
            image, target, weights = image[:, 0], target[0], None if weights is None else weights[0]
        return Patch(image, target, weights)

    def __getitem__(self, index: int) -> Patch:
        return self.read(self.draw(index))


def check_room(pair: OpenPair, layout: PatchLayout) -> None:
    """Raise InputError if a patch is larger than a volume, naming the largest that is not."""
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
