"""An image seen in larger or smaller voxels: resampled in the plane as it is read.

Each axis by itself, first y, then x. A coarser voxel is the mean of those that it covers, each weighted by how much of
it is covered; a finer one lies on the line between the two nearest centres::

    f = 2.5    |  0  |  1  |  2  |  3  |  4  |        f = 0.5    |     0     |     1     |
               |      0      |      1        |                   |  0  |  1  |  2  |  3  |

Weights are functions of the voxel's place in the whole image, and the same number of terms is summed in the same order
in float64: the bits of a voxel do not depend on the box that it is read in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import VolumeError
from pipeline.geometry import Box, visible_box
from pipeline.volume.geo import Georeference
from pipeline.volume.image import Identities, Image, ImageSpec, View
from pipeline.volume.shown import show
from pipeline.volume.space import Space
from pipeline.volume.taps import Taps, rounded, source_range, taps_of, weighted

BAND_BYTES = 32 << 20
"""Bytes of float64 that are worked on at once, besides what is read and what is made."""

_ROUNDING = 1e-9
"""By so many voxels an image may lack to be whole: what is left of a division of two sizes."""


class ResampledImage:
    """An image in other voxels. Any number of threads may read at once.

    Attributes:
        image: whose voxels are read.
        factors: voxels of ``image`` that one of these spans, along each spatial axis; 1 along z.
    """

    def __init__(self, image: Image, factors: tuple[float, float]) -> None:
        """Look at an image in other voxels.

        Args:
            image: whose voxels are read.
            factors: of its voxels that one spans along y and x.

        Raises:
            VolumeError: it is smaller than one of them.
        """
        assert min(factors) > 0, factors
        self.image = image
        self.factors = (1.0,) * (len(image.shape) - 2) + tuple(float(f) for f in factors)
        self.shape = tuple(
            n if f == 1 else math.floor(n / f + _ROUNDING) for n, f in zip(image.shape, self.factors, strict=True)
        )
        if 0 in self.shape:
            raise VolumeError(
                f"{image.url}: {image.shape} voxels are less than one of {factors} voxels; ask for a smaller"
                " --pixel-size"
            )

    @property
    def url(self) -> str:
        """Where the image was opened."""
        return self.image.url

    @property
    def axes(self) -> str:
        """Stored axis names."""
        return self.image.axes

    @property
    def box(self) -> Box:
        """The whole image, in these voxels."""
        return Box.of_shape(self.shape)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.image.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the voxels: the same, rounded half up where they are integers."""
        return self.image.dtype

    @property
    def space(self) -> Space:
        """Spatial axes, voxel size, origin and unit: the corner stays, the centre of voxel 0 moves."""
        space, factors = self.image.space, self.factors
        moved = zip(space.translation, space.voxel_size, factors, strict=True)
        return replace(
            space,
            voxel_size=tuple(s * f for s, f in zip(space.voxel_size, factors, strict=True)),
            translation=tuple(t + (f - 1) / 2 * s for t, s, f in moved),
        )

    @property
    def geo(self) -> Georeference | None:
        """Where on Earth these voxels lie."""
        found = self.image.geo
        return None if found is None else found.scaled(self.factors)

    @property
    def scale(self) -> tuple[float, ...]:
        """Voxels of level 0 that one of these spans, along each spatial axis."""
        below = self.image.scale or (1.0,) * len(self.factors)
        return tuple(a * f for a, f in zip(below, self.factors, strict=True))

    @property
    def pieces(self) -> tuple[int, ...]:
        """Spatial shape of what is decoded at once, in these voxels and at least one."""
        pairs = zip(self.image.pieces, self.factors, strict=True)
        return tuple(max(1, math.ceil(p / f)) for p, f in pairs)

    @property
    def level(self) -> int:
        """The level that is read."""
        return self.image.level

    @property
    def level_count(self) -> int:
        """Number of resolution levels that there are."""
        return self.image.level_count

    @property
    def metadata(self) -> dict[str, Any]:
        """What identifies the image that is read."""
        return self.image.metadata

    def look(self, box: Box, *, holes: str | None = None) -> ResampledView:
        """Find what is stored below a box; errors as those of the image that is read."""
        inside = visible_box(box, self.shape)
        return ResampledView(self, box, inside, self.image.look(self.source_box(inside), holes=holes))

    def read(self, box: Box, *, holes: str | None = None) -> npt.NDArray[Any]:
        """Read the voxels of a box inside the image, NaN and infinity as they are: ``(c, [z,] y, x)``."""
        assert self.box.contains(box), (box, self.shape)
        return self.look(box, holes=holes).shown(finite=False)

    def source_box(self, box: Box) -> Box:
        """Return the voxels that are read for a box inside the image."""
        pairs = [self._source_along(axis, a, b) for axis, (a, b) in enumerate(box)]
        return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))

    def decoded_along(self, axis: int, start: int, stop: int) -> int:
        """Return the stored voxels that are decoded along an axis for a read."""
        return self.image.decoded_along(axis, *self._source_along(axis, start, stop))

    def read_bytes(self, shape: Sequence[int]) -> int:
        """Return the bytes of memory that a read takes at most, beside its voxels: those that it is made of."""
        lengths = [n if f == 1 else math.ceil(n * f) + 2 for n, f in zip(shape, self.factors, strict=True)]
        source = [min(n, m) for n, m in zip(lengths, self.image.shape, strict=True)]
        voxels = 2 * math.prod(source) * self.channels * self.dtype.itemsize
        return voxels + self.image.read_bytes(source) + 4 * max(BAND_BYTES, 8 * source[-1])

    @property
    def open_bytes(self) -> int:
        """Bytes of memory that it takes to have the image open."""
        return self.image.open_bytes

    def check_holes(self) -> None:
        """Check the image that is read."""
        self.image.check_holes()

    def identities(self) -> Identities:
        """Find out what everything that the image is stored in is now."""
        return _Identities(self, self.image.identities())

    def close(self) -> None:
        """Close the image that is read."""
        self.image.close()

    def resample(self, voxels: npt.NDArray[Any], inside: Box) -> npt.NDArray[Any]:
        """Return a box of this image, from the voxels of its :meth:`source_box`: ``(c, [z,] y, x)``."""
        source = self.source_box(inside)
        rows, columns = (self._taps(axis, inside, source) for axis in (-2, -1))
        out = np.empty((*voxels.shape[:-2], *inside.shape[-2:]), self.dtype)
        step = max(1, BAND_BYTES // (8 * max(voxels.shape[-1], out.shape[-1])))
        planes = voxels.reshape(-1, *voxels.shape[-2:])
        for plane, made in zip(planes, out.reshape(-1, *out.shape[-2:]), strict=True):
            for first in range(0, out.shape[-2], step):
                part = slice(first, first + step)
                tall = weighted(plane, rows.cut(part), axis=0)
                made[part] = rounded(weighted(tall, columns, axis=1), self.dtype)
        return out

    def _source_along(self, axis: int, start: int, stop: int) -> tuple[int, int]:
        return source_range(start, stop, factor=self.factors[axis], length=self.image.shape[axis])

    def _taps(self, axis: int, inside: Box, source: Box) -> Taps:
        """Return which voxels of a source box make each voxel of a box along an axis, and their weights."""
        ends = (inside.start[axis], inside.stop[axis])
        return taps_of(*ends, factor=self.factors[axis], source=(source.start[axis], source.stop[axis]))


@dataclass(frozen=True, slots=True)
class ResampledSpec:
    """How a resampled image is opened; small and picklable.

    Attributes:
        image: how the image is opened whose voxels are read.
        factors: of its voxels that one spans along y and x.
    """

    image: ImageSpec
    factors: tuple[float, float]

    def open(self) -> ResampledImage:
        """Open it; errors as of the image, and of :class:`ResampledImage`."""
        return ResampledImage(self.image.open(), self.factors)


@dataclass(frozen=True, slots=True, eq=False)
class ResampledView:
    """What was found below a box of a resampled image.

    Attributes:
        image: where.
        box: in its voxels; may reach outside.
        inside: the box inside the image whose voxels it shows.
        view: of the voxels that are read.
    """

    image: ResampledImage
    box: Box
    inside: Box
    view: View

    @property
    def seen(self) -> tuple[str, ...]:
        """Short digests of the identities of what is stored below the box."""
        return self.view.seen

    def shown(self, *, finite: bool = True) -> npt.NDArray[Any]:
        """Read what the box shows of the resampled image and of its mirror image; errors as those of ``view``."""
        made = self.image.resample(self.view.shown(finite=finite), self.inside)
        return show(made, inside=self.inside, box=self.box, shape=self.image.shape, finite=None)


@dataclass(frozen=True, slots=True)
class _Identities:
    image: ResampledImage
    below: Identities

    def keys(self, box: Box) -> list[str]:
        return self.below.keys(self.image.source_box(box))

    def digests(self, box: Box) -> list[str]:
        return self.below.digests(self.image.source_box(box))
