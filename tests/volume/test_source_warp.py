"""Rasters and mosaics that are brought to another grid."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume.sources import open_source, warp
from pipeline.volume.sources.mosaic import open_mosaic
from pipeline.volume.sources.reading import Reading

REAL = Path(os.environ.get("OVERTILE_DATA", "../shared/data")) / "geotiff_io"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the test rasters are not in ../shared/data/geotiff_io")

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_500_000)
NOISE = np.random.default_rng(1).integers(1, 250, (2, 60, 80)).astype("uint8")


def save(path, voxels=NOISE, *, crs="EPSG:32618", transform=NORTH_UP, **options):
    count, height, width = voxels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": voxels.dtype}
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile, **options) as raster:
        raster.write(voxels)
    return path


def whole(source):
    return source.read(Box.of_shape(source.shape))


@st.composite
def boxes(draw, shape):
    edges = [sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape]
    return Box(tuple(a for a, _ in edges), tuple(b for _, b in edges))


@pytest.mark.parametrize("nodata", [None, 0])
@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average", "mode"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_raster_in_another_system_is_what_gdal_makes_of_it(tmp_path, nodata, resampling, dtype):
    voxels = NOISE.astype(dtype)
    voxels[:, 20:30, 5:25] = 0
    path = save(tmp_path / "a.tif", voxels, nodata=nodata)
    with open_source(path, Reading(warp="EPSG:32619", resampling=resampling)) as source:
        found = whole(source)
        assert CRS.from_wkt(source.geo.crs) == CRS.from_epsg(32619)
    with (
        rasterio.open(path) as raster,
        WarpedVRT(
            raster, crs="EPSG:32619", tolerance=0, resampling=Resampling[resampling], add_alpha=nodata is None
        ) as vrt,
    ):
        assert source.geo.transform == tuple(vrt.transform)[:6]
        assert source.shape == vrt.shape
        expected = vrt.read([1, 2])
    np.testing.assert_array_equal(found, expected)
    assert found.any(axis=(1, 2)).all()


@pytest.mark.parametrize("resampling", ["nearest", "cubic", "average", "mode"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_box_has_the_same_voxels(tmp_path, monkeypatch, resampling, data):
    monkeypatch.setattr(warp, "BLOCK", 16)
    files = [tmp_path / "a.tif", tmp_path / "b.tif"]
    if not files[0].exists():
        save(files[0])
        turned = Affine(7, 3, 500_300, 3, -8, 4_499_900)
        save(files[1], NOISE + 3, transform=turned, crs="EPSG:32618")
    with open_mosaic(files, Reading(warp="first", resampling=resampling), name="m") as source:
        box = data.draw(boxes(source.shape))
        np.testing.assert_array_equal(source.read(box), whole(source)[(slice(None), *box.slices)])


@pytest.mark.parametrize("target", ["first", "EPSG:32618"])
def test_files_on_the_grid_are_not_resampled(tmp_path, target):
    save(tmp_path / "a.tif", NOISE[:, :40])
    save(tmp_path / "b.tif", NOISE[:, 40:], transform=NORTH_UP @ Affine.translation(0, 40))
    with open_source(tmp_path, Reading(warp=target, resampling="cubic")) as source:
        np.testing.assert_array_equal(whole(source), NOISE)
        assert source.slab is None


def test_a_raster_is_its_own_first(tmp_path):
    with open_source(save(tmp_path / "a.tif"), Reading(warp="first")) as source:
        np.testing.assert_array_equal(whole(source), NOISE)
        assert source.levels == 1


def test_another_resolution_comes_onto_the_grid_of_the_first(tmp_path):
    save(tmp_path / "a.tif", NOISE)
    coarse = np.arange(1, 31, dtype="uint8").reshape(1, 5, 6).repeat(2, axis=0)
    save(tmp_path / "b.tif", coarse, transform=NORTH_UP @ Affine.translation(80, 0) @ Affine.scale(4))
    with pytest.raises(VolumeError, match=r"voxel size is 40 x 40.*bring them to one grid with --warp first"):
        open_source(tmp_path)
    with open_source(tmp_path, Reading(warp="first")) as source:
        found = whole(source)
        assert source.where((0, 80)).endswith("b.tif, warped voxel 0,0")
        assert source.files_below(Box((0, 80), (1, 81))) == (str(tmp_path / "b.tif"),)
    np.testing.assert_array_equal(found[:, :, :80], NOISE)
    np.testing.assert_array_equal(found[:, :20, 80:], coarse.repeat(4, axis=1).repeat(4, axis=2))
    assert not found[:, 20:, 80:].any()


@pytest.mark.parametrize("nodata", [None, 0])
def test_the_first_file_wins_where_it_covers(tmp_path, nodata):
    """A turned scene covers a part of its box alone; around it the other one is seen."""
    turned = Affine(4, 2, 500_100, 2, -4, 4_499_800)
    save(tmp_path / "b.tif", np.ones((1, 60, 80), "uint8"), transform=turned, nodata=nodata)
    grid = save(tmp_path / "a.tif", np.full((1, 1, 1), 3, "uint8"), nodata=nodata)
    below = save(tmp_path / "c.tif", np.full((1, 60, 80), 2, "uint8"), nodata=nodata)
    with open_mosaic([grid, tmp_path / "b.tif", below], Reading(warp="first"), name="m") as source:
        found = whole(source)[0]
    assert found.shape == (60, 80)
    rows, columns = np.indices(found.shape) + 0.5
    a, b, c, d, e, f = tuple(~turned @ NORTH_UP)[:6]
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    outside = np.maximum(np.maximum(-x, x - 80), np.maximum(-y, y - 60))
    assert (found[outside < -0.01] == 1).sum() > 500
    np.testing.assert_array_equal(found[outside < -0.01], 1)
    np.testing.assert_array_equal(
        found[outside > 0.01], np.where(rows[outside > 0.01] + columns[outside > 0.01] == 1, 3, 2)
    )


def test_scenes_of_two_zones_make_one_image(tmp_path):
    files = [save(tmp_path / "a.tif"), tmp_path / "b.tif"]
    with rasterio.open(files[0]) as raster, WarpedVRT(raster, crs="EPSG:32619") as vrt:
        save(
            files[1],
            vrt.read()[:, 5:-5, 5:-5],
            crs="EPSG:32619",
            transform=vrt.transform @ Affine.translation(5, 5),
        )
    with pytest.raises(VolumeError, match=r"CRS is EPSG:32619, but that of .*a.tif is EPSG:32618"):
        open_mosaic(files, name="m")
    with open_mosaic(files, Reading(warp="first"), name="m") as source:
        assert source.geo.code == "EPSG:32618"
        start = [round(v) for v in warp.voxel_of(source.geo, (NORTH_UP.c, NORTH_UP.f))]
        part = source.read(Box(tuple(start), (start[0] + 60, start[1] + 80)))
    np.testing.assert_array_equal(part, NOISE)


def test_a_system_that_does_not_reach(tmp_path):
    poles = Affine(1, 0, -180, 0, -1, 90)
    path = save(tmp_path / "a.tif", np.ones((1, 180, 360), "uint8"), crs="EPSG:4326", transform=poles)
    first = save(tmp_path / "0.tif", np.ones((1, 9, 9), "uint8"), crs="EPSG:3413")
    with pytest.raises(VolumeError, match=r"a\.tif: EPSG:3413 does not reach all of it"):
        open_mosaic([first, path], Reading(warp="first"), name="m")


def test_an_unknown_system_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="'nowhere' is unknown"):
        open_source(save(tmp_path / "a.tif"), Reading(warp="nowhere"))


def test_bands_and_names_are_those_of_the_first(tmp_path):
    path = save(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("one", "two")
    with open_source(path, Reading(warp="EPSG:3857", bands=(2,))) as source:
        assert source.channel_names == ("two",)
        single = whole(source)
    with open_source(path, Reading(warp="EPSG:3857")) as source:
        np.testing.assert_array_equal(single, whole(source)[1:])


@needs_real
@pytest.mark.parametrize(("name", "crs"), [("RGB.byte.tif", "EPSG:3857"), ("cogeo.tif", "EPSG:4326")])
def test_real_rasters_in_another_system(name, crs):
    with rasterio.open(REAL / name) as raster:
        expected = WarpedVRT(raster, crs=crs, tolerance=0, add_alpha=raster.nodata is None)
        with expected as vrt, open_source(REAL / name, Reading(warp=crs)) as source:
            assert (source.shape, source.geo.transform) == (vrt.shape, tuple(vrt.transform)[:6])
            np.testing.assert_array_equal(whole(source), vrt.read(list(range(1, raster.count + 1))))


@needs_real
def test_real_scenes_warped_onto_one_grid():
    """The second scene's voxels are 0.4 mm larger: within a thousandth of a voxel of the snapped ones."""
    pattern = REAL / "mosaic_cog*.tif"
    with open_source(pattern, Reading(warp="first")) as warped, open_source(pattern, Reading(snap=0.1)) as snapped:
        assert warped.geo.code == snapped.geo.code
        rows, columns = (min(a, b) for a, b in zip(warped.shape, snapped.shape, strict=True))
        start = [round(v) for v in warp.voxel_of(snapped.geo, (warped.geo.transform[2], warped.geo.transform[5]))]
        box = Box((max(0, start[0]), max(0, start[1])), (rows - 1, columns - 1))
        one, two = warped.read(box.relative_to(start)), snapped.read(box)
    assert (one == two).mean() > 0.999
