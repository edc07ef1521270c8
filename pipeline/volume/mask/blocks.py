"""Where an image holds data: rasters with a nodata value, and images of which parts are empty or not stored.

A voxel of the mask is foreground if any voxel in it is data. An image of up to 16 million voxels has a mask of its own
resolution; of a larger one, the longest axis of the mask is halved until it has no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.morphology import dilation

from pipeline.errors import InputDamageError, MissingChunkError
from pipeline.geometry import Box, Grid
from pipeline.volume.image import Image
from pipeline.volume.look import HOLE
from pipeline.volume.mask.foreground import ALGORITHM, Subject
from pipeline.volume.mask.levels import open_coarse, open_level
from pipeline.volume.mask.sampling import Bits, Sampling
from pipeline.volume.volume import Volume

MOST = 1 << 24
"""Voxels that the mask has at most; it is held in memory, a byte each."""

AT_ONCE = 1 << 22
"""Voxels of the image that are read at once, or one piece that is decoded whole."""


class Data:
    """Where an image holds data: voxels that are not ``nodata``, or not the fill value.

    Attributes:
        shape: of the mask.
    """

    kind = "auto"

    def __init__(self, subject: Subject) -> None:
        geo = subject.image.geo
        self._nodata = None if geo is None else geo.nodata
        coarse = self._nodata is not None and subject.image.level_count > 1
        self._image = open_coarse(subject) if coarse else open_level(subject, subject.image.level)
        self._grown = self._image.level > subject.image.level
        own = self._image.shape
        self.shape = _reduced(tuple(min(m, n) for m, n in zip(own, subject.image.shape, strict=True)))
        self._sampling = Sampling(own, self.shape)
        self._wanted = Sampling(subject.image.shape, self.shape).below(subject.region)
        self._fill = _fill_value(self._image)

    @property
    def reason(self) -> str:
        """Why a chunk is skipped."""
        return "mask: empty" if self._nodata is None else "mask: no data"

    @property
    def nbytes(self) -> int:
        """Bytes of the level's voxels in the region."""
        voxels = self._sampling.above(self._wanted).size
        return voxels * self._image.channels * self._image.dtype.itemsize

    @property
    def identity(self) -> dict[str, Any]:
        """The method, and the value that is no data; all else is the image."""
        value = {} if self._nodata is None else {"nodata": repr(float(self._nodata))}
        return {"kind": self.kind, "algorithm": ALGORITHM, "method": self._method, **value}

    @property
    def _method(self) -> str:
        return "empty" if self._nodata is None else "nodata"

    @property
    def facts(self) -> dict[str, Any]:
        """The level and the value that is background."""
        value = self._fill if self._nodata is None else self._nodata
        method = f"{self._method}: any voxel that is not {value}"
        return {"method": method, "level": self._image.level, "margin_voxels": int(self._grown)}

    def read(self, box: Box) -> Bits:
        """Return the data of a box."""
        return self._data[box.slices]

    def close(self) -> None:
        """Let go of the level."""
        self._image.close()

    @cached_property
    def _data(self) -> Bits:
        found = np.zeros(self.shape, np.bool_)
        for box in self._boxes():
            below = self._sampling.below(box)
            found[below.slices] |= self._sampling.gather(self._is_data(box), box)
        if self._grown:  # what an overview was made of may have been left out of it
            found = _dilated(found)
        return found

    def _boxes(self) -> Iterator[Box]:
        """Yield boxes that cover what is wanted of the level: pieces that are decoded whole, some at a time."""
        wanted, image = self._sampling.above(self._wanted), self._image
        unit = [min(p, n) for p, n in zip(image.pieces, image.shape, strict=True)]
        while math.prod(unit) * 2 <= AT_ONCE and any(u < n for u, n in zip(unit, image.shape, strict=True)):
            short = min((a for a, n in enumerate(image.shape) if unit[a] < n), key=lambda a: unit[a])
            unit[short] *= 2
        grid = Grid(image.shape, tuple(unit))
        for position in grid.overlapping(wanted):
            yield grid.core(grid.number(position)).intersect(wanted)

    def _is_data(self, box: Box) -> Bits:
        """Return which voxels of a box hold data in any channel; all, where they cannot be read.

        So the chunk that needs them is tried, and fails with what is wrong.
        """
        try:
            view = self._image.look(box)
            if isinstance(self._image, Volume) and set(view.seen) == {HOLE}:
                return np.zeros(box.shape, np.bool_)
            voxels = view.shown(finite=False)
        except (InputDamageError, MissingChunkError):
            return np.ones(box.shape, np.bool_)
        return np.asarray(_differs(voxels, self._fill if self._nodata is None else self._nodata).any(axis=0))


def _dilated(bits: Bits) -> Bits:
    """Return the voxels that are set, and their neighbours."""
    grown: npt.NDArray[np.uint8] = dilation(bits.view(np.uint8), np.ones((3,) * bits.ndim, np.uint8))
    return grown.astype(np.bool_)


def _differs(voxels: npt.NDArray[Any], value: float) -> Bits:
    """Return where voxels are not a value; NaN is NaN."""
    nan = voxels.dtype.kind == "f" and math.isnan(value)
    other: Bits = ~np.isnan(voxels) if nan else voxels != value
    return other


def _reduced(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Halve the longest axis until there are few voxels enough."""
    lengths = list(shape)
    while math.prod(lengths) > MOST:
        longest = lengths.index(max(lengths))
        lengths[longest] = -(-lengths[longest] // 2)
    return tuple(lengths)


def _fill_value(image: Image) -> float:
    """Return the value of voxels that are not stored; 0 of a format that has none."""
    value = getattr(image.array, "fill_value", 0) if isinstance(image, Volume) else 0
    return float(value or 0)
