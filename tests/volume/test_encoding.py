import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from pipeline.geometry import Box, Grid
from pipeline.volume import ArraySpec, ShardWriter, Space, create_level
from pipeline.volume.encoding import morton_order, shard_encoding
from pipeline.volume.write import digest_bytes


def document_of(path):
    return json.loads((path / "zarr.json").read_text())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_bytes_are_zarrs_own(tmp_path_factory, data):
    """Of any array that we make: every shard, those at the far edges and those of one chunk too."""
    root = tmp_path_factory.mktemp("encoding")
    dims = data.draw(st.integers(2, 3))
    inner = tuple(data.draw(st.integers(1, 4)) for _ in range(dims))
    shard = tuple(n * data.draw(st.integers(1, 4)) for n in inner)
    shape = tuple(data.draw(st.integers(1, 2 * n + 1)) for n in shard)
    channels = data.draw(st.sampled_from([None, 1, 3, 5]))
    dtype = np.dtype(data.draw(st.sampled_from(["?", "u1", "i2", "u4", "i8", "f2", "f4", "f8"])))
    spec = ArraySpec(shape, channels, dtype, shard, inner, Space.unscaled("zyx"[-dims:]))
    array = create_level(root, "0", spec)
    voxels = np.random.default_rng(0).integers(0, 3, spec.stored_shape).astype(dtype)
    array[...] = voxels
    encoding = shard_encoding(document_of(root / "0"))
    grid = Grid(spec.stored_shape, array.shards)
    for core in grid.cores():
        key = array.metadata.encode_chunk_key(tuple(a // s for a, s in zip(core.start, array.shards, strict=True)))
        by_zarr = (root / "0" / key).read_bytes()
        assert encoding.encode(voxels[core.slices]) == by_zarr
        (stored,) = ShardWriter(array).write(core, np.asfortranarray(voxels[core.slices]))
        assert (stored.key, stored.digest, stored.size) == (key, digest_bytes(by_zarr), len(by_zarr))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((1,), [(0,)]),
        ((2, 2), [(0, 0), (1, 0), (0, 1), (1, 1)]),
        ((1, 3), [(0, 0), (0, 1), (0, 2)]),
        ((4, 2), [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 0), (2, 1), (3, 1)]),
    ],
)
def test_inner_chunks_lie_in_mortons_order(counts, expected):
    assert morton_order(counts) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"shards": None},
        {"compressors": [GzipCodec()]},
        {"compressors": [BloscCodec()]},
        {"compressors": [ZstdCodec(), GzipCodec()]},
        {"compressors": None},
        {"dtype": "f4", "fill_value": np.nan},
        {"dtype": "c8"},
        {"chunk_key_encoding": {"name": "v2"}},
    ],
)
def test_arrays_of_others_are_left_to_zarr_and_written_all_the_same(tmp_path, settings):
    usual = {"shape": (8, 8), "dtype": "u1", "chunks": (2, 2), "shards": (4, 4), "compressors": [ZstdCodec()]}
    array = zarr.create_array(str(tmp_path / "a"), **(usual | settings))
    assert shard_encoding(document_of(tmp_path / "a")) is None
    voxels = np.arange(64).reshape(8, 8).astype(array.dtype)
    ShardWriter(array).write(Box((0, 0), (8, 8)), voxels)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "a"), mode="r")[...], voxels)
