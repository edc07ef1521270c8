import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given
from hypothesis import strategies as st
from volumes import create_filled, files, numbers, save, small_spec

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.store import LocalPlace
from pipeline.volume import (
    Space,
    create_level,
    default_shard,
    ensure_level,
    inner_chunk,
    is_published,
    open_volume,
    publish,
)
from pipeline.volume.create import INNER, SHARD, sync_tree

SPACE = Space("zyx", (50.0, 4.0, 4.0), (0.0, 2.0, 2.0), "nanometer")


@pytest.mark.parametrize(
    ("shape", "shard", "inner"),
    [
        ((100_000, 100_000), (2048, 2048), (512, 512)),
        ((2967, 2220), (2048, 2048), (512, 512)),
        ((600, 300), (1024, 300), (512, 300)),
        ((1, 1), (1, 1), (1, 1)),
        ((1000, 5000, 5000), (128, 512, 512), (64, 128, 128)),
        ((24, 512, 513), (24, 512, 512), (24, 128, 128)),
        ((100, 200, 100), (128, 256, 100), (64, 128, 100)),
    ],
)
def test_default_shards_and_inner_chunks(shape, shard, inner):
    assert default_shard(shape) == shard
    assert inner_chunk(shard) == inner


@pytest.mark.parametrize(
    ("shard", "inner"),
    [((388, 388), (388, 388)), ((1552, 521), (388, 521)), ((1021, 2042), (1021, 2042)), ((7, 96, 5), (7, 96, 5))],
)
def test_inner_chunks_of_odd_shards(shard, inner):
    assert inner_chunk(shard) == inner


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=3))
def test_inner_chunks_divide_shards_and_shards_waste_less_than_a_chunk(shape):
    shard = default_shard(shape)
    for n, s, c, usual, small in zip(
        shape, shard, inner_chunk(shard), SHARD[len(shape)], INNER[len(shape)], strict=True
    ):
        assert s % c == 0
        assert s <= usual
        assert s < n + small
    inner = inner_chunk(shape)
    assert all(
        n % c == 0 and (4 * c >= min(n, t) or c == n)
        for n, c, t in zip(shape, inner, INNER[len(shape)], strict=True)
    )


def test_a_level_is_sharded_checked_and_named(tmp_path):
    array = create_level(tmp_path / "a.zarr", "0", small_spec((20, 13), channels=6, dtype="u2"))
    document = json.loads((tmp_path / "a.zarr" / "0" / "zarr.json").read_text())
    assert document["dimension_names"] == ["c", "y", "x"]
    assert array.shape == (6, 20, 13)
    assert array.shards == (6, 8, 8)
    assert array.chunks == (1, 4, 4)
    (sharding,) = document["codecs"]
    codecs = {c["name"]: c.get("configuration") for c in sharding["configuration"]["codecs"]}
    assert codecs["zstd"] == {"level": 1, "checksum": True}
    assert [c["name"] for c in sharding["configuration"]["index_codecs"]] == ["bytes", "crc32c"]


def test_layouts_know_their_boxes_and_bytes():
    grey, colour = small_spec((5, 6)), small_spec((5, 6), channels=3, dtype="u2")
    box = Box((1, 2), (3, 4))
    assert grey.axes == "yx"
    assert grey.stored_box(box) == box
    assert grey.nbytes == 30
    assert colour.axes == "cyx"
    assert colour.stored_box(box) == Box((0, 1, 2), (3, 3, 4))
    assert colour.nbytes == 180


def test_a_level_is_never_created_over_another(tmp_path):
    spec = small_spec((5, 6))
    create_level(tmp_path / "a", "0", spec)
    before = files(tmp_path)
    with pytest.raises(VolumeError, match="exists already; choose another output or remove it"):
        create_level(tmp_path / "a", "0", spec)
    assert files(tmp_path) == before


def test_the_level_of_an_interrupted_job_is_taken_up(tmp_path):
    spec = small_spec((5, 6), channels=2)
    data = np.ones((2, 5, 6), "u1")
    create_filled(tmp_path / "a", spec, data)
    before = files(tmp_path)
    array = ensure_level(tmp_path / "a", "0", spec)
    np.testing.assert_array_equal(array[...], data)
    assert not array.read_only
    assert files(tmp_path) == before
    assert ensure_level(tmp_path / "b", "0", spec).shape == (2, 5, 6)


def test_a_level_that_died_as_it_was_created_is_created(tmp_path):
    (tmp_path / "a" / "0").mkdir(parents=True)
    (tmp_path / "a" / "0" / "zarr.0123.partial").write_text("{")
    assert ensure_level(tmp_path / "a", "0", small_spec((5, 6))).shape == (5, 6)
    assert sorted(files(tmp_path)) == ["a/0/zarr.json", "a/zarr.json"]


@pytest.mark.parametrize(
    "other",
    [
        small_spec((5, 7)),
        small_spec((5, 6), dtype="u2"),
        small_spec((5, 6), channels=1),
        small_spec((5, 6), shard=(8, 4)),
    ],
)
def test_a_level_of_another_layout_is_in_the_way(tmp_path, other):
    create_level(tmp_path / "a", "0", other)
    with pytest.raises(VolumeError, match=r"an array of another layout .* is in the way"):
        ensure_level(tmp_path / "a", "0", small_spec((5, 6)))


def test_anything_else_in_a_levels_place_is_in_the_way(tmp_path):
    spec = small_spec((13, 17))
    save(tmp_path / "a", numbers("yx", "u1"), zarr_format=2, name="0")
    (tmp_path / "b" / "0").mkdir(parents=True)
    (tmp_path / "b" / "0" / "notes.txt").write_text("mine")
    for root in (tmp_path / "a", tmp_path / "b"):
        with pytest.raises(VolumeError, match="is in the way and is no array of ours"):
            ensure_level(root, "0", spec)


def test_a_file_in_a_levels_place_is_in_the_way_and_kept(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0").write_text("mine")
    with pytest.raises(VolumeError, match="is in the way and is no array of ours"):
        ensure_level(tmp_path / "a", "0", small_spec((5, 6)))
    with pytest.raises(VolumeError, match="exists already"):
        create_level(tmp_path / "a", "0", small_spec((5, 6)))
    assert files(tmp_path) == {"a/0": b"mine"}


@pytest.mark.parametrize("kind", [str, LocalPlace, lambda path: f"file://{path}"])
def test_a_level_is_made_at_an_address_or_a_place(tmp_path, kind):
    spec = small_spec((5, 6))
    create_level(kind(tmp_path / "a"), "0", spec)
    before = files(tmp_path)
    assert ensure_level(tmp_path / "a", "0", spec).shape == (5, 6)
    assert files(tmp_path) == before


def test_of_many_that_make_a_level_all_have_the_same_one(tmp_path):
    layouts = [small_spec((20, 13 + i % 2)) for i in range(16)]

    def attempt(spec):
        try:
            return ensure_level(tmp_path / "a", "0", spec).shape
        except VolumeError:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(attempt, layouts))
    shape = open_volume(tmp_path / "a" / "0").shape
    assert found == [shape if spec.shape == shape else None for spec in layouts]


def test_metadata_are_forced_to_the_disk(tmp_path, monkeypatch):
    forced, real = [], os.fsync

    def noted(handle):
        forced.append(os.readlink(f"/proc/self/fd/{handle}").removeprefix(str(tmp_path)).partition(".")[0])
        real(handle)

    monkeypatch.setattr(os, "fsync", noted)
    spec = small_spec((5, 6))
    create_level(tmp_path / "a", "0", spec)
    assert forced == ["", "/a/zarr", "/a", "/a", "/a/0/zarr", "/a/0"]
    forced.clear()
    publish(tmp_path / "a", name="a", axes="yx", levels=[("0", spec.space)], classes=None)
    assert forced == ["/a/zarr", "/a"]
    forced.clear()
    sync_tree(tmp_path / "a")
    assert forced == ["/a/zarr", "/a", "/a/0/zarr", "/a/0", ""]


def test_a_volume_is_published_when_it_says_so(tmp_path):
    root = tmp_path / "a"
    assert not is_published(root)
    spec = small_spec((5, 6))
    create_level(root, "0", spec)
    assert not is_published(root)
    publish(root, name="a", axes="yx", levels=[("0", spec.space)], classes=None)
    assert is_published(root)
    (root / "zarr.json").write_text("{")
    assert not is_published(root)


@pytest.mark.parametrize("classes", [None, ("background", "membrane", "vesicle")])
@pytest.mark.parametrize("channels", [None, 2])
def test_published_images_are_valid_and_read_back(tmp_path, classes, channels):
    root = tmp_path / "a.zarr"
    spec = small_spec((6, 20, 13), channels=channels, space=SPACE)
    data = np.random.default_rng(0).integers(0, 3, spec.stored_shape).astype("u1")
    create_filled(root, spec, data)
    coarse = small_spec((6, 10, 7), channels=channels, space=SPACE.coarser((1, 2, 2)))
    create_filled(root, coarse, np.zeros(coarse.stored_shape, "u1"), name="1")
    levels = [("0", SPACE), ("1", coarse.space)]
    publish(root, name="a", axes=spec.axes, levels=levels, classes=classes)
    yaozarrs.validate_zarr_store(str(root))
    for i, (_, space) in enumerate(levels):
        assert open_volume(root, level=i).space == space
    label = zarr.open_group(str(root)).attrs["ome"].get("image-label")
    assert (label is not None) == (classes is not None)
