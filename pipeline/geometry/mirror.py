"""Pad at a volume's border by mirroring, as in the U-Net paper's overlap-tile strategy (section 2, figure 2).

Seen from outside, a volume goes on for ever as its own mirror image; the border voxel is the mirror and is not
repeated. The pad is a function of the voxel's place alone, so any read box sees the same values there, however
small the volume is::

    index      -4 -3 -2 -1 |  0  1  2 |  3  4  5  6
    shows       0  1  2  1 |  0  1  2 |  1  0  1  2        (a volume of 3 voxels)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.geometry.box import Box


def mirrored_index(start: int, stop: int, length: int) -> npt.NDArray[np.intp]:
    """Return the voxel shown at each place of ``[start, stop)`` by an axis of ``length`` voxels.

    Law: equal to ``numpy.pad(mode="reflect")`` for pads of any width.
    """
    assert length >= 1
    if length == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (length - 1)
    folded = np.arange(start, stop, dtype=np.intp) % period
    return np.where(folded < length, folded, period - folded)


def visible_box(box: Box, shape: tuple[int, ...]) -> Box:
    """Return the smallest box inside a volume of ``shape`` that holds every voxel that ``box`` shows."""
    found = [_visible(a, b, n) for (a, b), n in zip(box, shape, strict=True)]
    return Box(tuple(a for a, _ in found), tuple(b for _, b in found))


def mirror(
    inside: npt.NDArray[np.generic], *, inside_box: Box, box: Box, shape: tuple[int, ...]
) -> npt.NDArray[np.generic]:
    """Return what ``box`` shows of a volume, from the voxels of ``inside_box``.

    Args:
        inside: array whose last axes are ``inside_box``; leading axes (channels) are carried along.
        inside_box: from :func:`visible_box`.
        box: the box to show; may reach outside the volume by any number of voxels.
        shape: the volume's spatial shape in voxels.
    """
    first = inside.ndim - box.ndim
    assert inside.shape[first:] == inside_box.shape, (inside.shape, inside_box)
    for axis, ((a, b), n) in enumerate(zip(box, shape, strict=True)):
        if a >= 0 and b <= n:
            continue
        index = mirrored_index(a, b, n) - inside_box.start[axis]
        inside = np.take(inside, index, axis=first + axis)
    return inside


def _visible(start: int, stop: int, length: int) -> tuple[int, int]:
    """Return the interval of voxels that ``[start, stop)`` shows, without listing a long interior."""
    if start >= 0 and stop <= length:
        return start, stop
    if stop <= start:
        return 0, 0
    index = mirrored_index(start, stop, length)
    return int(index.min()), int(index.max()) + 1
