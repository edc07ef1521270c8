"""Cut a spatial box out of an array of any axis order: always ``(c, [z,] y, x)``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box


def read_box(array: Any, axes: str, box: Box) -> npt.NDArray[Any]:
    """Read a spatial box of any array that is cut by slices.

    Args:
        array: its axes are ``axes``; only the first time point is read.
        axes: stored axis names, see :func:`pipeline.volume.space.check_axes`.
        box: spatial box in voxels, in the order ``[z,] y, x``.

    Returns:
        ``(c, [z,] y, x)``, one channel where there is no channel axis, in native byte order.
    """
    spatial = [a for a in "zyx" if a in axes]
    cut = dict(zip(spatial, box.slices, strict=True))
    voxels = np.asarray(array[tuple(0 if a == "t" else cut.get(a, slice(None)) for a in axes)])
    kept = [a for a in axes if a != "t"]
    voxels = voxels.transpose([kept.index(a) for a in ("c", *spatial) if a in kept])
    voxels = voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    return voxels if "c" in kept else voxels[np.newaxis]
