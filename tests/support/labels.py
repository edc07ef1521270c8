"""Label arrays for tests of metrics: random ones, and blobs that look like objects."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

IDS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"]


@st.composite
def label_pairs(draw, most=5):
    """A prediction and a target of one random shape, 2-D or 3-D, with ids 0 to ``most``."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=7))
    ids = st.integers(0, most)
    return tuple(draw(hnp.arrays(draw(st.sampled_from(IDS)), shape, elements=ids)) for _ in "pt")


def cells(shape, *, count, seed, thick=0):
    """Cells (nearest of ``count`` random points), numbered from 1; 0 within ``thick`` voxels of a neighbour."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, shape, (count, len(shape)))
    places = np.indices(shape).reshape(len(shape), -1).T
    distances = np.sqrt(((places[:, None] - points[None]) ** 2).sum(-1))
    nearest = np.sort(distances, axis=1)
    labels = distances.argmin(axis=1) + 1
    if count > 1:
        labels[nearest[:, 1] - nearest[:, 0] < thick] = 0
    return labels.reshape(shape)


def spoilt(labels, *, seed, share=0.05):
    """A copy of labels with mergers, a split and noise."""
    rng = np.random.default_rng(seed)
    out = np.where(labels % 5 == 3, np.minimum(labels + 1, labels.max()), labels)
    half = np.indices(labels.shape)[-1] > labels.shape[-1] / 2
    out = np.where((labels % 4 == 1) & half, labels + labels.max() + 1, out)
    return np.where(rng.random(labels.shape) < share, 0, out)
