import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from labels import cells
from scipy.ndimage import distance_transform_cdt
from skimage.segmentation import watershed

from pipeline.evaluation.thinning import segments, thinned

SLICES = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


def rows(text):
    return np.array([[int(c) for c in line] for line in text.split()])


@pytest.mark.parametrize(
    ("interior", "expected"),
    [
        ("11011", "11022"),  # a line of one pixel stays
        ("110011", "110222"),  # of two, the one of the lower number
        ("1100011", "1110222"),  # of three, the middle falls to the first
        ("111 101 111", "111 111 111"),  # a membrane that separates nothing
        ("000 000", "111 111"),  # no interior: one segment
        ("111 111", "111 111"),
        ("10 01", "10 02"),  # corners do not connect
        ("010", "111"),
    ],
)
def test_lines_by_hand(interior, expected):
    assert thinned(rows(interior)).tolist() == rows(expected).tolist()


@given(SLICES)
def test_segments_keep_their_pixels_and_touch_no_other(interior):
    before, after = segments(interior), thinned(interior)
    if not interior.any():
        assert (after == 1).all()
        return
    assert np.array_equal(after[interior], before[interior])
    for axis in (0, 1):
        one, other = np.moveaxis(after, axis, 0)[1:], np.moveaxis(after, axis, 0)[:-1]
        assert not ((one != other) & (one != 0) & (other != 0)).any()
    lines = after == 0
    blocks = lines[1:, 1:] & lines[1:, :-1] & lines[:-1, 1:] & lines[:-1, :-1]
    assert blocks.sum() <= lines.sum() / 4


@given(SLICES, st.integers(0, 1))
def test_it_does_not_matter_what_stands_for_interior(interior, more):
    assert np.array_equal(thinned(interior), thinned(interior.astype(int) * (254 + more)))


def test_it_is_the_watershed_but_for_ties():
    interior = cells((96, 96), count=20, seed=3, thick=7.0) > 0
    ours = thinned(interior)
    theirs = watershed(~interior, markers=segments(interior), connectivity=1)
    seeds = segments(interior)
    far = np.stack([distance_transform_cdt(seeds != i, "taxicab") for i in range(1, seeds.max() + 1)])
    differ = (ours != theirs) & (ours != 0)
    places = np.nonzero(differ)
    assert np.array_equal(far[ours[differ] - 1, *places], far[theirs[differ] - 1, *places])
    assert differ.mean() < 0.02
    lines = ours == 0
    assert not (lines[1:, 1:] & lines[1:, :-1] & lines[:-1, 1:] & lines[:-1, :-1]).any()
