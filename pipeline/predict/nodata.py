"""Voxels of a raster that hold no measurement, where the raster says so with NaN; a mask has found the others.

A network makes NaN of all that it touches. So voxels without any measurement are shown to it as the channels' means,
which normalisation turns to zero, and are background in the result. Both depend on the voxel alone: the result does
not depend on chunks. A voxel of which only some channels are NaN is a fault of the data, and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import NonFiniteError
from pipeline.geometry import Box

Voxels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class NoData:
    """What stands in for voxels without a measurement.

    Attributes:
        means: a value for each channel, in the image's values.
    """

    means: tuple[float, ...]

    def filled(self, shown: Voxels, read_box: Box) -> tuple[Voxels, npt.NDArray[np.bool_]]:
        """Return voxels with a number everywhere, and where there was none: ``(c, [z,] y, x)`` and ``([z,] y, x)``.

        Args:
            shown: ``(c, [z,] y, x)``, what the image shows in ``read_box``.
            read_box: for messages.

        Raises:
            NonFiniteError: a voxel is infinite, or NaN in some channels only.
        """
        empty = np.asarray(np.isnan(shown).all(axis=0))
        means = np.array(self.means, shown.dtype).reshape(-1, *(1,) * empty.ndim)
        voxels = np.where(empty, means, shown) if empty.any() else shown
        bad = np.asarray(~np.isfinite(voxels).all(axis=0))
        if bad.any():
            first = np.unravel_index(int(bad.argmax()), bad.shape)
            place = ",".join(str(a + int(i)) for a, i in zip(read_box.start, first, strict=True))
            raise NonFiniteError(
                f"{int(bad.sum())} of {bad.size} voxels of {read_box} are infinite, or NaN in some bands and not in"
                f" all; the first is voxel {place}. NaN means no data where all bands have it: repair the others in"
                " the input, and run again"
            )
        return voxels, empty


def emptied(voxels: Voxels, empty: npt.NDArray[np.bool_], *, core: Box, read_box: Box) -> Voxels:
    """Return a prediction of ``core``, ``(c, [z,] y, x)``, with background, 0, where there was no measurement.

    Args:
        voxels: of ``core``.
        empty: of ``read_box``, from :meth:`NoData.filled`.
        core: what the chunk writes, in the image's voxels.
        read_box: what it read.
    """
    inside = empty[core.relative_to(read_box.start).slices]
    return np.where(inside, voxels.dtype.type(0), voxels) if inside.any() else voxels
