"""Arrays cut into chunks in several ways, for laws of sums."""

import numpy as np
from hypothesis import strategies as st

from pipeline.geometry import Box


def boxes(shape, sides):
    """The boxes of a grid of chunks over an array; those at the far edges are cut."""
    whole = Box.of_shape(shape)
    for corner in np.ndindex(*(-(-n // side) for n, side in zip(shape, sides, strict=True))):
        start = [i * side for i, side in zip(corner, sides, strict=True)]
        yield Box(tuple(start), tuple(a + b for a, b in zip(start, sides, strict=True))).intersect(whole)


@st.composite
def sides_of(draw, shape):
    """Any chunk for an array of a shape."""
    return tuple(draw(st.integers(1, max(n, 1))) for n in shape)


def five_chunkings(shape):
    """Five chunks for an array: all of it, its halves, slabs, odd ones, and many small ones."""
    return [
        shape,
        tuple(-(-n // 2) for n in shape),
        (1, *shape[1:]),
        tuple(min(n, 7 + i) for i, n in enumerate(shape)),
        tuple(min(n, 4) for n in shape),
    ]
