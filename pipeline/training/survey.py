"""What the training data are like, from a sample: what the plan's choices rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from skimage.measure import label

from pipeline.geometry import Box, Grid
from pipeline.training.pairs import OpenPair
from pipeline.training.spread import evenly
from pipeline.training.targets import TargetRule
from pipeline.training.truth import read_ids
from pipeline.volume import Space

Look = Literal["stained", "colour", "grey", "other"]

WINDOWS, WINDOW = 48, 512
"""How many windows are looked at, at least one a pair, and their longest edge in voxels."""

BRIGHT = 210
"""A pixel of glass is at least this bright in every channel."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The training data in a few numbers.

    Attributes:
        space: axes and voxel size of the first volume.
        shapes: spatial shape of each volume that is learnt from, in voxels.
        channels: channels of the images.
        labelled: voxels with a known target.
        shares: share of the known voxels that each class has.
        diameter: size of the larger objects in voxels of the plane: the diameter of a disc of the area that nine
            of ten connected parts of a foreground class stay below. None where there are none.
        look: ``stained`` (bright field, as H&E), ``colour``, ``grey`` or ``other``.
    """

    space: Space
    shapes: tuple[tuple[int, ...], ...]
    channels: int
    labelled: int
    shares: tuple[float, ...]
    diameter: float | None
    look: Look

    @property
    def rarest(self) -> float:
        """Share of the rarest class that was seen at all."""
        return min((share for share in self.shares if share), default=1.0)

    @property
    def anisotropy(self) -> float | None:
        """How many times longer a voxel is along z than in the plane; None where its size is not known."""
        if len(self.space.axes) < 3 or not self.space.unit:
            return None
        *_, z, _, x = self.space.voxel_size
        return z / x


def survey(pairs: Sequence[OpenPair], rule: TargetRule) -> Facts:
    """Look at a sample of what is labelled: windows of the plane, evenly spaced over all pairs.

    Args:
        pairs: at least one, all with the same axes and channels.
        rule: how class ids are made of what is stored.

    Raises:
        InputError: a value that is labelled is no class id.
    """
    counts = np.zeros(rule.ids.count, np.int64)
    voxels, areas, looks = 0, list[int](), list[Look]()
    for pair, box in _windows(pairs):
        target = read_ids(pair, box, rule, 2)
        known = target[target >= 0]
        counts += np.bincount(known, minlength=len(counts))
        voxels += target.size
        areas += _areas(target.reshape(target.shape[-2:]), len(counts))
        image = pair.image.shown(box)
        looks.append(_look(image.reshape(image.shape[0], *image.shape[-2:])))
    known_share = counts.sum() / max(1, voxels)
    regions = sum(box.size for pair in pairs for box in pair.known.regions())
    first = pairs[0].image.volume
    return Facts(
        space=first.space,
        shapes=tuple(pair.shape for pair in pairs),
        channels=first.channels,
        labelled=round(regions * known_share),
        shares=tuple((counts / max(1, counts.sum())).tolist()),
        diameter=2 * float(np.sqrt(np.quantile(areas, 0.9) / np.pi)) if areas else None,
        look=max(looks, key=looks.count) if looks else "other",
    )


def _windows(pairs: Sequence[OpenPair]) -> Iterator[tuple[OpenPair, Box]]:
    """Yield windows of what is labelled; of a stack, parts of single slices."""
    most = -(-WINDOWS // len(pairs))
    for pair in pairs:
        regions = pair.known.regions()
        for number in evenly(len(regions), most):
            region = regions[number]
            edges = (*(1,) * (region.ndim - 2), WINDOW, WINDOW)
            grid = Grid(region.shape, tuple(min(e, n) for e, n in zip(edges, region.shape, strict=True)))
            for place in evenly(len(grid), -(-most // min(most, len(regions)))):
                yield pair, grid.core(place).shift(region.start)


def _areas(plane: npt.NDArray[Any], classes: int) -> list[int]:
    """Return the areas of connected parts of the foreground classes."""
    found: list[int] = []
    for number in range(1, classes):
        parts: npt.NDArray[np.int64] = label(plane == number)  # type: ignore[no-untyped-call]
        found += np.bincount(parts.ravel())[1:].tolist()
    return found


def _look(image: npt.NDArray[Any]) -> Look:
    if image.shape[0] == 1:
        return "grey"
    if image.shape[0] != 3:
        return "other"
    return "stained" if image.dtype == np.uint8 and _is_stained(image) else "colour"


def _is_stained(image: npt.NDArray[Any]) -> bool:
    """Whether there is bright ground with something purple or pink on it: less green than red and blue."""
    bright = (image >= BRIGHT).all(axis=0)
    tissue = image[:, ~bright].astype(np.float64)
    if bright.mean() < 0.02 or tissue.shape[1] < 64:
        return False
    red, green, blue = tissue.mean(axis=1)
    return bool(green + 10 < min(red, blue))
