"""Rasters, mosaics and polygons that lie in an object store, and a store that fails under GDAL."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import obstore
import pytest
import rasterio
from obstore.store import S3Store
from rasterio.transform import Affine
from s3 import BUCKET, S3Server

from pipeline.errors import StoreError, VolumeError
from pipeline.geometry import Box
from pipeline.volume.sources import open_source
from pipeline.volume.sources.raster import CACHE, Raster
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.vectors import Like, open_vectors

NOISE = np.random.default_rng(0).integers(1, 250, (3, 600, 700)).astype("uint8")
NORTH_UP = Affine(0.5, 0, 1000, 0, -0.5, 2000)


def save(path, voxels=NOISE, *, transform=NORTH_UP, **options):
    count, height, width = voxels.shape
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": "uint8",
        "tiled": True,
    }
    with rasterio.open(path, "w", crs="EPSG:32618", transform=transform, **profile, **options) as raster:
        raster.write(voxels)
    return path


def whole(source):
    return source.read(Box.of_shape(source.shape))


@pytest.fixture(scope="module")
def server():
    with S3Server(patience=0.3) as server:
        yield server


@pytest.fixture
def put(server):
    """Store a file, and return its address."""
    server.heal()
    store = S3Store(BUCKET, client_options={"allow_http": True})

    def put(path, key):
        obstore.put(store, key, path.read_bytes())
        return server.url(key)

    yield put
    server.heal()


def test_a_raster_in_an_object_store(tmp_path, put):
    path = save(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    url = put(path, "r/a.tif")
    boxes = [Box((y, x), (y + 90, x + 100)) for y in range(0, 500, 130) for x in range(0, 600, 170)]
    with open_source(url, Reading(bands=(3, 1))) as source, ThreadPoolExecutor(4) as pool:
        assert (source.files, source.levels) == ((url,), 2)
        for box, found in zip(boxes, pool.map(source.read, boxes), strict=True):
            np.testing.assert_array_equal(found, NOISE[(slice(2, None, -2), *box.slices)])
    with open_source(url, Reading(level=1)) as remote, open_source(path, Reading(level=1)) as local:
        np.testing.assert_array_equal(whole(remote), whole(local))


def test_a_mosaic_in_an_object_store(tmp_path, put):
    put(save(tmp_path / "a.tif", NOISE[:, :, :300]), "m/a.tif")
    url = put(
        save(tmp_path / "b.tif", NOISE[:, :, 300:], transform=NORTH_UP @ Affine.translation(300, 0)), "m/b.tif"
    )
    with open_source(url.replace("b.tif", "*.tif")) as source:
        np.testing.assert_array_equal(whole(source), NOISE)
        assert source.files_below(Box((0, 400), (9, 409))) == (url,)
    with open_source(url.replace("b.tif", "*.tif"), Reading(warp="EPSG:32619")) as source:
        assert whole(source).any()


def test_polygons_in_an_object_store(tmp_path, put):
    square = {"type": "Polygon", "coordinates": [[[2, 1], [5, 1], [5, 4], [2, 4], [2, 1]]]}
    (tmp_path / "a.json").write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": square}))
    with open_source(save(tmp_path / "a.tif")) as image:
        like = Like(image.shape, image.space)
    with open_vectors(put(tmp_path / "a.json", "v/a.json"), like) as source:
        found = whole(source)[0]
    assert found.sum() == 9
    assert (found[1:4, 2:5] == 1).all()


def test_a_store_that_fails_is_no_damage(tmp_path, put, server):
    url = put(save(tmp_path / "a.tif", np.tile(NOISE, (1, 3, 3))), "f/a.tif")  # more than a client reads ahead
    with open_source(url) as source:
        source.read(Box((0, 0), (9, 9)))
        with Raster(url) as fresh:
            server.fail(1, "503", count=None)
            with pytest.raises(StoreError):
                fresh.read(Box.of_shape(source.shape))
    with pytest.raises(StoreError):
        Raster(url)


def test_a_file_that_is_not_there(put, server):
    with pytest.raises(VolumeError, match="there is no such file"):
        open_source(server.url("none/a.tif"))
    with pytest.raises(FileNotFoundError):
        Raster(server.url("none/a.tif"))


def test_gdal_keeps_little_where_nothing_else_is_said():
    code = (
        "import pipeline.volume.sources.raster, rasterio.env; print(rasterio.env.get_gdal_config('GDAL_CACHEMAX'))"
    )
    for said, expected in ((None, CACHE), ("7", 7 << 20)):
        environment = {k: v for k, v in os.environ.items() if k != "GDAL_CACHEMAX"}
        environment |= {} if said is None else {"GDAL_CACHEMAX": said}
        found = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert int(found.stdout) == expected
