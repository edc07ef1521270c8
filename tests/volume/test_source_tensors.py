"""N5 and Neuroglancer precomputed, written by tensorstore, voxel for voxel."""

import json

import numpy as np
import pytest
import tensorstore
from s3 import S3Server

from pipeline.errors import InputError, MissingChunkError, StoreError, VolumeError
from pipeline.geometry import Box
from pipeline.volume import Space
from pipeline.volume.sources import open_source, tensors
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.tensors import kvstore, read_fault

NOISE = np.random.default_rng(0).integers(0, 250, (10, 15, 20), dtype=np.uint8)  # zyx


def write_n5(folder, data=NOISE, *, blocks=8, compression="gzip", **attributes):
    """Write an array of our order as N5, whose axes go the other way round."""
    metadata = {
        "dimensions": list(data.shape[::-1]),
        "blockSize": [blocks] * data.ndim,
        "dataType": data.dtype.name,
        "compression": {"type": compression},
    }
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/"}, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(data.T).result()
    path = folder / "attributes.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | attributes))
    return folder


def write_precomputed(
    folder, *levels, kind="image", encoding="raw", offset=(0, 0, 0), resolution=(4, 4, 40), **scale
):
    """Write levels, ``(c, z, y, x)``, as scales; each is half of the one before along x and y."""
    for i, data in enumerate(levels):
        spec = {
            "driver": "neuroglancer_precomputed",
            "kvstore": {"driver": "file", "path": f"{folder}/"},
            "multiscale_metadata": {"type": kind, "data_type": data.dtype.name, "num_channels": data.shape[0]},
            "scale_metadata": {
                "size": list(data.shape[:0:-1]),
                "resolution": [resolution[0] << i, resolution[1] << i, resolution[2]],
                "voxel_offset": [offset[0] >> i, offset[1] >> i, offset[2]],
                "chunk_size": [8, 8, 8],
                "encoding": encoding,
                **scale,
            },
        }
        tensorstore.open(spec, create=True, open=True).result().write(data.T).result()
    return folder


def whole(source):
    return source.read(Box.of_shape(source.shape))


@pytest.mark.parametrize("compression", ["raw", "gzip", "bzip2", "xz", "blosc"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float32"])
def test_every_voxel_of_n5(tmp_path, compression, dtype):
    data = NOISE.astype(dtype)
    blosc = {"cname": "lz4", "clevel": 5, "shuffle": 1} if compression == "blosc" else {}
    metadata = {"dimensions": [20, 15, 10], "blockSize": [7, 8, 9], "dataType": dtype}
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/a.n5/"}}
    spec["metadata"] = {**metadata, "compression": {"type": compression, **blosc}}
    tensorstore.open(spec, create=True).result().write(data.T).result()
    with open_source(tmp_path / "a.n5") as source:
        np.testing.assert_array_equal(whole(source)[0], data)
        box = Box((1, 3, 2), (9, 10, 19))
        np.testing.assert_array_equal(source.read(box)[0], data[box.slices])
        assert (source.shape, source.channels, source.dtype, source.slab) == ((10, 15, 20), None, dtype, (9, 8, 7))
        assert (source.space, source.levels) == (Space.unscaled("zyx"), 1)
        assert source.files == (str(tmp_path / "a.n5" / "attributes.json"),)


def test_levels_of_an_n5_group(tmp_path):
    for i, data in enumerate((NOISE, NOISE[:, ::2, ::2], NOISE[:, ::4, ::4])):
        write_n5(tmp_path / "a.n5" / f"s{i}", np.ascontiguousarray(data))
    for level, step in enumerate((1, 2, 4)):
        with open_source(tmp_path / "a.n5", Reading(level=level)) as source:
            np.testing.assert_array_equal(whole(source)[0], NOISE[:, ::step, ::step])
            assert source.levels == 3
            assert source.space.voxel_size == (1, 15 / -(-15 // step), 20 / (20 // step))
    with open_source(tmp_path / "a.n5" / "s1") as source:
        assert (source.shape, source.levels) == ((10, 8, 10), 1)
    with pytest.raises(VolumeError, match="no level 3; it has levels 0 to 2"):
        open_source(tmp_path / "a.n5", Reading(level=3))


NM = {"resolution": [4, 5, 40], "units": ["nm", "nm", "nm"]}
PIXEL = {"pixelResolution": {"dimensions": [4, 5, 40], "unit": "nm"}}


@pytest.mark.parametrize(
    ("group", "first", "second", "size", "unit"),
    [
        ({}, NM, {}, (40, 5 * 15 / 8, 8), "nanometer"),
        ({}, PIXEL, {"downsamplingFactors": [2, 2, 1]}, (40, 10, 8), "nanometer"),
        (PIXEL, {}, {"downsamplingFactors": [2, 2, 1]}, (40, 10, 8), "nanometer"),
        ({**NM, "scales": [[1, 1, 1], [2, 2, 1]]}, {}, {}, (40, 10, 8), "nanometer"),
        ({}, PIXEL, {"pixelResolution": {"dimensions": [8, 11, 40], "unit": "nm"}}, (40, 11, 8), "nanometer"),
        ({}, {"pixelResolution": [4, 5, 40]}, {"downsamplingFactors": [2, 2, 1]}, (40, 10, 8), None),
        (
            {},
            {"resolution": [4, 5, 40], "units": ["nm", "nm", "um"]},
            {"downsamplingFactors": [2, 2, 1]},
            (40, 10, 8),
            None,
        ),
        ({}, {"pixelResolution": [4, -5, 40]}, {"pixelResolution": ["a"]}, (1, 15 / 8, 2), None),
        ({}, {"pixelResolution": ["a", "b", "c"]}, {"pixelResolution": 7}, (1, 15 / 8, 2), None),
        ({}, {"pixelResolution": {"dimensions": [4, 5, 40], "unit": 3}}, {}, (40, 5 * 15 / 8, 8), None),
    ],
)
def test_voxel_size_of_n5(tmp_path, group, first, second, size, unit):
    write_n5(tmp_path / "a.n5" / "s0", **first)
    write_n5(tmp_path / "a.n5" / "s1", np.ascontiguousarray(NOISE[:, ::2, ::2]), **second)
    (tmp_path / "a.n5" / "attributes.json").write_text(json.dumps({"n5": "2.5.0", **group}))
    with open_source(tmp_path / "a.n5", Reading(level=1)) as source, open_source(tmp_path / "a.n5") as finest:
        assert source.space.voxel_size == pytest.approx(size)
        assert (source.space.unit, finest.space.unit) == (unit, unit)
        base = finest.space.voxel_size
        assert source.space.translation == pytest.approx([(s - b) / 2 for s, b in zip(size, base, strict=True)])
        if unit:
            assert base == (40, 5, 4)


def test_axes_of_n5(tmp_path):
    four = np.stack([NOISE, NOISE // 2])
    write_n5(tmp_path / "a.n5", four)
    with pytest.raises(VolumeError, match="it has 4 axes and does not name them; say them with --axes"):
        open_source(tmp_path / "a.n5")
    with open_source(tmp_path / "a.n5", Reading(axes="czyx")) as source:
        np.testing.assert_array_equal(whole(source), four)
    write_n5(tmp_path / "b.n5", four, axes=["X", "Y", "Z", "Channel"], resolution=[1, 2, 3, 1], units=["nm"] * 4)
    with open_source(tmp_path / "b.n5") as source:
        np.testing.assert_array_equal(whole(source), four)
        assert source.space == Space("zyx", (3, 2, 1), (0, 0, 0), "nanometer")
    with open_source(write_n5(tmp_path / "c.n5", NOISE[0])) as source:
        np.testing.assert_array_equal(whole(source), NOISE[:1])
        assert source.space.axes == "yx"


def test_levels_of_other_axes(tmp_path):
    write_n5(tmp_path / "a.n5" / "s0")
    write_n5(tmp_path / "a.n5" / "s1", NOISE[0])
    with pytest.raises(VolumeError, match="it has other axes than level 0"):
        open_source(tmp_path / "a.n5", Reading(level=1))


def test_a_group_that_is_no_volume(tmp_path):
    write_n5(tmp_path / "a.n5" / "volumes" / "raw")
    (tmp_path / "a.n5" / "attributes.json").write_text('{"n5": "2.5.0"}')
    with pytest.raises(VolumeError, match=r"neither a dataset .* name the dataset inside"):
        open_source(tmp_path / "a.n5")
    with open_source(tmp_path / "a.n5" / "volumes" / "raw") as source:
        np.testing.assert_array_equal(whole(source)[0], NOISE)


@pytest.mark.parametrize(
    ("kind", "encoding", "dtype", "scale"),
    [
        ("image", "raw", "uint16", {}),
        ("image", "png", "uint8", {}),
        ("image", "raw", "float32", {}),
        ("segmentation", "compressed_segmentation", "uint64", {"compressed_segmentation_block_size": [8, 8, 8]}),
        ("segmentation", "compressed_segmentation", "uint32", {"compressed_segmentation_block_size": [4, 4, 4]}),
        (
            "image",
            "raw",
            "uint8",
            {
                "sharding": {
                    "@type": "neuroglancer_uint64_sharded_v1",
                    "preshift_bits": 1,
                    "minishard_bits": 1,
                    "shard_bits": 1,
                    "hash": "identity",
                }
            },
        ),
    ],
)
def test_every_voxel_of_precomputed(tmp_path, kind, encoding, dtype, scale):
    data = NOISE.astype(dtype)
    path = write_precomputed(tmp_path / "a", data[None], kind=kind, encoding=encoding, offset=(5, 6, 7), **scale)
    with open_source(path) as source:
        np.testing.assert_array_equal(whole(source)[0], data)
        box = Box((1, 3, 2), (9, 10, 19))
        np.testing.assert_array_equal(source.read(box)[0], data[box.slices])
        assert (source.shape, source.channels, source.dtype, source.slab) == ((10, 15, 20), None, dtype, (8, 8, 8))
        assert source.space == Space("zyx", (40, 4, 4), (280, 24, 20), "nanometer")
        assert source.files == (str(path / "info"),)


def test_jpeg_is_what_tensorstore_decodes(tmp_path):
    smooth = np.add.outer(np.arange(10), np.add.outer(np.arange(15), np.arange(20))).astype(np.uint8)
    path = write_precomputed(tmp_path / "a", smooth[None], encoding="jpeg")
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{path}/"}}
    with open_source(path) as source:
        expected = tensorstore.open(spec).result().read().result().T
        np.testing.assert_array_equal(whole(source), expected)
        assert np.abs(whole(source)[0].astype(int) - smooth).max() <= 3


def test_scales_and_channels_of_precomputed(tmp_path):
    data = np.stack([NOISE, NOISE // 3])
    path = write_precomputed(tmp_path / "a", data, data[..., :7, :10], offset=(4, 2, 1))
    with open_source(path, Reading(level=1, bands=(2,))) as source:
        np.testing.assert_array_equal(whole(source), data[1:, :, :7, :10])
        assert source.space == Space("zyx", (40, 8, 8), (40, 10, 18), "nanometer")
        assert source.levels == 2
    with open_source(path) as source:
        assert source.channels == 2
        assert source.space.translation == (40, 8, 16)
    with pytest.raises(VolumeError, match="no level 2; it has levels 0 to 1"):
        open_source(path, Reading(level=2))
    with pytest.raises(VolumeError, match="its axes are czyx"):
        open_source(path, Reading(axes="zyx"))


@pytest.mark.parametrize(
    ("write", "block"),
    [(lambda p: write_n5(p), "0/1/0"), (lambda p: write_precomputed(p, NOISE[None]), "4_4_40/0-8_8-15_0-8")],
)
def test_a_block_that_is_missing(tmp_path, write, block):
    path = write(tmp_path / "a")
    (path / block).unlink()
    with open_source(path) as source:
        with pytest.raises(
            MissingChunkError, match=r"voxels 0:10,0:15,0:20: chunk .* is missing; .* --holes background"
        ):
            whole(source)
        np.testing.assert_array_equal(source.read(Box((0, 0, 0), (10, 8, 20)))[0], NOISE[:, :8])
    expected = NOISE.copy()
    expected[:8, 8:, :8] = 0
    with open_source(path, Reading(holes="background")) as source:
        np.testing.assert_array_equal(whole(source)[0], expected)


@pytest.mark.parametrize(
    ("write", "block"),
    [(lambda p: write_n5(p), "0/1/0"), (lambda p: write_precomputed(p, NOISE[None]), "4_4_40/0-8_8-15_0-8")],
)
def test_a_block_that_does_not_decode(tmp_path, write, block):
    path = write(tmp_path / "a")
    (path / block).write_bytes((path / block).read_bytes()[:9])
    with open_source(path) as source, pytest.raises(VolumeError, match="voxels 0:10,0:15,0:20 cannot be read"):
        whole(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("info", b"{oops", "info: it cannot be read"),
        ("info", b"[]", "it holds list, not a JSON object"),
        ("info", b'{"@type": "neuroglancer_skeletons"}', "lists no scales, so it is no volume of Neuroglancer's"),
        ("info", b'{"scales": [{}]}', "cannot be read"),
        ("attributes.json", b"\xff", "attributes.json: it cannot be read"),
        ("attributes.json", b'{"dimensions": [3, 3], "blockSize": [1, 1], "dataType": "thing"}', "cannot be read"),
        (
            "attributes.json",
            b'{"dimensions": "ab", "blockSize": [1, 1], "dataType": "uint8"}',
            "neither a dataset",
        ),
        (
            "attributes.json",
            b'{"dimensions": [0, 3], "blockSize": [1, 1], "dataType": "uint8", "compression": {"type": "raw"}}',
            "holds no voxel",
        ),
    ],
)
def test_metadata_that_is_damaged(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VolumeError, match=message):
        open_source(tmp_path)


def test_without_tensorstore(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "tensorstore", None)
    (tmp_path / "info").touch()
    with pytest.raises(InputError, match=r"pip install 'overtile\[tensorstore\]'"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://b/p/q", {"driver": "s3", "bucket": "b", "path": "p/q/"}),
        ("gs://b/p", {"driver": "gcs", "bucket": "b", "path": "p/"}),
        ("https://host/p/q", {"driver": "http", "base_url": "https://host", "path": "/p/q/"}),
        ("/a/b", {"driver": "file", "path": "/a/b/"}),
    ],
)
def test_addresses_as_tensorstore_names_them(monkeypatch, url, expected):
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_SKIP_SIGNATURE",
    ):
        monkeypatch.delenv(name, raising=False)
    assert kvstore(url) == expected
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9")
    said = {"endpoint": "http://localhost:9", "aws_region": "us-east-1", "aws_credentials": {"type": "anonymous"}}
    assert kvstore(url) == expected | (said if url.startswith("s3") else {})


def test_a_store_that_tensorstore_does_not_know():
    with pytest.raises(VolumeError, match=r"not from az://; copy it to one of them"):
        kvstore("az://container/a")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("NOT_FOUND: chunk {0} stored at a is missing"), MissingChunkError),
        (ValueError("PERMISSION_DENIED: no"), PermissionError),
        (ValueError("UNAVAILABLE: later"), StoreError),
        (OSError(5, "disk"), OSError),
        (ValueError("DATA_LOSS: checksum"), VolumeError),
        (ValueError("NOT_FOUND: metadata"), VolumeError),
    ],
)
def test_what_errors_mean(error, expected):
    assert type(read_fault("a", error, "it")) is expected


def test_volumes_in_an_object_store(tmp_path):
    with S3Server() as server:
        endpoint = {"endpoint": server.endpoint, "aws_region": "us-east-1"}
        n5 = write_n5(tmp_path / "a.n5")
        precomputed = write_precomputed(tmp_path / "p", NOISE[None])
        for folder in (n5, precomputed):
            target = {"driver": "s3", "bucket": "overtile-test", "path": f"{folder.name}/", **endpoint}
            store = tensorstore.KvStore.open(target).result()
            for file in folder.rglob("*"):
                if file.is_file():
                    store.write(file.relative_to(folder).as_posix(), file.read_bytes()).result()
            with open_source(server.url(folder.name)) as source:
                np.testing.assert_array_equal(whole(source)[0], NOISE)
                assert source.files[0].startswith(server.url(folder.name))
