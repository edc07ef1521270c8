from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import Box

intervals = st.tuples(st.integers(-50, 50), st.integers(0, 40)).map(lambda p: (p[0], p[0] + p[1]))


@st.composite
def boxes(draw, ndim=2):
    pairs = [draw(intervals) for _ in range(ndim)]
    return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def voxels(box):
    rows, columns = box
    return {(y, x) for y in range(*rows) for x in range(*columns)}


def test_shape_size_and_text():
    box = Box((1, -2), (4, 3))
    assert box.shape == (3, 5)
    assert box.size == 15
    assert str(box) == "1:4,-2:3"
    assert not box.is_empty
    assert Box((3,), (3,)).is_empty


@given(boxes(), boxes())
def test_intersection_is_the_common_voxels(a, b):
    both = a.intersect(b)
    assert voxels(both) == voxels(a) & voxels(b)
    assert a.contains(both)
    assert a.contains(b) == (voxels(b) <= voxels(a))


@given(boxes(), st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_align_is_the_smallest_box_on_the_lattice(box, lattice):
    aligned = box.align(lattice)
    assert aligned.contains(box)
    for (a, b), (c, d), s in zip(aligned, box, lattice, strict=True):
        assert a % s == 0
        assert b % s == 0
        assert c - a < s
        assert b - d < s


@given(boxes(), st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
def test_shift_and_back(box, by):
    assert box.shift(by).relative_to(by) == box


def test_grow_and_slices():
    assert Box((2, 2), (4, 4)).grow((1, 2), (3, 0)) == Box((1, 0), (7, 4))
    assert Box((1, 0), (7, 4)).slices == (slice(1, 7), slice(0, 4))
