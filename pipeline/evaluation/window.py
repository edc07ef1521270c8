"""What the measures of one chunk see: both volumes around its core, and which of their voxels count.

::

    +-------------------+    window: the core and a halo, clipped to what is compared
    |   +-----------+   |    counted: in the mask, and in no hole
    |   |   core    |   |    known: counted, and the target is not the ignored value
    |   +-----------+   |
    +-------------------+
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box

Bits = npt.NDArray[np.bool_]
Ids = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One chunk of a comparison, read.

    Attributes:
        core: the chunk, in the window's own indices.
        start: voxel of the prediction at which the window begins.
        prediction: ids of the window ``([z,] y, x)``; of probabilities, the most probable class.
        target: ids of the same voxels.
        probabilities: of each class ``(c, [z,] y, x)``; None of ids.
        areas: number of the area of each voxel of the core, 0 for none; None where there are no areas.
        known: voxels of the window that are counted and not ignored; None for all of them.
        ignored: voxels of the core that are counted, but whose target is the ignored value.
    """

    core: Box
    start: tuple[int, ...]
    prediction: Ids
    target: Ids
    probabilities: npt.NDArray[Any] | None = None
    areas: Ids | None = None
    known: Bits | None = None
    ignored: int = 0

    def select(self, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the known voxels of the core.

        Args:
            voxels: of the window, ``(..., [z,] y, x)``.

        Returns:
            Of the core's shape where all of it is known, flat otherwise: ``(..., n)``.
        """
        lead = (slice(None),) * (voxels.ndim - self.core.ndim)
        inside = voxels[(*lead, *self.core.slices)]
        return inside if self.known is None else inside[..., self.known[self.core.slices]]

    @property
    def areas_known(self) -> Ids:
        """The areas of the known voxels of the core, as :meth:`select` gives them."""
        assert self.areas is not None
        return self.areas if self.known is None else self.areas[self.known[self.core.slices]]


def known_of(target: Ids, counted: Bits | None, ignore: int | None, core: Box) -> tuple[Bits | None, int]:
    """Return which voxels of a window are known (None for all), and how many of its core are ignored.

    Args:
        target: ids of the window.
        counted: voxels that are compared; None for all of them.
        ignore: target value that is not counted.
        core: the chunk, in the window's own indices.
    """
    if ignore is None:
        return counted, 0
    kept = np.asarray(target != ignore)
    left_out = ~kept[core.slices] if counted is None else (~kept & counted)[core.slices]
    known = kept if counted is None else kept & counted
    return None if known.all() else known, int(np.count_nonzero(left_out))
