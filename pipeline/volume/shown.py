"""What a box shows of an image and of its mirror image, from voxels that were read: the end of every look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import NonFiniteError
from pipeline.geometry import Box, mirror

AT_ONCE = 1 << 22
"""Voxels that are checked for NaN at once: memory stays flat."""

Where = Callable[[int, tuple[int, ...]], str]
"""Says of a channel and a voxel where it is stored, for messages."""


def show(
    voxels: npt.NDArray[Any], *, inside: Box, box: Box, shape: tuple[int, ...], finite: tuple[str, Where] | None
) -> npt.NDArray[Any]:
    """Return what ``box`` shows, from the voxels of ``inside``: ``(c, [z,] y, x)``.

    Args:
        voxels: of ``inside``, ``(c, [z,] y, x)``.
        inside: from :func:`pipeline.geometry.visible_box`.
        box: may reach outside the image.
        shape: of the image.
        finite: what messages call the image, and where its voxels are stored; None where NaN and infinity may be.

    Raises:
        NonFiniteError: a voxel is NaN or infinite, and must not be.
    """
    if finite is not None and voxels.dtype.kind == "f" and not _all_finite(voxels):
        raise _non_finite(voxels, inside, *finite)
    return mirror(voxels, inside_box=inside, box=box, shape=shape)


def _all_finite(voxels: npt.NDArray[Any]) -> bool:
    """Whether no voxel is NaN or infinite."""
    rows = max(1, AT_ONCE * voxels.shape[1] // max(1, voxels.size))
    return all(bool(np.isfinite(voxels[:, i : i + rows]).all()) for i in range(0, voxels.shape[1], rows))


def _non_finite(voxels: npt.NDArray[Any], inside: Box, name: str, where: Where) -> NonFiniteError:
    bad = ~np.isfinite(voxels)
    channel, *offset = (int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
    voxel = tuple(a + i for a, i in zip(inside.start, offset, strict=True))
    return NonFiniteError(
        f"{name}: {int(bad.sum())} of {bad.size} voxels of {inside} are NaN or infinite; the first is voxel"
        f" {','.join(map(str, voxel))} of channel {channel}, stored in {where(channel, voxel)}. A network makes NaN of"
        " all that it touches: replace them by numbers in the input, and run again"
    )
