"""Chosen channels of any image."""

import numpy as np
import pytest
import tifffile

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume.sources import open_source
from pipeline.volume.sources.channels import Selecting, select_channels
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.source import array_source

DATA = np.random.default_rng(0).integers(0, 99, (3, 4, 5, 6), dtype=np.uint16)


def image(data=DATA, axes="czyx"):
    closed = []
    source = array_source("a.x", data, axes, pieces=(1, *data.shape[1:]), closing=lambda: closed.append(1))
    source.channel_names = ("red", "green", "blue")
    source.files = ("a.x",)
    return source, closed


@pytest.mark.parametrize("bands", [(1,), (3, 1), (2, 2, 2, 1), (3, 2, 1)])
def test_channels_are_chosen_in_any_order_and_number(bands):
    source, closed = image()
    with select_channels(source, bands) as chosen:
        box = Box((1, 0, 2), (3, 5, 6))
        np.testing.assert_array_equal(chosen.read(box), DATA[[b - 1 for b in bands]][(slice(None), *box.slices)])
        assert chosen.channels == (len(bands) if len(bands) > 1 else None)
        assert chosen.channel_names == tuple(("red", "green", "blue")[b - 1] for b in bands)
        assert (chosen.shape, chosen.dtype, chosen.slab) == (source.shape, source.dtype, source.slab)
        assert (chosen.space, chosen.files, chosen.files_below(box)) == (source.space, ("a.x",), ("a.x",))
        assert chosen.where((1, 2, 3)) == source.where((1, 2, 3))
        assert not closed
    assert closed


@pytest.mark.parametrize("bands", [None, (1, 2, 3)])
def test_all_channels_as_they_are_take_no_wrapper(bands):
    source, _ = image()
    assert select_channels(source, bands) is source


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ((0,), r"a\.x: there is no band 0; it has 3 band\(s\), counted from 1"),
        ((1, 4), "no band 4; it has 3"),
        ((-1,), "no band -1"),
        ((), "no band is named; it has 3"),
    ],
)
def test_numbers_that_are_no_channel(bands, message):
    source, closed = image()
    with pytest.raises(VolumeError, match=message):
        select_channels(source, bands)
    assert closed


def test_a_grey_image_becomes_three_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DATA[0, 0])
    with open_source(tmp_path / "a.tif", Reading(bands=(1, 1, 1))) as source:
        assert (source.channels, isinstance(source, Selecting)) == (3, False)
        np.testing.assert_array_equal(source.read(Box((0, 0), (5, 6))), DATA[0, [0, 0, 0]])


def test_what_the_user_says_reaches_the_chosen_image(tmp_path):
    np.save(tmp_path / "a.npy", DATA)
    reading = Reading(axes="czyx", bands=(2,), voxel_size=(3, 2, 1), unit="nm")
    with open_source(tmp_path / "a.npy", reading) as source:
        assert (source.space.voxel_size, source.space.unit) == ((3, 2, 1), "nanometer")
        np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), DATA[1:2])
