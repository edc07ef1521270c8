"""Segments of one slice, and their borders made one pixel thin, as the ISBI 2012 challenge scores them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_cdt
from skimage.measure import label

FACES = 1
"""Connectivity of all segments: across faces, which in the plane means 4 neighbours."""

Segments = NDArray[np.intp]


def segments(interior: NDArray[Any]) -> Segments:
    """Number the 4-connected parts of the interior of one slice.

    Args:
        interior: ``(y, x)``, where it is not 0 there is no membrane.

    Returns:
        ``(y, x)``: 0 on membranes, 1, 2, ... inside.
    """
    return np.asarray(label(np.asarray(interior) != 0, connectivity=FACES), np.intp)  # type: ignore[no-untyped-call]


def thinned(interior: NDArray[Any]) -> Segments:
    """Let the segments of one slice grow over the membranes until only lines are between them.

    That is the watershed transform of the membrane map (1 on membranes, 0 inside), flooded from the segments over 4
    neighbours, with which Arganda-Carreras et al. 2015 thin proposals. On such a map it gives each membrane pixel to
    the segment that is nearest by city blocks; ties may fall otherwise than in their program. A line is one pixel
    wide: of two neighbours in different segments, one is on it, which was membrane (the one of the lower number, if
    both were). The whole slice floods together, so it cannot be cut into chunks. Membranes that separate nothing
    vanish; a slice without interior is one segment.

    Args:
        interior: ``(y, x)``, where it is not 0 there is no membrane.

    Returns:
        ``(y, x)``: 0 on the lines, the numbers of :func:`segments` elsewhere; each segment keeps all its pixels.
    """
    seeds = segments(interior)
    if not seeds.any():
        return np.ones_like(seeds)
    _, nearest = distance_transform_cdt(seeds == 0, "taxicab", return_indices=True)
    grown = seeds[tuple(nearest)]
    return np.where(_lines(grown, seeds != 0), 0, grown)


def _lines(grown: Segments, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the lines between segments that fill a slice run: never inside of what was no membrane."""
    lines = np.zeros(grown.shape, bool)
    for axis in range(grown.ndim):
        ids, kept, marks = (np.swapaxes(a, 0, axis) for a in (grown, inside, lines))
        for here, there in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            differ = (ids[here] != ids[there]) & ~kept[here]
            marks[here] |= differ & (kept[there] | (ids[here] < ids[there]))
    return lines
