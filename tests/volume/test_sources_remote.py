"""Images in a bucket and behind a web server are the images of a folder: every format, voxel for voxel."""

from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from s3 import S3Server
from web import WebServer

from pipeline.errors import InputError, StoreError, VolumeError
from pipeline.geometry import Box
from pipeline.store import list_files, open_place
from pipeline.volume import open_volume
from pipeline.volume.info import info
from pipeline.volume.sources import open_source
from pipeline.volume.sources.reading import Reading

RGB = np.random.default_rng(0).integers(0, 255, (170, 210, 3)).astype("u1")
STACK = np.random.default_rng(1).integers(0, 60_000, (6, 70, 90)).astype("u2")


def make_all(folder):
    """Write a file of each format."""
    with tifffile.TiffWriter(folder / "slide.svs") as file:
        options = {"photometric": "rgb", "tile": (64, 64), "compression": "jpeg", "resolutionunit": "CENTIMETER"}
        file.write(RGB, subifds=1, resolution=(20_000, 20_000), **options)
        file.write(RGB[::2, ::2], subfiletype=1, **options)
    tifffile.imwrite(folder / "raw.tif", STACK, metadata={"axes": "ZYX"}, ome=True)
    tifffile.imwrite(
        folder / "strips.tif", STACK, imagej=False, metadata={"axes": "ZYX"}, compression="zlib", rowsperstrip=9
    )
    np.save(folder / "c.npy", STACK)
    np.save(folder / "f.npy", np.asfortranarray(STACK))
    Image.fromarray(RGB).save(folder / "rgb.png")
    Image.fromarray(RGB).save(folder / "rgb.jpg")
    with h5py.File(folder / "em.h5", "w") as file:
        file.create_dataset("g/raw", data=STACK, chunks=(2, 32, 32), compression="gzip")
    array = zarr.create_array(
        store=str(folder / "v.zarr"), shape=(170, 210), chunks=(64, 64), dtype="u1", dimension_names=("y", "x")
    )
    array[:] = RGB[:, :, 0]
    (folder / "slices").mkdir()
    for z, voxels in enumerate(STACK):
        Image.fromarray(voxels).save(folder / "slices" / f"s{z + 8}.png")


FILES = [
    ("slide.svs", Reading()),
    ("slide.svs", Reading(level=1)),
    ("raw.tif", Reading()),
    ("strips.tif", Reading()),
    ("c.npy", Reading(axes="zyx")),
    ("f.npy", Reading(axes="zyx")),
    ("rgb.png", Reading()),
    ("rgb.jpg", Reading()),
    ("em.h5", Reading(axes="zyx")),
    ("em.h5::/g/raw", Reading(axes="zyx")),
    ("v.zarr", Reading()),
]
LISTED = [
    ("slices", Reading()),
    ("slices/", Reading()),
    ("slices/s1*.png", Reading()),
    ("slices/s?.png", Reading()),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    make_all(folder)
    return folder


@pytest.fixture(scope="module")
def bucket(folder):
    with S3Server(patience=1.0) as server:
        place = open_place(server.url("images"))
        for file in [f for path in ("", "slices") for f in list_files(folder / path)]:
            place.put(str(file.path.relative_to(folder)), file.path.read_bytes())
        for entry in open_place(folder / "v.zarr").entries():
            place.put(f"v.zarr/{entry.key}", (folder / "v.zarr" / entry.key).read_bytes())
        yield server


@pytest.fixture
def web(folder):
    with WebServer(folder) as server:
        yield server


def check(remote, local, reading):
    """Both are one image: what is known of it, all of its voxels, and those of a part."""
    with open_source(remote, reading) as source, open_source(local, reading) as expected:
        assert (source.shape, source.channels, source.dtype) == (expected.shape, expected.channels, expected.dtype)
        assert (source.space, source.slab, source.levels) == (expected.space, expected.slab, expected.levels)
        assert len(source.files) == len(expected.files)
        assert all(url.startswith(remote.partition("://")[0]) for url in source.files)
        whole = Box.of_shape(source.shape)
        part = Box(tuple(n // 3 for n in source.shape), tuple(-(-2 * n // 3) for n in source.shape))
        for box in (whole, part):
            np.testing.assert_array_equal(source.read(box), expected.read(box))


@pytest.mark.parametrize(("name", "reading"), FILES + LISTED)
def test_an_image_in_a_bucket(folder, bucket, name, reading):
    bucket.heal()
    check(bucket.url(f"images/{name}"), f"{folder}/{name}", reading)


@pytest.mark.parametrize(("name", "reading"), FILES)
def test_an_image_behind_a_web_server(folder, web, name, reading):
    check(web.url(name), f"{folder}/{name}", reading)


def test_a_part_costs_a_part(folder, web):
    big = np.zeros((64, 512, 512), "u1")
    np.save(folder / "big.npy", big)
    with open_source(web.url("big.npy"), Reading(axes="zyx")) as source:
        web.sent = 0
        source.read(Box((10, 0, 0), (12, 512, 512)))
    assert 2 * 512 * 512 <= web.sent <= 3 * 512 * 512


@pytest.mark.parametrize("name", ["slide.svs", "strips.tif", "em.h5"])
def test_any_number_of_threads_read(folder, web, name):
    reading = Reading(axes="zyx") if name == "em.h5" else Reading()
    with open_source(web.url(name), reading) as source, open_source(folder / name, reading) as local:
        boxes = [Box((0,) * len(source.shape), tuple(max(1, n - i) for n in source.shape)) for i in range(12)]
        expected = [local.read(box) for box in boxes]
        with ThreadPoolExecutor(6) as pool:
            for found, wanted in zip(pool.map(source.read, boxes), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", ["slide.svs", "raw.tif", "c.npy", "em.h5"])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path, folder, name):
    path = tmp_path / name
    path.write_bytes((folder / name).read_bytes())
    if name == "em.h5":  # larger than what is kept of it when it is opened
        with h5py.File(path, "w") as file:
            file["raw"] = np.arange(1 << 21).reshape(1 << 10, 1 << 11)
    reading = Reading(axes="zyx") if name == "c.npy" else Reading()
    with WebServer(tmp_path) as web, open_source(web.url(name), reading) as source:
        path.write_bytes(path.read_bytes() + bytes(8))
        with pytest.raises(StoreError, match="changed while it was read"):
            source.read(Box.of_shape(source.shape))


def test_a_store_that_stops_answering_is_no_damage(folder, bucket):
    bucket.heal()
    with open_source(bucket.url("images/slide.svs")) as source:
        bucket.fail(1, "503", count=None)
        with pytest.raises(StoreError):
            source.read(Box.of_shape(source.shape))
        bucket.heal()
        bucket.fail(1, "403", count=None)
        with pytest.raises(PermissionError):
            source.read(Box.of_shape(source.shape))
    bucket.heal()


@pytest.mark.parametrize("name", ["none.tif", "none/", "none.h5::/raw", "slide.svs/below"])
def test_what_is_not_there_is_told(bucket, web, name):
    bucket.heal()
    for url in (bucket.url(f"images/{name}"), web.url(name)):
        with pytest.raises(VolumeError, match="there is no such file or folder"):
            open_source(url)


def test_patterns_over_https_are_refused(web):
    with pytest.raises(InputError, match="cannot be listed"):
        open_source(web.url("slices/*.png"))


def test_a_volume_behind_a_web_server_is_told_chunk_by_chunk(folder, web):
    volume = open_volume(web.url("v.zarr"))
    np.testing.assert_array_equal(volume.read(volume.box)[0], RGB[:, :, 0])
    assert info(web.url("v.zarr"))["missing_chunks"] == {"count": 0, "keys": []}
    assert info(web.url("v.zarr"))["stored_chunks"] == 12
    local = open_volume(folder / "v.zarr").identities()
    assert len(volume.identities().digests(volume.box)) == len(local.digests(volume.box)) == 12
    assert "00000000" not in volume.identities().digests(volume.box)


def test_a_group_behind_a_web_server_must_be_named_to_its_array(tmp_path):
    zarr.create_group(store=str(tmp_path / "g.zarr")).create_array("raw", shape=(8, 8), dtype="u1")
    with WebServer(tmp_path) as web:
        with pytest.raises(VolumeError, match=r"cannot be listed; name one array of the group, as .*g\.zarr/NAME"):
            open_volume(web.url("g.zarr"))
        assert open_volume(web.url("g.zarr/raw"), holes="background").shape == (8, 8)
        with pytest.raises(VolumeError, match="not a Zarr array or group"):
            open_volume(web.url("none.zarr"))
