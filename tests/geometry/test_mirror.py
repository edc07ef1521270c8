import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import Box, mirror, mirrored_index, visible_box


@given(st.integers(1, 12), st.integers(0, 60), st.integers(0, 60))
def test_index_equals_numpy_reflect_for_any_pad(length, before, after):
    reference = np.pad(np.arange(length), (before, after), mode="reflect" if length > 1 else "edge")
    assert (mirrored_index(-before, length + after, length) == reference).all()


@given(st.data())
def test_any_box_of_the_mirrored_volume(data):
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(2))
    pad = 30
    volume = np.arange(2 * shape[0] * shape[1]).reshape(2, *shape)
    widths = ((0, 0), (pad, pad), (pad, pad))
    whole = volume
    for axis in (1, 2):
        one = [w if i == axis else (0, 0) for i, w in enumerate(widths)]
        whole = np.pad(whole, one, mode="reflect" if volume.shape[axis] > 1 else "edge")
    start = tuple(data.draw(st.integers(-pad, n + pad - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n + pad)) for a, n in zip(start, shape, strict=True))
    box = Box(start, stop)
    inside_box = visible_box(box, shape)
    assert Box.of_shape(shape).contains(inside_box)
    inside = volume[:, *inside_box.slices]
    shown = mirror(inside, inside_box=inside_box, box=box, shape=shape)
    assert (shown == whole[:, *box.shift((pad, pad)).slices]).all()


def test_interior_is_not_copied():
    volume = np.arange(100).reshape(1, 10, 10)
    box = Box((2, 3), (5, 6))
    assert visible_box(box, (10, 10)) == box
    shown = mirror(volume[:, 2:5, 3:6], inside_box=box, box=box, shape=(10, 10))
    assert shown.base is not None
