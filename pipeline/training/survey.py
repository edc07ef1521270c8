"""What the training data are like, from a sample of patches: what the plan's choices rest on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from skimage.measure import label

from pipeline.volume import Space

Look = Literal["stained", "colour", "grey", "other"]

SAMPLES = 48
"""Patches that are looked at."""

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


@dataclass(frozen=True, slots=True)
class Sample:
    """What patches showed.

    Attributes:
        known: share of their voxels whose target is known.
        shares: see :class:`Facts`.
        diameter: see :class:`Facts`.
        look: see :class:`Facts`.
    """

    known: float
    shares: tuple[float, ...]
    diameter: float | None
    look: Look


def look_at(patches: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]], *, classes: int) -> Sample:
    """Look at patches of a volume.

    Args:
        patches: images ``(c, [z,] y, x)`` as they are stored, and class ids ``([z,] y, x)``; negative ids are
            unknown. At least one.
        classes: number of classes.
    """
    counts = np.zeros(classes, np.int64)
    voxels, areas, looks = 0, list[float](), list[Look]()
    for image, target in patches:
        known = target[target >= 0]
        counts += np.bincount(known.ravel().astype(np.int64), minlength=classes)
        voxels += target.size
        areas += _areas(target, classes)
        looks.append(_look(image))
    total = max(1, int(counts.sum()))
    diameter = 2 * float(np.sqrt(np.quantile(areas, 0.9) / np.pi)) if areas else None
    return Sample(total / voxels, tuple((counts / total).tolist()), diameter, max(looks, key=looks.count))


def _areas(target: npt.NDArray[Any], classes: int) -> list[int]:
    """Return the areas of connected parts of the foreground classes, in the plane of a solid patch's middle."""
    plane = target if target.ndim == 2 else target[target.shape[0] // 2]
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


def labelled_voxels(shapes: Sequence[tuple[int, ...]], known: float) -> int:
    """Return about how many voxels have a known target."""
    return int(sum(float(np.prod(shape)) for shape in shapes) * known)
