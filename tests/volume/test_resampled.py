import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import save, save_ome

from pipeline.errors import MissingChunkError, NonFiniteError, VolumeError
from pipeline.geometry import Box
from pipeline.volume.file_image import open_image
from pipeline.volume.geo import Georeference, georeference_attributes
from pipeline.volume.resampled import ResampledImage
from pipeline.volume.sources.reading import Reading


def image(folder, data, factors, axes="yx", **options):
    save(folder, data, axes, **options)
    return ResampledImage(open_image(folder), factors)


@pytest.mark.parametrize(
    ("row", "factor", "expected"),
    [
        ([0, 10, 20, 30], 2.0, [5, 25]),
        ([0, 10, 20, 30, 40], 2.0, [5, 25]),  # what is left over at the far edge is no whole voxel
        ([0, 10, 20, 30, 40], 2.5, [8, 32]),  # (0 + 10 + 20 / 2) / 2.5, (20 / 2 + 30 + 40) / 2.5
        ([0, 1, 0, 1], 2.0, [1, 1]),  # a half is rounded up
        ([0, 10, 20, 30], 4.0, [15]),
        ([0, 100], 0.5, [0, 25, 75, 100]),  # centres at -0.25, 0.25, 0.75 and 1.25
        ([7, 7, 7], 0.7, [7, 7, 7, 7]),
        ([7, 7, 7], 1.3, [7, 7]),
        ([1, 2, 3], 1.0, [1, 2, 3]),
    ],
)
def test_one_axis(tmp_path, row, factor, expected):
    along_x = image(tmp_path / "x", np.array([row, row], "u1"), (1.0, factor))
    assert along_x.read(along_x.box).tolist() == [[expected, expected]]
    along_y = image(tmp_path / "y", np.array([row], "u1").T, (factor, 1.0))
    assert along_y.read(along_y.box)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [("f4", [0.5, 1.0], 0.75), ("i2", [-3, -2], -2), ("?", [1, 0], 1), ("u2", [65535, 65534], 65535)],
)
def test_data_types_stay(tmp_path, dtype, values, expected):
    made = image(tmp_path / "a", np.array([values], dtype), (1.0, 2.0))
    assert made.dtype == dtype
    found = made.read(made.box)
    assert found.dtype == dtype
    assert found.item() == expected


shapes = st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40))
factor = st.one_of(st.floats(0.25, 6), st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0]))


@settings(max_examples=60, deadline=None)
@given(st.data(), shapes, st.tuples(factor, factor), st.sampled_from(["u1", "f4"]))
def test_any_box_equals_the_same_voxels_of_the_whole(tmp_path_factory, data, shape, factors, dtype):
    if any(n < f for n, f in zip(shape[1:], factors, strict=True)):
        factors = (1.0, 1.0)
    values = np.random.default_rng(0).normal(100, 40, shape).astype(dtype)
    made = image(tmp_path_factory.mktemp("a") / "a", values, factors, "zyx")
    whole = made.read(made.box)
    assert whole.shape == (1, *made.shape)
    pairs = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in made.shape]
    box = Box(tuple(a for a, _ in pairs), tuple(max(a + 1, b) for a, b in pairs)).intersect(made.box)
    if not box.is_empty:
        assert np.array_equal(made.read(box), whole[(slice(None), *box.slices)])
    around = Box(tuple(-3 for _ in made.shape), tuple(n + 4 for n in made.shape))
    mirrored = np.pad(whole[0], [(3, 4)] * 3, mode="reflect") if min(made.shape) > 1 else None
    if mirrored is not None:
        assert np.array_equal(made.look(around).shown()[0], mirrored)


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(8, 30), st.integers(8, 30)), st.tuples(factor, factor), st.integers(0, 255))
def test_a_flat_image_stays_flat(tmp_path_factory, shape, factors, value):
    made = image(tmp_path_factory.mktemp("a") / "a", np.full(shape, value, "u1"), factors)
    assert (made.read(made.box) == value).all()


def test_it_says_where_it_lies(tmp_path):
    levels = [np.zeros((40, 60), "u1"), np.zeros((20, 30), "u1")]
    save_ome(tmp_path / "a", levels, "yx", version="0.5")
    below = open_image(tmp_path / "a", Reading(level=1))
    place = georeference_attributes(Georeference("EPSG:32618", (1.0, 0, 100, 0, -1.0, 200), None), shape=(40, 60))
    made = ResampledImage(dataclasses.replace(below, attributes=place), (2.0, 2.5))
    assert made.shape == (10, 12)
    assert made.space.voxel_size == (4.0, 5.0)
    assert made.space.translation == (10 + 1.0, 10 + 1.5)
    assert made.scale == (4.0, 5.0)
    assert made.geo.transform == (5.0, 0, 100, 0, -4.0, 200)
    assert (made.level, made.level_count, made.axes, made.channels) == (1, 2, "yx", 1)
    assert made.url == str(tmp_path / "a")


def test_what_lies_below_a_box_is_seen_and_identified(tmp_path):
    made = image(tmp_path / "a", np.zeros((40, 40), "u1"), (2.0, 2.0), chunks=10)
    identities = made.identities()
    box = Box((0, 6), (5, 10))
    assert identities.keys(box) == ["c/0/1"]
    assert tuple(identities.digests(box)) == made.look(box).seen
    assert len(made.look(made.box).seen) == 16
    (tmp_path / "a" / "c" / "0" / "1").unlink()
    with pytest.raises(MissingChunkError, match="c/0/1"):
        made.look(box)
    assert made.look(box, holes="background").shown().sum() == 0
    made.check_holes()
    made.close()


def test_what_is_read_is_counted(tmp_path):
    made = image(tmp_path / "a", np.zeros((40, 40), "u1"), (2.0, 2.5))
    assert made.decoded_along(0, 1, 3) == 4
    assert made.decoded_along(1, 1, 3) == 6
    assert made.pieces == (2, 2)
    assert made.read_bytes((10, 10)) > 2 * 22 * 27


def test_nan_is_refused_or_kept(tmp_path):
    values = np.ones((8, 8), "f4")
    values[0, 0] = np.nan
    made = image(tmp_path / "a", values, (2.0, 2.0))
    with pytest.raises(NonFiniteError, match="voxel 0,0"):
        made.look(made.box).shown()
    assert np.isnan(made.read(made.box)).sum() == 1
    assert np.isfinite(made.look(Box((1, 0), (4, 4))).shown()).all()


def test_an_image_without_one_whole_voxel_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="less than one of"):
        image(tmp_path / "a", np.zeros((3, 9), "u1"), (4.0, 4.0))
