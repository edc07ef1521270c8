import math
import threading

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from volumes import files, small_spec

from pipeline.geometry import Box, Grid
from pipeline.store import PARTIAL, LocalPlace, put_file
from pipeline.volume import ShardWriter, create_level, digest_bytes, open_volume


def made(root, shape=(20, 13), **options):
    """Create an array and return it, its layout and voxels for it."""
    spec = small_spec(shape, **options)
    data = np.random.default_rng(3).integers(0, 200, spec.stored_shape).astype(spec.dtype)
    return create_level(root, "0", spec), spec, data


def write_all(array, spec, data):
    writer = ShardWriter(array)
    boxes = [spec.stored_box(core) for core in Grid(spec.shape, spec.shard).cores()]
    return [stored for box in boxes for stored in writer.write(box, data[box.slices])]


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((16, 16), {}),
        ((20, 13), {}),
        ((3, 5), {"dtype": "?"}),
        ((20, 13), {"channels": 3, "dtype": "u2"}),
        ((20, 13), {"channels": 6}),
        ((20, 13), {"channels": 1, "dtype": "f4"}),
        ((9, 8, 17), {}),
        ((9, 8, 17), {"channels": 2, "dtype": "i8", "shard": (4, 8, 6)}),
        ((20, 13), {"shard": (7, 5)}),
    ],
)
def test_what_is_written_shard_by_shard_reads_back(tmp_path, shape, options):
    array, spec, data = made(tmp_path / "a", shape, **options)
    stored = write_all(array, spec, data)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "a" / "0"), mode="r")[...], data)
    volume = open_volume(tmp_path / "a" / "0")
    assert sorted(s.key for s in stored) == sorted(volume.stored_keys(volume.box))
    for entry in stored:
        content = (tmp_path / "a" / "0" / entry.key).read_bytes()
        assert (len(content), digest_bytes(content)) == (entry.size, entry.digest)


def test_one_write_may_be_several_shards(tmp_path):
    array, spec, data = made(tmp_path / "a")
    stored = ShardWriter(array).write(Box((8, 0), (20, 13)), data[8:])
    assert [s.key for s in stored] == ["c/1/0", "c/1/1", "c/2/0", "c/2/1"]
    np.testing.assert_array_equal(array[8:], data[8:])
    assert (array[:8] == 0).all()
    assert spec.shard == (8, 8)


def test_a_shard_of_nothing_but_zeros_has_bytes(tmp_path):
    array, spec, data = made(tmp_path / "a")
    stored = write_all(array, spec, np.zeros_like(data))
    volume = open_volume(tmp_path / "a" / "0")
    assert volume.missing(volume.box) == []
    assert min(s.size for s in stored) > 0
    assert (volume.read(volume.box) == 0).all()


@pytest.mark.parametrize("cut", [lambda n: 0, lambda n: 1, lambda n: n // 2, lambda n: n - 1])
def test_a_torn_shard_is_healed_by_writing_it_again(tmp_path, cut):
    array, spec, data = made(tmp_path / "a")
    write_all(array, spec, data)
    before = files(tmp_path)
    torn = tmp_path / "a" / "0" / "c" / "1" / "1"
    whole = torn.read_bytes()
    torn.write_bytes(whole[: cut(len(whole))])
    assert files(tmp_path) != before
    box = Box((8, 8), (16, 13))
    ShardWriter(array).write(box, data[box.slices])
    assert files(tmp_path) == before
    np.testing.assert_array_equal(array[...], data)


def test_writing_again_gives_the_same_bytes(tmp_path):
    array, spec, data = made(tmp_path / "a", channels=3)
    first = write_all(array, spec, data)
    before = files(tmp_path)
    assert write_all(zarr.open_array(str(tmp_path / "a" / "0"), mode="r+"), spec, data) == first
    assert files(tmp_path) == before


def test_the_bytes_are_the_ones_that_zarr_itself_would_write(tmp_path):
    array, spec, data = made(tmp_path / "a")
    write_all(array, spec, data)
    other = create_level(tmp_path / "b", "0", spec)
    other[...] = data
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_failing_put_leaves_no_partial_and_no_memory_of_it(tmp_path):
    array, _, data = made(tmp_path / "a")
    writer = ShardWriter(array)
    in_the_way = tmp_path / "a" / "0" / "c" / "0" / "0"
    (in_the_way / "folder").mkdir(parents=True)
    first, second = Box((0, 0), (8, 8)), Box((8, 8), (16, 13))
    with pytest.raises(OSError, match="directory"):
        writer.write(first, data[first.slices])
    assert not [name for name in files(tmp_path) if name.endswith(PARTIAL)]
    assert [s.key for s in writer.write(second, data[second.slices])] == ["c/1/1"]
    (in_the_way / "folder").rmdir()
    in_the_way.rmdir()
    assert [s.key for s in writer.write(first, data[first.slices])] == ["c/0/0"]
    np.testing.assert_array_equal(array[first.slices], data[first.slices])


@pytest.mark.parametrize(
    ("box", "voxels"),
    [
        (Box((0, 0), (8, 4)), np.zeros((8, 4), "u1")),
        (Box((4, 0), (8, 8)), np.zeros((4, 8), "u1")),
        (Box((0, 0), (13, 8)), np.zeros((13, 8), "u1")),
        (Box((16, 8), (24, 13)), np.zeros((8, 5), "u1")),
        (Box((0, 0), (0, 8)), np.zeros((0, 8), "u1")),
        (Box((0, 0), (8, 8)), np.zeros((4, 8), "u1")),
        (Box((0, 0), (8, 8)), np.zeros((8, 8), "u2")),
    ],
)
def test_boxes_and_voxels_that_do_not_fit_are_our_own_mistake(tmp_path, box, voxels):
    array, _, _ = made(tmp_path / "a")
    before = files(tmp_path)
    with pytest.raises(AssertionError):
        ShardWriter(array).write(box, voxels)
    assert files(tmp_path) == before


def test_writing_needs_zarr_v3(tmp_path):
    array = zarr.create_array(str(tmp_path / "a"), shape=(4, 4), chunks=(2, 2), dtype="u1", zarr_format=2)
    with pytest.raises(AssertionError, match="v3"):
        ShardWriter(array)


def test_an_array_is_named_by_its_address_or_its_place(tmp_path):
    array, spec, data = made(tmp_path / "a")
    first = write_all(array, spec, data)
    for where in (tmp_path / "a" / "0", str(tmp_path / "a" / "0"), LocalPlace(tmp_path / "a" / "0")):
        assert write_all(where, spec, data) == first


def test_arrays_without_shards_are_written_chunk_by_chunk(tmp_path):
    array = zarr.create_array(str(tmp_path / "a"), shape=(5, 4), chunks=(2, 2), dtype="u1")
    data = np.arange(20, dtype="u1").reshape(5, 4)
    stored = ShardWriter(array).write(Box((2, 0), (5, 4)), data[2:])
    assert [s.key for s in stored] == ["c/1/0", "c/1/1", "c/2/0", "c/2/1"]
    np.testing.assert_array_equal(array[2:], data[2:])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_shards_written_in_any_order_make_the_whole(tmp_path_factory, data):
    shape = tuple(data.draw(st.integers(1, 20)) for _ in range(2))
    shard = tuple(data.draw(st.sampled_from([1, 3, 4, 8])) for _ in range(2))
    array, spec, voxels = made(tmp_path_factory.mktemp("order") / "a", shape, shard=shard)
    writer = ShardWriter(array)
    for chunk in data.draw(st.permutations(range(len(Grid(shape, shard))))):
        core = Grid(shape, shard).core(chunk)
        assert len(writer.write(core, voxels[core.slices])) == 1
    np.testing.assert_array_equal(array[...], voxels)
    assert math.prod(spec.stored_shape) == voxels.size


def test_put_file_replaces_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c"
    put_file(path, b"old")
    put_file(path, b"new")
    assert files(tmp_path) == {"a/b/c": b"new"}


def test_many_threads_put_the_same_file(tmp_path):
    path = tmp_path / "a" / "b"
    threads = [threading.Thread(target=put_file, args=(path, b"same" * 1000)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(tmp_path) == {"a/b": b"same" * 1000}
