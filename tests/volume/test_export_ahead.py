import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from volumes import create_filled, save, small_spec

from pipeline.geometry import Box, Grid
from pipeline.store import LocalPlace
from pipeline.volume import open_volume, publish
from pipeline.volume.absent import Absent
from pipeline.volume.export import ahead
from pipeline.volume.export.ahead import box_shape, in_order, is_left_out, read
from pipeline.volume.state import KEY, set_attributes


def test_what_is_made_comes_in_order_and_a_bounded_number_waits():
    made, gate = [], threading.Semaphore(0)

    def make(box):
        gate.acquire()
        made.append(box)
        return box.start[0]

    boxes = iter(list(Grid((10,), (1,)).cores()))
    found = in_order(make, boxes, threads=2, ahead=1)
    gate.release(1)
    first, value = next(found)
    assert (first, value) == (Box((0,), (1,)), 0)
    assert len(list(boxes)) == 10 - 3
    gate.release(9)
    assert [value for _, value in found] == [1, 2]


def test_an_error_ends_it_and_drops_what_has_not_begun():
    begun = []

    def make(box):
        begun.append(box.start[0])
        raise ValueError(box)

    found = in_order(make, Grid((50,), (1,)).cores(), threads=1)
    with pytest.raises(ValueError, match="0:1"):
        next(found)
    assert len(begun) <= 2


class Stored:
    """A volume as far as its layout goes."""

    def __init__(self, stored, channels, size):
        self.axes, self.channels = "zyx"[-len(stored) :], channels
        self.storage_grid, self.space, self.dtype = Grid((9999,) * len(stored), stored), self, np.dtype(f"u{size}")


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 40)), min_size=2, max_size=3),
    st.integers(1, 4),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 1 << 20),
)
def test_boxes_are_whole_pieces_and_no_larger_than_allowed(axes, channels, size, limit):
    stored, piece = zip(*axes, strict=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "BOX_BYTES", limit)
        shape = box_shape(Stored(stored, channels, size), piece)
    assert all(n % p == 0 for n, p in zip(shape, piece, strict=True))
    assert shape == piece or np.prod(shape) * channels * size <= limit
    if np.prod([-(-n // p) * p for n, p in zip(stored, piece, strict=True)]) * channels * size <= limit:
        assert all(n >= s for n, s in zip(shape, stored, strict=True))


def test_what_was_left_out_is_not_read(tmp_path, monkeypatch):
    spec = small_spec((16, 24))
    create_filled(tmp_path / "a.zarr", spec, np.ones((16, 24), "u1"))
    publish(tmp_path / "a.zarr", name="a", axes="yx", levels=[("0", spec.space)], classes=None)
    plain = open_volume(tmp_path / "a.zarr")
    assert not is_left_out(plain, plain.box)
    (tmp_path / "a.zarr" / "0" / "c" / "0" / "1").unlink()
    bits = np.zeros((2, 3), bool)
    bits[0, 1] = True
    said = Absent(bits, (Grid((16, 24), (8, 8)),)).to_attribute()
    set_attributes(LocalPlace(tmp_path / "a.zarr"), {KEY: {"absent": said}})
    volume = open_volume(tmp_path / "a.zarr")
    assert is_left_out(volume, Box((1, 8), (8, 16)))
    assert not is_left_out(volume, Box((1, 8), (9, 16)))
    np.testing.assert_array_equal(read(volume, Box((0, 7), (8, 17)))[0, 0], [1] + [0] * 8 + [1])
    monkeypatch.setattr(type(volume), "read", None)
    assert not read(volume, Box((0, 8), (8, 16))).any()
    assert read(volume, Box((0, 8), (8, 16))).shape == (1, 8, 8)


def test_channels_are_read_first(tmp_path):
    save(tmp_path / "a.zarr", np.ones((4, 5, 3), "u1"), "yxc")
    volume = open_volume(tmp_path / "a.zarr")
    assert read(volume, Box((0, 0), (2, 2))).shape == (3, 2, 2)
