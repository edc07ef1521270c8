"""Volumes as a report looks at them: one plane, shrunk to a picture or cut out at full resolution.

What is held in memory is a band of rows, whatever the volume's size; what would have to be decoded is bounded too.
Places are boxes in the voxels of the result; a view knows where they lie in its own volume and its coarser levels::

    result     |---- plane ----|                    levels[0]: the same voxels, ``origin`` further on
    volume  ...|===============|......              levels[k]: each voxel is factor(k) of them
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume.file_image import open_image
from pipeline.volume.image import Image
from pipeline.volume.resampled import ResampledImage
from pipeline.volume.sources.reading import DEFAULT, Reading

Voxels = npt.NDArray[Any]

BAND = 32 << 20
"""Bytes of voxels that are read at once."""

MOST_DECODED = 4 << 30
"""Most bytes of voxels that are decoded for one picture."""


@dataclass(frozen=True, slots=True)
class View:
    """A volume over which, or of which, a result lies.

    Attributes:
        levels: the volume and its coarser resolution levels.
        origin: voxel of ``levels[0]`` that voxel 0 of the result lies over.
    """

    levels: tuple[Image, ...]
    origin: tuple[int, ...]

    @property
    def volume(self) -> Image:
        """The finest level."""
        return self.levels[0]

    def factor(self, level: int) -> tuple[float, ...]:
        """Return how many voxels of the finest level make one of another, along each axis."""
        ones = (1.0,) * len(self.volume.shape)
        fine, coarse = self.volume.scale or ones, self.levels[level].scale or ones
        return tuple(c / f for c, f in zip(coarse, fine, strict=True))

    def level_for(self, plane: Box, shape: Sequence[int]) -> int:
        """Return the coarsest level that still has a voxel for each pixel of a picture ``(h, w)``; else the finest."""
        fits = (k for k in range(len(self.levels)) if _covers(self._box(plane, k), shape))
        return max(fits, default=0)

    def averaged(self, plane: Box, shape: tuple[int, int]) -> Voxels:
        """Return a plane as a picture of mean values.

        Args:
            plane: box in the result's voxels, one voxel thick along z.
            shape: pixels ``(h, w)``, at most the plane's voxels.

        Returns:
            The first three channels at most, ``(c, h, w)`` in float32.

        Raises:
            VolumeError: no level is small enough to be decoded for a picture.
        """
        level = self.level_for(plane, shape)
        box = self._box(plane, level)
        height, width = box.shape[-2:]
        step = max(1, min(height // shape[0], width // shape[1]))
        means = [_block_mean(band[:3], step) for _, band in self._bands(level, box, step)]
        return _picked(np.concatenate(means, axis=1), shape)

    def sampled(self, plane: Box, shape: tuple[int, int], *, level: int | None = None) -> Voxels:
        """Return a plane as a picture of single voxels, evenly spaced: class ids stay what they are.

        Args:
            plane: box in the result's voxels, one voxel thick along z.
            shape: pixels ``(h, w)``, at most the plane's voxels.
            level: level to take them from; None for :meth:`level_for`.

        Returns:
            All channels, ``(c, h, w)`` in the volume's dtype.

        Raises:
            VolumeError: the level is too large to be decoded for a picture.
        """
        level = self.level_for(plane, shape) if level is None else level
        box = self._box(plane, level)
        rows, columns = (_places(n, m) for n, m in zip(box.shape[-2:], shape, strict=True))
        picture = np.zeros((self.volume.channels, *shape), self.volume.dtype)
        for first, band in self._bands(level, box, 1):
            inside = (rows >= first) & (rows < first + band.shape[1])
            picture[:, inside] = band[:, rows[inside] - first][:, :, columns]
        return picture

    def cut(self, box: Box) -> Voxels:
        """Return a small box of the result, one voxel thick along z, at full resolution: ``(c, h, w)``."""
        voxels = self.volume.read(box.shift(self.origin), holes="background")
        return voxels.reshape(voxels.shape[0], *voxels.shape[-2:])

    def _box(self, plane: Box, level: int) -> Box:
        """Return the voxels of a level that a plane covers; one of them along z."""
        edges = zip(plane.shift(self.origin), self.factor(level), self.levels[level].shape, strict=True)
        pairs = []
        for (a, b), factor, n in edges:
            start = min(math.floor(a / factor + 1e-6), n - 1)
            pairs.append((start, min(n, max(start + 1, math.ceil(b / factor - 1e-6)))))
        if len(pairs) == 3:
            pairs[0] = (pairs[0][0], pairs[0][0] + 1)
        return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))

    def _bands(self, level: int, box: Box, step: int) -> Iterator[tuple[int, Voxels]]:
        """Yield first row and voxels ``(c, rows, w)`` of bands of a multiple of ``step`` rows."""
        volume = self.levels[level]
        decoded = _decoded(volume, box) * volume.channels * volume.dtype.itemsize
        if decoded > MOST_DECODED:
            raise VolumeError(
                f"{volume.url}: there is no resolution level that is small enough for a picture (the best one decodes"
                f" {decoded >> 20} MiB, at most {MOST_DECODED >> 20} are); store coarser levels, with --pyramid"
            )
        height, width = box.shape[-2:]
        row_bytes = max(1, width * volume.channels * volume.dtype.itemsize)
        least = min(height, volume.pieces[-2])  # what is decoded as one piece anyway is not decoded twice
        rows = max(1, BAND // row_bytes // step, -(-least // step)) * step
        for first in range(0, height, rows):
            top = box.start[-2] + first
            start = (*box.start[:-2], top, box.start[-1])
            stop = (*box.stop[:-2], min(top + rows, box.stop[-2]), box.stop[-1])
            voxels = volume.read(Box(start, stop), holes="background")
            yield first, voxels.reshape(voxels.shape[0], *voxels.shape[-2:])


def open_view(
    url: str | Path,
    reading: Reading = DEFAULT,
    *,
    factors: tuple[float, float] | None = None,
    origin: Sequence[int] | None = None,
) -> View:
    """Open an image and its coarser levels.

    Args:
        url: address of the image.
        reading: how it is read; its level counts as the finest.
        factors: voxels of that level that a voxel spans along y and x, where it was resampled.
        origin: voxel that voxel 0 of the result lies over; None for its own first.

    Raises:
        VolumeError: it cannot be opened.
    """
    finest = open_image(url, reading)
    levels = [finest if factors is None else ResampledImage(finest, factors)]
    for level in range(reading.level + 1, finest.level_count):
        coarser = open_image(url, replace(reading, level=level))
        if factors is None or coarser.scale[-1] > levels[0].scale[-1]:
            levels.append(coarser)
    return View(tuple(levels), tuple(origin or (0,) * len(finest.shape)))


def common_levels(first: View, second: View, *, plane: Box, shape: tuple[int, int]) -> tuple[int, int]:
    """Return the coarsest level of each view that has the same factors in both and voxels enough for a picture."""
    best = (0, 0)
    for i in range(1, first.level_for(plane, shape) + 1):
        for j in range(1, second.level_for(plane, shape) + 1):
            if np.allclose(first.factor(i), second.factor(j)):
                best = (i, j)
    return best


def _decoded(image: Image, box: Box) -> int:
    """Return the voxels that are decoded for a plane: of a stack, as many planes as lie in one piece."""
    depth = min(image.pieces[0], image.shape[0]) if len(image.shape) == 3 else 1
    return box.size * depth


def _covers(box: Box, shape: Sequence[int]) -> bool:
    return all(n >= m for n, m in zip(box.shape[-2:], shape, strict=True))


def _places(length: int, pixels: int) -> npt.NDArray[np.intp]:
    """Return the voxel under the middle of each pixel."""
    return ((np.arange(pixels) + 0.5) * length / pixels).astype(np.intp)


def _picked(voxels: Voxels, shape: tuple[int, int]) -> Voxels:
    """Return ``(c, h, w)`` from any ``(c, y, x)``."""
    rows, columns = (_places(n, m) for n, m in zip(voxels.shape[1:], shape, strict=True))
    return voxels[:, rows][:, :, columns]


def _block_mean(voxels: Voxels, step: int) -> Voxels:
    """Return the means of squares of ``step`` voxels, and of what there is of them at the far edges."""
    means = voxels.astype(np.float32)
    for axis in (1, 2):
        first = np.arange(0, means.shape[axis], step)
        counts = np.minimum(step, means.shape[axis] - first).astype(np.float32)
        means = np.add.reduceat(means, first, axis=axis) / counts.reshape((-1, 1) if axis == 1 else (1, -1))
    return means
