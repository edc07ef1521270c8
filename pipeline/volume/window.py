"""Which values of an image's channels viewers show as black and as full colour: a hint in its metadata."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr

from pipeline.volume.ngff import Window

SMALL = 64 << 20
"""Bytes of a level that is read to see what its values are."""


def shown_window(array: zarr.Array[Any]) -> Window:
    """Return the values that viewers show as black and as full colour.

    All of uint8's; 0 to 1 of floats that lie between, as probabilities do; else the least and the greatest finite
    voxel.

    Args:
        array: the coarsest level; where it is larger than 64 MiB it is not read: all values of integers are shown,
            and 0 to 1 of floats.
    """
    dtype = np.dtype(array.dtype)
    if dtype == np.uint8:
        return 0.0, 255.0
    low, high = _range(array, dtype)
    if dtype.kind in "fb" and low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, max(high, low + 1)


def _range(array: zarr.Array[Any], dtype: np.dtype[Any]) -> Window:
    if array.nbytes <= SMALL:
        voxels = np.asarray(array[...])
        finite = voxels[np.isfinite(voxels)] if dtype.kind == "f" else voxels
        return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if dtype.kind in "iu":
        return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    return 0.0, 1.0
