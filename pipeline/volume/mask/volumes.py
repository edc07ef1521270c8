"""A mask that the user made: any image of one channel, at any resolution; what is not 0 is foreground."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.errors import VolumeError
from pipeline.geometry import Box, Grid
from pipeline.volume.file_image import absolute_image, open_image
from pipeline.volume.image import Image
from pipeline.volume.mask.foreground import ALGORITHM, Subject, digest
from pipeline.volume.mask.sampling import Bits, lies_in
from pipeline.volume.sources.reading import DEFAULT

AT_ONCE = 1 << 24
"""Voxels of a mask that are read at once."""

CHANNELS = (1, 3)
"""Channels that a mask may have: values, or colours, of which black is background."""


class MaskVolume:
    """An image that says with its voxels which ones of another image are foreground.

    A mask that is finer than the image is taken at the voxels that the image's lie in: no more of it would be used.

    Attributes:
        url: of the mask.
    """

    kind = "volume"
    reason = "mask: outside the mask"

    def __init__(self, url: str, subject: Subject) -> None:
        self.url = url
        # What a mask does not store is its fill value: Zarr leaves out what is empty.
        self._mask = open_image(url, replace(DEFAULT, holes="background"))
        try:
            _check(self._mask, subject.image)
        except VolumeError:
            self._mask.close()
            raise
        image = subject.image.shape[-len(self._mask.shape) :]
        self._own = self._mask.shape
        self.shape = tuple(min(m, n) for m, n in zip(self._own, image, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of the mask's voxels."""
        return math.prod(self._own) * self._mask.channels * self._mask.dtype.itemsize

    @property
    def identity(self) -> dict[str, Any]:
        """The mask's address, layout and the identities of what it is stored in."""
        return {
            "kind": self.kind,
            "algorithm": ALGORITHM,
            "path": absolute_image(self.url),
            "array": digest(self._mask.metadata),
            "stored": digest(self._mask.identities().digests(self._mask.box)),
        }

    @property
    def facts(self) -> dict[str, Any]:
        """Where it is, and its shape."""
        return {"source": absolute_image(self.url), "method": "nonzero", "own_shape": list(self._own)}

    def read(self, box: Box) -> Bits:
        """Return which voxels of a box are not 0."""
        found = np.zeros(box.shape, np.bool_)
        finer = math.prod(-(-own // n) for own, n in zip(self._own, self.shape, strict=True))
        side = max(1, int((AT_ONCE / finer) ** (1 / len(box.shape))))
        for part in Grid(box.shape, tuple(min(side, n) for n in box.shape)).cores():
            found[part.slices] = self._read(part.shift(box.start))
        return found

    def _read(self, box: Box) -> Bits:
        taken = [
            lies_in(np.arange(a, b, dtype=np.int64), n, own)
            for (a, b), n, own in zip(box, self.shape, self._own, strict=True)
        ]
        below = Box(tuple(int(t[0]) for t in taken), tuple(int(t[-1]) + 1 for t in taken))
        voxels = self._mask.read(below)
        set_ = voxels != 0 if voxels.dtype.kind != "f" else (voxels != 0) & ~np.isnan(voxels)
        places = [t - start for t, start in zip(taken, below.start, strict=True)]
        bits: Bits = set_.any(axis=0)[np.ix_(*places)]
        return bits

    def close(self) -> None:
        """Let go of the mask."""
        self._mask.close()


def _check(mask: Image, image: Image) -> None:
    """Refuse a mask that does not lie over an image.

    Raises:
        VolumeError: other axes, another ratio of the sides, or channels that do not say what foreground is.
    """
    if mask.channels not in CHANNELS:
        raise VolumeError(
            f"--mask {mask.url}: has {mask.channels} channels; a mask has one, or three colours of which black is"
            " background (an alpha channel would not be a mask)"
        )
    if len(mask.shape) > len(image.shape) or not lies_over(mask.shape, image.shape):
        raise VolumeError(
            f"--mask {mask.url}: its shape {mask.shape} is not that of the image, {image.shape}, scaled by one ratio"
            f" along y and x ({_ratios(mask.shape, image.shape)}); make the mask of the whole image, at any resolution"
            + (", with the same slices, or of two axes for all of them" if len(image.shape) == 3 else "")
        )


def lies_over(mask: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Whether a mask's shape is an image's, scaled by one ratio along y and x (and z, or not at all), rounded.

    A side of ``n`` voxels that is scaled by ``1 / f`` becomes one of ``m`` if ``n / f`` is rounded to ``m``: to the
    nearest, upwards or downwards, all sides in the same way.
    """
    sides = list(zip(mask, image[-len(mask) :], strict=True))
    if len(sides) == 3 and sides[0][0] == sides[0][1]:
        sides = sides[1:]
    return any(
        max(n / (m + over) for m, n in sides) < min(n / (m - under) if m > under else math.inf for m, n in sides)
        for under, over in ((0.5, 0.5), (1, 0), (0, 1))
    )


def _ratios(mask: tuple[int, ...], image: tuple[int, ...]) -> str:
    pairs = zip("zyx"[-len(mask) :], mask[-len(image) :], image[-len(mask) :], strict=False)
    return ", ".join(f"{axis} {n / m:.4g}" for axis, m, n in pairs)
