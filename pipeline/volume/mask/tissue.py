"""Tissue on a slide: what is more saturated than glass, by one threshold for the whole slide.

Glass is bright and grey, stained tissue is coloured. The saturation of each voxel of a coarse view of the whole slide
(HSV: ``1 - min / max`` of the colours) falls into two classes at the threshold of Otsu, "A threshold selection method
from gray-level histograms", IEEE Trans. SMC 9 (1979), 62-66. Specks are dust, holes are lumen and fat, and a margin
keeps the border of the tissue, which fades into the glass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.filters import threshold_otsu
from skimage.morphology import isotropic_dilation, remove_small_holes, remove_small_objects

from pipeline.errors import VolumeError
from pipeline.geometry import Box, Grid
from pipeline.volume.image import Image
from pipeline.volume.mask.foreground import ALGORITHM, Subject
from pipeline.volume.mask.levels import open_coarse
from pipeline.volume.mask.sampling import Bits
from pipeline.volume.sources.units import METRES

MOST_SIDE = 4096
"""Longest side of the view in voxels: of an image without coarse levels, means of blocks are taken."""

STRIP = 1 << 24
"""Voxels that are read at once."""

DARK = 20
"""A voxel whose brightest colour is less (of 255) has no colour to speak of: noise of the black around a scan."""

CONTRAST = 12.75
"""Least difference of the two classes' mean saturation, of 255 (5 %): less is noise of the camera or of JPEG."""

GLASS = 25.5
"""Highest mean saturation of the paler class, of 255 (10 %), that can be glass; above it all is tissue."""

SPECK = 1e-8
"""Area in square metres (100 x 100 um) below which tissue is dust."""

HOLE = 2.5e-7
"""Area in square metres (500 x 500 um) up to which a hole in tissue is tissue: vessels, glands, fat."""

MARGIN = 5e-5
"""Width in metres (50 um) by which tissue grows at its border."""

SPECK_VOXELS, HOLE_VOXELS, MARGIN_VOXELS = 16, 400, 2.0
"""The same in voxels of the view, where the size of a voxel is not known; the margin is never less."""


class Tissue:
    """The tissue of a slide: an image of three colours in 8 bits.

    Attributes:
        shape: of the view that it is found in.
    """

    kind = "auto"
    reason = "mask: no tissue"

    def __init__(self, subject: Subject) -> None:
        self._image = subject.image
        self._view = open_coarse(subject)
        self._factor = -(-max(self._view.shape) // MOST_SIDE)
        view = tuple(-(-n // self._factor) for n in self._view.shape)
        self.shape = tuple(min(m, n) for m, n in zip(view, self._image.shape, strict=True))
        self._found: dict[str, Any] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the level that the view is made of."""
        return math.prod(self._view.shape) * 3

    @property
    def identity(self) -> dict[str, Any]:
        """The method; all else is the image."""
        return {"kind": self.kind, "algorithm": ALGORITHM, "method": "tissue"}

    @property
    def facts(self) -> dict[str, Any]:
        """The view and the threshold."""
        return {
            "method": "tissue: saturation above Otsu's threshold",
            "level": self._view.level,
            "factor": self._factor,
            **self._found,
        }

    def read(self, box: Box) -> Bits:
        """Return the tissue of a box.

        Raises:
            VolumeError: there is no tissue on the slide.
        """
        return self._tissue[box.slices]

    def close(self) -> None:
        """Let go of the level."""
        self._view.close()

    @cached_property
    def _tissue(self) -> Bits:
        saturation = self._saturation()
        tissue = self._above_threshold(saturation)
        if self._found["classes"] == 2:
            tissue = self._cleaned(tissue)
        return self._fitted(tissue)

    def _above_threshold(self, saturation: npt.NDArray[np.uint8]) -> Bits:
        """Split the saturation in two classes, if it has two."""
        counts = np.bincount(saturation.ravel(), minlength=256)
        threshold = _otsu(counts)
        pale, strong = _mean(counts, 0, threshold + 1), _mean(counts, threshold + 1, 256)
        two = strong - pale >= CONTRAST and pale <= GLASS
        self._found |= {"threshold": threshold / 255, "classes": 2 if two else 1}
        if two:
            return saturation > threshold
        if _mean(counts, 0, 256) > GLASS:
            return np.ones(saturation.shape, np.bool_)
        raise VolumeError(
            f"{self._image.url}: --mask auto finds no tissue: level {self._view.level} has a mean saturation of"
            f" {_mean(counts, 0, 256) / 255:.1%}, and the more saturated part of it differs from the rest by"
            f" {(strong - pale) / 255:.1%} (5 % are needed). If the slide is not blank, use --mask none or give a mask"
        )

    def _saturation(self) -> npt.NDArray[np.uint8]:
        """Return the saturation (255 is 1) of the view: of the mean colour of each of its blocks."""
        factor, (height, width) = self._factor, self._view.shape
        found = np.empty((-(-height // factor), -(-width // factor)), np.uint8)
        for box in _strips(self._view, factor):
            rows = slice(box.start[0] // factor, -(-box.stop[0] // factor))
            columns = slice(box.start[1] // factor, -(-box.stop[1] // factor))
            found[rows, columns] = _saturation(_block_means(self._view.read(box), factor))
        return found

    def _cleaned(self, tissue: Bits) -> Bits:
        """Remove specks, fill holes and grow a margin."""
        size = self._voxel_size()
        speck, hole, margin = SPECK_VOXELS, HOLE_VOXELS, MARGIN_VOXELS
        if size is not None:
            speck, hole, margin = int(SPECK / size**2), int(HOLE / size**2), max(MARGIN / size, MARGIN_VOXELS)
        self._found |= {"speck_voxels": speck, "hole_voxels": hole, "margin_voxels": round(margin, 2)}
        tissue = remove_small_objects(tissue, max_size=max(speck - 1, 1))
        tissue = remove_small_holes(tissue, max_size=max(hole, 1))
        if not tissue.any():
            raise VolumeError(
                f"{self._image.url}: --mask auto finds nothing but specks of less than {speck} voxels of level"
                f" {self._view.level}, and no tissue; use --mask none, or give a mask"
            )
        grown: Bits = isotropic_dilation(tissue, radius=margin)  # type: ignore[no-untyped-call]
        return grown

    def _voxel_size(self) -> float | None:
        """Return the extent of a voxel of the view, in metres; None where it is not known."""
        space = self._image.space
        if space.unit not in METRES:
            return None
        extent = space.voxel_size[-1] * self._image.shape[-1] * METRES[space.unit]
        return extent / -(-self._view.shape[-1] // self._factor)

    def _fitted(self, tissue: Bits) -> Bits:
        """Return the tissue on a grid that is nowhere finer than the image: a voxel has any of what lies in it."""
        for axis, (m, n) in enumerate(zip(self.shape, tissue.shape, strict=True)):
            if m < n:
                starts = -(-np.arange(m, dtype=np.int64) * n // m)
                tissue = np.logical_or.reduceat(tissue, starts, axis=axis)
        return tissue


def _otsu(counts: npt.NDArray[np.int64]) -> int:
    """Return the saturation above which the second class begins; one value alone is its own threshold."""
    present = np.flatnonzero(counts)
    if len(present) == 1:
        return int(present[0])
    return int(threshold_otsu(hist=(counts, np.arange(256))))  # type: ignore[no-untyped-call]


def _mean(counts: npt.NDArray[np.int64], first: int, stop: int) -> float:
    """Return the mean of the values of a part of a histogram; 0 where it is empty."""
    part = counts[first:stop]
    return float((part * np.arange(first, stop)).sum() / part.sum()) if part.sum() else 0.0


def _strips(image: Image, factor: int) -> Iterator[Box]:
    """Yield boxes that cover an image, whole blocks and (nearly) whole decoded pieces at a time."""
    unit = [math.lcm(factor, p) if math.lcm(factor, p) <= STRIP**0.5 else factor for p in image.pieces]
    width = min(image.shape[1], max(unit[1], STRIP // unit[0] // unit[1] * unit[1]))
    height = max(unit[0], STRIP // width // unit[0] * unit[0])
    width = -(-width // unit[1]) * unit[1]
    return Grid(image.shape, (height, width)).cores()


def _block_means(voxels: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    """Return the mean of each block of ``factor`` by ``factor`` voxels, less at a ragged far edge: ``(c, y, x)``."""
    if factor == 1:
        return voxels
    rows = np.arange(0, voxels.shape[1], factor)
    columns = np.arange(0, voxels.shape[2], factor)
    sums = np.add.reduceat(np.add.reduceat(voxels, rows, axis=1, dtype=np.uint32), columns, axis=2)
    sizes = np.outer(np.diff(rows, append=voxels.shape[1]), np.diff(columns, append=voxels.shape[2]))
    return np.asarray((sums + sizes // 2) // sizes, np.uint8)


def _saturation(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the saturation of colours ``(3, y, x)`` as HSV has it, 255 for 1: ``(y, x)``."""
    high, low = colours.max(axis=0).astype(np.uint16), colours.min(axis=0)
    share = (255 * (high - low) + high // 2) // np.maximum(high, 1)
    return np.where(high < DARK, 0, share).astype(np.uint8)
