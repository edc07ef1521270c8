import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import Box
from pipeline.reporting.places import WINDOW, borders, busiest, middles, window


def marked(shape, *pixels):
    marks = np.zeros(shape, np.bool_)
    for pixel in pixels:
        marks[pixel] = True
    return marks


def test_borders_are_where_a_neighbour_is_of_another_class():
    classes = np.array([[0, 0, 1], [0, 0, 1], [2, 0, 1]])
    assert borders(classes).astype(int).tolist() == [[0, 1, 0], [1, 1, 0], [1, 1, 0]]


def test_the_fullest_window_comes_first_and_empty_ones_never():
    plane = Box((0, 0), (4 * WINDOW, 4 * WINDOW))
    marks = marked((40, 40), (1, 1), (35, 35), (36, 36))
    first, second = busiest(marks, plane, wanted=4)
    assert first == Box((3 * WINDOW, 3 * WINDOW), (4 * WINDOW, 4 * WINDOW))
    assert second == Box((0, 0), (WINDOW, WINDOW))
    assert busiest(np.zeros((40, 40), np.bool_), plane, wanted=4) == []


def test_windows_keep_their_distance():
    plane = Box((0, 0), (8 * WINDOW, 8 * WINDOW))
    marks = np.ones((80, 80), np.bool_)
    found = busiest(marks, plane, wanted=4)
    corners = [tuple(n // WINDOW for n in box.start) for box in found]
    assert len(found) == 4
    assert min(max(abs(a - c), abs(b - d)) for a, b in corners for c, d in corners if (a, b) != (c, d)) >= 4


@given(
    st.tuples(st.integers(1, 3 * WINDOW), st.integers(1, 3 * WINDOW)),
    st.integers(1, 6),
    st.integers(0, 9),
    st.booleans(),
)
def test_windows_lie_in_the_plane_apart_and_the_same_each_time(shape, wanted, seed, flat):
    plane = Box((0, 0), shape) if flat else Box((5, 0, 0), (6, *shape))
    marks = np.random.default_rng(seed).random((9, 11)) < 0.2
    for choose in (lambda: busiest(marks, plane, wanted=wanted), lambda: middles(plane, wanted=wanted)):
        found = choose()
        assert found == choose()
        assert len(found) <= wanted
        assert all(plane.contains(box) for box in found)
        assert all(box.shape[-2:] == tuple(min(n, WINDOW) for n in shape) for box in found)
        for i, box in enumerate(found):
            assert all(2 * box.intersect(other).size <= box.size for other in found[:i])


def test_a_window_is_moved_into_the_plane():
    plane = Box((7, 0, 0), (8, 1000, 1000))
    assert window(Box((0, 0, 0), (9, 64, 64)), plane) == Box((7, 0, 0), (8, WINDOW, WINDOW))
    assert window(Box((0, 480, 990), (9, 520, 1000)), plane) == Box(
        (7, 500 - WINDOW // 2, 1000 - WINDOW), (8, 500 + WINDOW // 2, 1000)
    )
