import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from ingests import ingest
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine

from pipeline.cli.volumes import info_command
from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Box
from pipeline.volume import Space, open_volume
from pipeline.volume.geo import read_georeference
from pipeline.volume.info import info
from pipeline.volume.node import as_place
from pipeline.volume.sources import geotiff, open_source, raster
from pipeline.volume.sources.mosaic import MosaicSource, open_mosaic
from pipeline.volume.sources.reading import Reading
from pipeline.volume.state import read_attributes

REAL = Path(os.environ.get("OVERTILE_DATA", "../shared/data")) / "geotiff_io"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the test rasters are not in ../shared/data/geotiff_io")

NOISE = np.random.default_rng(0).integers(1, 250, (3, 70, 90)).astype("u1")
NORTH_UP = Affine(0.5, 0, 1000.25, 0, -0.25, 2000.5)
ROTATED = Affine(0.4, 0.3, 1000, 0.3, -0.4, 2000)


def save(path, voxels=NOISE, *, crs="EPSG:32618", transform=NORTH_UP, **options):
    count, height, width = voxels.shape
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": voxels.dtype,
        **options,
    }
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as raster:
        raster.write(voxels)
    return path


def whole(source):
    return source.read(Box.of_shape(source.shape))


def check(path, level=0):
    """Compare a file, whole and in part, with what rasterio reads, and return the source."""
    overview = {"overview_level": level - 1} if level else {}
    with open_source(path, Reading(level=level)) as source, rasterio.open(path, **overview) as raster:
        expected = raster.read()
        np.testing.assert_array_equal(whole(source), expected)
        part = Box(tuple(n // 3 for n in source.shape), tuple(-(-2 * n // 3) for n in source.shape))
        np.testing.assert_array_equal(source.read(part), expected[(slice(None), *part.slices)])
        assert source.dtype == expected.dtype
        assert CRS.from_wkt(source.geo.crs) == raster.crs
        assert source.geo.transform == tuple(raster.transform)[:6]
        assert str(source.geo.nodata) == str(raster.nodata if raster.nodata is None else float(raster.nodata))
        return source


@pytest.mark.parametrize(
    ("options", "slab"),
    [
        ({"blockysize": 16}, (16, 90)),
        ({"tiled": True, "blockxsize": 32, "blockysize": 48}, (48, 32)),
        ({"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate", "predictor": 2}, (32, 32)),
        ({"compress": "lzw", "interleave": "pixel", "blockysize": 8}, (8, 90)),
        ({"bigtiff": "yes", "nodata": 0, "compress": "zstd", "blockysize": 35}, (35, 90)),
    ],
)
@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
def test_every_voxel_and_the_place(tmp_path, options, slab, transform):
    source = check(save(tmp_path / "a.tif", transform=transform, **options))
    assert (source.shape, source.channels, source.slab) == ((70, 90), 3, slab)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_dtypes(tmp_path, dtype):
    source = check(save(tmp_path / "a.tif", NOISE[:1].astype(dtype), nodata=7))
    assert (source.channels, source.space.axes) == (None, "yx")


@pytest.mark.parametrize(
    ("crs", "unit"),
    [
        ("EPSG:32618", "meter"),
        ("EPSG:4326", None),
        ("EPSG:2263", None),  # US survey feet
        ("+proj=utm +zone=18 +ellps=GRS80 +units=ft", "foot"),
        ('LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]', None),
    ],
)
def test_voxel_size_and_unit(tmp_path, crs, unit):
    source = check(save(tmp_path / "a.tif", crs=crs))
    assert source.space == Space("yx", (0.25, 0.5), (0.0, 0.0), unit)


def test_nodata_may_be_nan(tmp_path):
    voxels = NOISE.astype("f4")
    voxels[:, 3:9] = np.nan
    assert math.isnan(check(save(tmp_path / "a.tif", voxels, nodata=np.nan)).geo.nodata)


def test_overviews_are_levels(tmp_path):
    path = save(tmp_path / "a.tif", np.tile(NOISE, (1, 3, 3)), tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(path, "r+") as raster:
        raster.build_overviews([2, 4], Resampling.average)
    assert [check(path, level).shape for level in range(3)] == [(210, 270), (105, 135), (53, 68)]
    assert check(path, 1).space == Space("yx", (0.5, 1.0), (0.0, 0.0), "meter")
    with pytest.raises(VolumeError, match="no level 3; it has levels 0 to 2"):
        open_source(path, Reading(level=3))


def test_a_palette_is_read_as_class_ids(tmp_path):
    path = save(tmp_path / "a.tif", NOISE[:1])
    with rasterio.open(path, "r+") as raster:
        raster.write_colormap(1, {i: (i, 0, 0, 255) for i in range(256)})
    check(path)


def test_threads_read_at_once(tmp_path):
    path = save(tmp_path / "a.tif", compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    boxes = [Box((y, x), (y + 10, x + 10)) for y in range(0, 60, 7) for x in range(0, 80, 7)]
    with open_source(path) as source, ThreadPoolExecutor(4) as pool:
        for box, found in zip(boxes, pool.map(source.read, boxes), strict=True):
            np.testing.assert_array_equal(found, NOISE[(slice(None), *box.slices)])
        assert 1 <= len(source.handles) <= 4
    assert len(source.handles) == 0


def test_source_keeps_the_place_at_every_level(tmp_path):
    path = save(tmp_path / "a.tif", np.tile(NOISE, (1, 10, 10)), nodata=255, crs="EPSG:2949")
    with open_source(path) as source:
        ingest(source, tmp_path / "a.zarr", shard=(256, 256))
        geo = source.geo
    np.testing.assert_array_equal(open_volume(tmp_path / "a.zarr").read(Box((0, 0), (70, 90))), NOISE)
    assert read_georeference(read_attributes(as_place(tmp_path / "a.zarr"))) == geo
    assert info(tmp_path / "a.zarr")["georeference"] == {
        "name": "NAD83(CSRS) / MTM zone 7",
        "code": "EPSG:2949",
        "crs": geo.crs,
        "transform": list(geo.transform),
        "nodata": 255.0,
    }
    assert info(tmp_path / "a.zarr", level=1)["georeference"]["transform"] == [0.5, 0, 1000.25, 0, -0.5, 2000.5]
    with open_source(tmp_path / "a.zarr") as again, open_source(tmp_path / "a.zarr", Reading(level=1)) as coarse:
        assert again.geo == geo
        assert coarse.geo == geo.scaled((2, 1))  # the pyramid joins the shorter side first


def test_a_class_map_keeps_the_place(tmp_path):
    with open_source(save(tmp_path / "a.tif", NOISE[:1] % 2)) as source:
        ingest(source, tmp_path / "a.zarr", classes=("no", "yes"))
    assert info(tmp_path / "a.zarr")["georeference"]["code"] == "EPSG:32618"


def test_info_says_where_it_is(tmp_path, capsys):
    with open_source(save(tmp_path / "a.tif", NOISE.astype("f4"), nodata=np.nan)) as source:
        ingest(source, tmp_path / "a.zarr")
    info_command([str(tmp_path / "a.zarr")], standalone_mode=False)
    text = capsys.readouterr().out
    assert "WGS 84 / UTM zone 18N (EPSG:32618), nodata nan" in text
    assert "0.5, 0, 1000.25, 0, -0.25, 2000.5" in text


def test_without_a_crs_it_must_be_said(tmp_path):
    path = save(tmp_path / "a.tif", crs=None, interleave="pixel", photometric="rgb")
    with pytest.raises(VolumeError, match="does not tell its coordinate reference system; say it with --crs"):
        open_source(path)
    with open_source(path, Reading(crs="EPSG:32618")) as source:
        np.testing.assert_array_equal(whole(source), NOISE)
        assert (source.geo.code, source.space.unit) == ("EPSG:32618", "meter")
        assert source.geo.transform == tuple(NORTH_UP)[:6]
    with open_source(path, Reading(crs="none")) as source:
        np.testing.assert_array_equal(whole(source), NOISE)
        assert (source.geo, type(source).__name__) == (None, "ArraySource")
    with pytest.raises(VolumeError, match="'EPSG:0' is unknown"):
        open_source(path, Reading(crs="EPSG:0"))


def test_a_crs_that_the_file_tells_is_not_replaced(tmp_path):
    path = save(tmp_path / "a.tif")
    with open_source(path, Reading(crs="epsg:32618")) as source:
        assert source.geo.code == "EPSG:32618"
    with pytest.raises(VolumeError, match="is EPSG:32618, not EPSG:32619; leave --crs out"):
        open_source(path, Reading(crs="EPSG:32619"))
    with open_source(path, Reading(crs="none")) as source:
        assert source.geo is None


def test_a_tiff_without_a_place_is_a_plain_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "b.tif", NOISE[0])
    assert not geotiff.is_geotiff(tmp_path / "b.tif")
    (tmp_path / "c.tif").write_bytes(b"II*\x00")
    assert not geotiff.is_geotiff(tmp_path / "c.tif")


@pytest.mark.parametrize("crs", ["EPSG:32618", ""])
def test_control_points_are_no_grid(tmp_path, crs):
    points = [GroundControlPoint(r, c, 10 + c, 90 - r) for r, c in ((0, 0), (0, 90), (70, 0))]
    profile = {"driver": "GTiff", "count": 1, "height": 70, "width": 90, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "a.tif", "w", gcps=points, crs=CRS.from_string(crs) if crs else CRS(), **profile
    ) as f:
        f.write(NOISE[:1])
    with pytest.raises(VolumeError, match="3 ground control points place it"):
        open_source(tmp_path / "a.tif", Reading(crs=crs or None))
    with open_source(tmp_path / "a.tif", Reading(crs="none")) as source:
        np.testing.assert_array_equal(whole(source), NOISE[:1])


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (
            Reading(crs="EPSG:32618"),
            "EPSG:32618 cannot be its coordinate reference system: it has no place on Earth",
        ),
        (Reading(warp="first"), "only rasters .GeoTIFF. are warped"),
    ],
)
def test_what_only_rasters_are_told(tmp_path, reading, message):
    np.save(tmp_path / "a.npy", NOISE[0])
    with pytest.raises(VolumeError, match=message):
        open_source(tmp_path / "a.npy", reading)


def test_a_zarr_may_be_told_the_system_that_it_has(tmp_path):
    with open_source(save(tmp_path / "a.tif", NOISE[:1])) as source:
        ingest(source, tmp_path / "a.zarr")
    with open_source(tmp_path / "a.zarr", Reading(crs="EPSG:32618")) as source:
        assert source.geo.code == "EPSG:32618"
    with pytest.raises(VolumeError, match=r"EPSG:32619 cannot be .* it has EPSG:32618"):
        open_source(tmp_path / "a.zarr", Reading(crs="EPSG:32619"))
    with pytest.raises(VolumeError, match=r"none cannot be .* it has EPSG:32618"):
        open_source(tmp_path / "a.zarr", Reading(crs="none"))


def test_only_the_chosen_bands_are_read(tmp_path, monkeypatch):
    path = save(tmp_path / "a.tif", interleave="band")
    seen = []
    monkeypatch.setattr(
        raster, "read_window", lambda d, box, bands=None: seen.append(bands) or d.read(list(bands))
    )
    with open_source(path, Reading(bands=(3, 1, 3))) as source:
        assert (source.channels, source.space.axes) == (3, "yx")
        np.testing.assert_array_equal(whole(source), NOISE[[2, 0, 2]])
    with open_source(path, Reading(bands=(2,))) as source:
        assert source.channels is None
        np.testing.assert_array_equal(whole(source), NOISE[1:2])
    assert seen == [(3, 1, 3), (2,)]


def test_bands_of_a_mosaic(tmp_path):
    folder = pieces(tmp_path / "m", ((0, 0), (40, 90)), ((40, 0), (70, 90)))
    with open_source(folder, Reading(bands=(3, 2))) as source:
        np.testing.assert_array_equal(whole(source), NOISE[[2, 1]])
    with pytest.raises(VolumeError, match=r"no band 4; it has 3 band\(s\)"):
        open_source(folder, Reading(bands=(1, 4)))


def test_descriptions_name_the_bands(tmp_path):
    path = save(tmp_path / "a.tif")
    with open_source(path) as source:
        assert source.channel_names is None
    with rasterio.open(path, "r+") as file:
        file.set_band_description(1, "red")
        file.set_band_description(3, "near infrared")
    with open_source(path) as source:
        assert source.channel_names == ("red", "band 2", "near infrared")
    with open_source(path, Reading(bands=(3, 1))) as source:
        assert source.channel_names == ("near infrared", "red")
    with open_mosaic([path], Reading(bands=(3, 1)), name="m") as source:
        assert source.select((2,)).channel_names == ("near infrared",)


def test_an_alpha_band_is_a_band(tmp_path):
    path = save(tmp_path / "a.tif", np.concatenate([NOISE, NOISE[:1]]), photometric="rgb", alpha="yes")
    with open_source(path) as source:
        np.testing.assert_array_equal(whole(source)[3], NOISE[0])


VRT_OF_TWO_NODATA = """<VRTDataset rasterXSize="90" rasterYSize="70"><SRS>EPSG:32618</SRS>
<GeoTransform>0,1,0,0,0,-1</GeoTransform>
<VRTRasterBand dataType="Byte" band="1"><NoDataValue>0</NoDataValue></VRTRasterBand>
<VRTRasterBand dataType="Byte" band="2"><NoDataValue>9</NoDataValue></VRTRasterBand></VRTDataset>"""


def test_bands_of_different_nodata_are_refused():
    wkt = CRS.from_epsg(32618).to_wkt()
    with rasterio.open(VRT_OF_TWO_NODATA) as dataset:  # GeoTIFF itself has one nodata; a companion file tells more
        assert raster.reference_of(dataset, wkt, (2,), where="a").nodata == 9
        with pytest.raises(VolumeError, match=r"different nodata \(0\.0, 9\.0\).*--bands"):
            raster.reference_of(dataset, wkt, None, where="a")


def test_several_images_in_a_file_are_a_plain_tiff(tmp_path):
    path = save(tmp_path / "a.tif", NOISE[:1])
    save(path, NOISE[1:2], APPEND_SUBDATASET="YES")
    with open_source(path, Reading(axes="zyx")) as source:
        np.testing.assert_array_equal(whole(source), NOISE[np.newaxis, :2])


@pytest.mark.parametrize("compress", [None, "deflate"])
def test_a_file_that_is_cut_off(tmp_path, compress):
    path = save(tmp_path / "a.tif", compress=compress)
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    with pytest.raises(VolumeError, match=r"a\.tif: "):
        open_source(path)


def test_voxels_that_do_not_decode(tmp_path):
    path = save(tmp_path / "a.tif", compress="deflate", blockysize=10)
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(data)
    with open_source(path) as source:
        with pytest.raises(VolumeError, match="cannot be read"):
            whole(source)
        np.testing.assert_array_equal(source.read(Box((20, 0), (30, 90))), NOISE[:, 20:30])


def test_a_tile_that_fills_the_memory(tmp_path):
    options = {"tiled": True, "blockxsize": 65_536, "blockysize": 65_536, "sparse_ok": True, "bigtiff": "yes"}
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "count": 1, "height": 100_000, "width": 100_000, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:32618", transform=NORTH_UP, **profile, **options):
        pass
    assert path.stat().st_size < 2000
    with pytest.raises(VolumeError, match=r"tiles or strips have 4294967296 bytes, and at most 2147483648"):
        open_source(path)


def test_pages_in_a_circle(tmp_path):
    path = save(tmp_path / "a.tif")
    data = bytearray(path.read_bytes())
    start = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[start : start + 2], "little")
    data[start + 2 + 12 * count : start + 6 + 12 * count] = start.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(VolumeError, match=r"a\.tif"):
        open_source(path)


def test_numbers_that_are_none_of_a_volume(tmp_path):
    path = save(tmp_path / "a.tif", NOISE.astype("c8"))
    with pytest.raises(VolumeError, match="complex64 is not numeric"):
        open_source(path)


def test_other_axes_are_refused(tmp_path):
    with pytest.raises(VolumeError, match="its axes are cyx"):
        open_source(save(tmp_path / "a.tif"), Reading(axes="yxc"))


def test_damage_that_the_library_finds(tmp_path, monkeypatch):
    path = save(tmp_path / "a.tif")
    monkeypatch.setattr(geotiff, "check_whole", lambda path: None)
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(VolumeError, match="cannot be read"):
        geotiff.open_geotiff(path)


def test_without_rasterio(tmp_path, monkeypatch):
    path = save(tmp_path / "a.tif")
    monkeypatch.setattr(raster, "rasterio", None)
    with pytest.raises(InputError, match=r"pip install 'overtile\[geo\]'"):
        open_source(path)


def pieces(folder, *boxes, voxels=NOISE, **options):
    """Save boxes of an image, ``((y, x), (y, x))``, as files a.tif, b.tif ..."""
    folder.mkdir()
    for name, (start, stop) in zip("abcd", boxes, strict=False):
        cut = voxels[(slice(None), *Box(start, stop).slices)]
        base = options.get("transform", NORTH_UP)
        place = base @ Affine.translation(start[1], start[0])
        save(folder / f"{name}.tif", cut, **{**options, "transform": place})
    return folder


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED, Affine(0.5, 0, 0, 0, 0.5, 0)])
@pytest.mark.parametrize("pattern", ["", "*.tif"])
def test_pieces_make_the_whole(tmp_path, transform, pattern):
    folder = pieces(
        tmp_path / "m", ((30, 0), (70, 50)), ((0, 0), (35, 90)), ((30, 40), (70, 90)), transform=transform
    )
    with open_source(folder / pattern) as source:
        np.testing.assert_array_equal(whole(source), NOISE)
        np.testing.assert_array_equal(source.read(Box((31, 42), (36, 51))), NOISE[:, 31:36, 42:51])
        np.testing.assert_allclose(source.geo.transform, tuple(transform)[:6], atol=1e-9)
        assert (source.shape, source.channels, source.slab) == ((70, 90), 3, None)
        assert source.where((0, 5)).endswith("b.tif, voxel 0,5")
        assert source.where((40, 60)).endswith("c.tif, voxel 10,20")


@pytest.mark.parametrize(("nodata", "dtype"), [(0, "u1"), (np.nan, "f4"), (-9999, "f8")])
def test_the_first_file_wins_where_it_has_a_value(tmp_path, nodata, dtype):
    first = np.full((2, 6, 6), nodata, dtype)
    first[:, 2:4] = 1
    first[0, 0, 0] = 1  # another band of the voxel is nodata
    save(tmp_path / "s1.tif", first, nodata=nodata)
    second = np.full((2, 6, 8), 2, dtype)
    save(tmp_path / "s2.tif", second, nodata=nodata, transform=NORTH_UP @ Affine.translation(-4, 3))
    with open_source(tmp_path) as source:
        found = whole(source)
        assert source.where((0, 0)) == f"{tmp_path}, voxel 0,0"
    expected = np.full((2, 9, 10), nodata, dtype)
    expected[:, 3:, :8] = 2
    expected[:, 2:4, 4:] = 1
    expected[:, 0, 4] = first[:, 0, 0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("nodata", [None, -9999.0, 0.5])
def test_outside_of_all_files_without_a_nodata_that_fits_is_zero(tmp_path, nodata):
    folder = pieces(tmp_path / "m", ((0, 0), (10, 10)), ((20, 20), (30, 30)))
    with open_source(folder) as source:
        source.geo = replace(source.geo, nodata=nodata)  # GDAL does not write one that does not fit
        expected = np.zeros((3, 30, 30), "u1")
        expected[:, :10, :10], expected[:, 20:, 20:] = NOISE[:, :10, :10], NOISE[:, 20:30, 20:30]
        np.testing.assert_array_equal(whole(source), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crs": "EPSG:32619"}, "CRS is EPSG:32619, but that of .*a.tif is EPSG:32618"),
        ({"voxels": NOISE[:2]}, "number of bands is 2, but that of .*a.tif is 3"),
        ({"voxels": NOISE.astype("u2")}, "data type is uint16, but that of .*a.tif is uint8"),
        ({"nodata": 9}, r"nodata is 9\.0, but that of .*a.tif is None"),
        (
            {"transform": NORTH_UP @ Affine.scale(2)},
            r"voxel size is 0\.5 x 1, but that of .*a.tif is 0\.25 x 0\.5",
        ),
        ({"transform": NORTH_UP @ Affine.scale(1, -1)}, "voxel size"),
        ({"transform": NORTH_UP @ Affine.translation(9.25, 0)}, r"lie 0\.25 of a voxel off the grid of .*a.tif"),
        ({"transform": NORTH_UP @ Affine.translation(0, 9.002)}, "lie 0.002 of a voxel"),
        ({"crs": None}, r"b\.tif: .* does not tell its coordinate reference system"),
        ({}, "all 2 files cover the same voxels"),
    ],
)
def test_files_that_are_no_mosaic(tmp_path, change, message):
    save(tmp_path / "a.tif")
    save(tmp_path / "b.tif", **change)
    with pytest.raises(VolumeError, match=message):
        open_source(tmp_path)


def test_a_tolerance_places_files_at_the_nearest_voxel(tmp_path):
    files = [
        save(tmp_path / "a.tif", NOISE[:, :40]),
        save(tmp_path / "b.tif", NOISE[:, 40:], transform=NORTH_UP @ Affine.translation(0.05, 39.95)),
    ]
    with open_mosaic(files, Reading(snap=0.1), name="m") as source:
        np.testing.assert_array_equal(whole(source), NOISE)


@pytest.mark.parametrize("snap", [-0.1, 0.5])
def test_a_snap_of_half_a_voxel_is_refused(tmp_path, snap):
    with pytest.raises(VolumeError, match=r"give --snap from 0, below 0\.5"):
        open_mosaic([save(tmp_path / "a.tif")], Reading(snap=snap), name="m")


def test_files_below_a_box_are_those_that_touch_it(tmp_path):
    folder = pieces(tmp_path / "m", ((0, 0), (40, 90)), ((30, 0), (70, 90)))
    with open_source(folder) as source:
        first, second = source.files
        assert source.files_below(Box((0, 0), (30, 90))) == (first,)
        assert source.files_below(Box((29, 3), (31, 4))) == (first, second)
        assert source.files_below(Box((50, 3), (51, 4))) == (second,)


def test_several_images_in_a_file_are_no_scene(tmp_path):
    path = save(tmp_path / "a.tif", NOISE[:1])
    save(path, NOISE[1:2], APPEND_SUBDATASET="YES")
    with pytest.raises(VolumeError, match="it holds several images"):
        open_source(tmp_path, Reading(axes="cyx"))


def test_a_mosaic_has_one_level(tmp_path):
    with pytest.raises(VolumeError, match="level 0 only"):
        open_source(pieces(tmp_path / "m", ((0, 0), (40, 90)), ((40, 0), (70, 90))), Reading(level=1))


def test_a_scene_that_goes_away(tmp_path):
    folder = pieces(tmp_path / "m", ((0, 0), (40, 90)), ((40, 0), (70, 90)))
    with open_source(folder) as source:
        (folder / "b.tif").unlink()
        with pytest.raises(VolumeError, match=r"b\.tif.*cannot be read"):
            whole(source)


def test_a_stack_of_rasters_is_asked_for_by_its_axes(tmp_path):
    save(tmp_path / "a.tif", NOISE[:1])
    save(tmp_path / "b.tif", NOISE[1:2])
    with open_source(tmp_path, Reading(axes="zyx")) as source:
        np.testing.assert_array_equal(whole(source), NOISE[np.newaxis, :2])


@needs_real
@pytest.mark.parametrize("name", ["RGB.byte.tif", "cogeo.tif", "mosaic_cog1.tif", "mosaic_cog2.tif"])
def test_real_rasters(name):
    with rasterio.open(REAL / name) as raster:
        levels = 1 + len(raster.overviews(1))
    for level in range(levels):
        check(REAL / name, level)


@needs_real
def test_real_scenes_on_nearly_the_same_grid():
    files = sorted(REAL.glob("mosaic_cog*.tif"))
    with pytest.raises(VolumeError, match=r"mosaic_cog2.*voxel size is 300\.0386828.*mosaic_cog1.*300\.038239"):
        open_source(REAL / "mosaic_cog*.tif")
    first, second = (rasterio.open(file).read() for file in files)
    expected = np.zeros((3, 792, 1177), "u2")
    expected[:, :781, 407:] = second
    part = expected[:, 2:, :779]
    np.copyto(part, first, where=first.any(axis=0))
    with open_source(REAL / "mosaic_cog*.tif", Reading(snap=0.1)) as source:
        assert isinstance(source, MosaicSource)
        np.testing.assert_array_equal(whole(source), expected)
        assert source.geo.nodata == 0
