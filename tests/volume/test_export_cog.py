import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import rasterio
from ingests import ingest
from rasterio.crs import CRS
from volumes import create_filled, save, small_spec

from pipeline.errors import EnvironmentFaultError, InputError, MissingChunkError, VolumeError
from pipeline.geometry import Box
from pipeline.volume import open_volume
from pipeline.volume.export import ahead, cog
from pipeline.volume.export.cog import export_cog
from pipeline.volume.geo import Georeference
from pipeline.volume.sources import open_source

REAL = Path(os.environ.get("OVERTILE_DATA", "../shared/data")) / "geotiff_io"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the test rasters are not in ../shared/data/geotiff_io")

UTM = CRS.from_epsg(32618)
WKT = UTM.to_wkt(version="WKT2_2019")
NORTH_UP = (0.5, 0.0, 1000.25, 0.0, -0.25, 2000.5)
ROTATED = (0.4, 0.3, 1000.0, 0.3, -0.4, 2000.0)
RANDOM = np.random.default_rng(0)
CLASSES = ("background", "road", "roof")


def place(transform=NORTH_UP, nodata=None, crs=WKT):
    return Georeference(crs, transform, nodata)


def volume(path, voxels, axes, chunks=None):
    save(path, voxels, axes, chunks=chunks or tuple(min(n, 300) for n in voxels.shape))
    return open_volume(path)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
@pytest.mark.parametrize("shape", [(1, 1), (70, 90), (512, 512), (700, 1100)])
def test_every_voxel_of_a_class_map(tmp_path, shape, transform):
    ids = RANDOM.integers(0, 3, shape).astype("u1")
    export_cog(volume(tmp_path / "a", ids, "yx"), tmp_path / "a.tif", geo=place(transform, 255), classes=CLASSES)
    with rasterio.open(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(), ids[np.newaxis])
        assert (raster.crs, tuple(raster.transform)[:6], raster.nodata) == (UTM, transform, 255)
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.colormap(1)[1][:3] == (230, 159, 0)
        assert [raster.tags(1)[f"CLASS_{i}"] for i in range(3)] == list(CLASSES)
        assert raster.overviews(1) == ([2, 4] if max(shape) > 1024 else [2] if max(shape) > 512 else [])
    assert [p.name for p in tmp_path.iterdir() if p.name != "a"] == ["a.tif"]


def test_overviews_of_a_class_map_hold_classes_only(tmp_path):
    ids = RANDOM.choice(np.array([0, 2], "u1"), (600, 600))
    export_cog(volume(tmp_path / "a", ids, "yx"), tmp_path / "a.tif", geo=place(), classes=CLASSES)
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as raster:
        assert set(np.unique(raster.read())) == {0, 2}


def test_overviews_of_probabilities_hold_means(tmp_path):
    p = np.zeros((1, 600, 600), "u1")
    p[:, ::2] = 100
    export_cog(volume(tmp_path / "a", p, "cyx"), tmp_path / "a.tif", geo=place(), classes=None)
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as raster:
        assert set(np.unique(raster.read())) == {50}


@pytest.mark.parametrize("axes", ["yx", "cyx", "yxc"])
@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i8", "f2", "f4", "f8"])
def test_dtypes_and_axes(tmp_path, axes, dtype):
    shape = tuple({"c": 3, "y": 40, "x": 530}[a] for a in axes)
    voxels = (RANDOM.random(shape) * 100).astype(dtype)
    export_cog(volume(tmp_path / "a", voxels, axes), tmp_path / "a.tif", geo=place(), classes=None)
    expected = voxels[np.newaxis] if axes == "yx" else np.moveaxis(voxels, axes.index("c"), 0)
    with rasterio.open(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(), expected)
        assert raster.nodata is None
        assert raster.dtypes[0] == {"bool": "uint8", "float16": "float32"}.get(
            voxels.dtype.name, voxels.dtype.name
        )


def test_nodata_may_be_nan(tmp_path):
    voxels = np.full((20, 30), np.nan, "f4")
    export_cog(volume(tmp_path / "a", voxels, "yx"), tmp_path / "a.tif", geo=place(nodata=math.nan), classes=None)
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert math.isnan(raster.nodata)
        assert np.isnan(raster.read()).all()


def test_memory_is_cut_into_boxes(tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "BOX_BYTES", 512 * 512)
    voxels = RANDOM.integers(0, 99, (1200, 1300)).astype("u1")
    told = []
    export_cog(
        volume(tmp_path / "a", voxels, "yx", chunks=(1200, 1300)), tmp_path / "a.tif", geo=place(), classes=None,
        threads=3, progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    with rasterio.open(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), voxels)
    assert told == [(i + 1, 9) for i in range(9)]


@pytest.mark.parametrize(
    ("voxels", "axes", "geo", "classes", "message"),
    [
        (np.zeros((4, 4), "u1"), "yx", None, None, "nothing says where on Earth"),
        (np.zeros((2, 4, 4), "u1"), "zyx", place(), None, "axes zyx"),
        (np.zeros((2, 4, 4), "u1"), "cyx", place(), CLASSES, "2 channels of uint8"),
        (np.zeros((4, 4), "f4"), "yx", place(), CLASSES, "1 channels of float32"),
        (np.zeros((4, 4), "u1"), "yx", place(nodata=256), None, "nodata 256, but its voxels are uint8"),
        (np.zeros((4, 4), "u1"), "yx", place(nodata=-1), None, "give one from 0 to 255"),
        (np.zeros((4, 4), "i2"), "yx", place(nodata=0.5), None, "nodata 0.5"),
        (np.zeros((4, 4), "i2"), "yx", place(nodata=math.nan), None, "nodata nan"),
        (np.zeros((4, 4), "u1"), "yx", place(crs="nonsense"), None, "CRS"),
        (np.zeros((4, 4), "u1"), "yx", place((1.0, 0.0, 0.0, 2.0, 0.0, 0.0)), None, "no area"),
    ],
)
def test_what_a_cog_cannot_hold(tmp_path, voxels, axes, geo, classes, message):
    with pytest.raises(VolumeError, match=message):
        export_cog(volume(tmp_path / "a", voxels, axes), tmp_path / "a.tif", geo=geo, classes=classes)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        export_cog(
            volume(tmp_path / "a", np.zeros((4, 4), "u1"), "yx"),
            tmp_path / "b" / "a.tif",
            geo=place(),
            classes=None,
        )


def test_without_rasterio(tmp_path, monkeypatch):
    found = volume(tmp_path / "a", np.zeros((4, 4), "u1"), "yx")
    monkeypatch.setattr(cog, "rasterio", None)
    with pytest.raises(InputError, match=r"pip install 'overtile\[geo\]'"):
        export_cog(found, tmp_path / "a.tif", geo=place(), classes=None)


def test_a_hole_leaves_the_file_that_was_there(tmp_path):
    create_filled(tmp_path / "a.zarr", small_spec((20, 20)), np.ones((20, 20), "u1"))
    (tmp_path / "a.zarr" / "0" / "c" / "1" / "1").unlink()
    (tmp_path / "a.tif").write_bytes(b"before")
    with pytest.raises(MissingChunkError):
        export_cog(open_volume(tmp_path / "a.zarr" / "0"), tmp_path / "a.tif", geo=place(), classes=None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "a.zarr"]
    assert (tmp_path / "a.tif").read_bytes() == b"before"


def test_a_file_that_is_there_is_replaced(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"before")
    ids = np.ones((20, 20), "u1")
    export_cog(volume(tmp_path / "a", ids, "yx"), tmp_path / "a.tif", geo=place(), classes=None)
    with rasterio.open(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), ids)


def test_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    found = volume(tmp_path / "a", np.zeros((4, 4), "u1"), "yx")
    monkeypatch.setitem(cog._TILED, "blockxsize", 100)  # no multiple of 16, which GDAL refuses
    with pytest.raises(EnvironmentFaultError, match=r"a\.tif: cannot be written"):
        export_cog(found, tmp_path / "a.tif", geo=place(), classes=None)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_values_that_did_not_reach_the_file(tmp_path, monkeypatch):
    found = volume(tmp_path / "a", np.zeros((600, 4), "u1"), "yx")
    to_cog = cog._to_cog

    def corrupt(tiled, *others, **options):
        with rasterio.open(tiled, "r+") as raster:
            raster.write(np.ones((1, 2, 2), "u1"), window=((590, 592), (0, 2)))
        to_cog(tiled, *others, **options)

    monkeypatch.setattr(cog, "_to_cog", corrupt)
    with pytest.raises(EnvironmentFaultError, match="voxels 512:600,0:4 read otherwise than written"):
        export_cog(found, tmp_path / "a.tif", geo=place(), classes=None)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file size are tested on Linux")
def test_a_full_disk(tmp_path):
    volume(tmp_path / "a", RANDOM.integers(0, 255, (600, 700)).astype("u1"), "yx")
    program = f"""
        import resource
        from pipeline.errors import EnvironmentFaultError
        from pipeline.volume import open_volume
        from pipeline.volume.export.cog import export_cog
        from pipeline.volume.geo import Georeference
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            export_cog(open_volume("a"), __import__("pathlib").Path("a.tif"),
                       geo=Georeference({WKT!r}, {NORTH_UP}, None), classes=None)
        except EnvironmentFaultError as error:
            print("refused:", error)
    """
    root = str(Path(__file__).parents[2])
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "refused: a.tif: cannot be written" in found.stdout, found.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@needs_real
@pytest.mark.parametrize("name", ["RGB.byte.tif", "cogeo.tif", "mosaic_cog1.tif"])
def test_real_rasters_come_back_as_they_were(tmp_path, name):
    with open_source(REAL / name) as source:
        ingest(source, tmp_path / "a.zarr", pyramid=False)
        export_cog(open_volume(tmp_path / "a.zarr"), tmp_path / "a.tif", geo=source.geo, classes=None)
        assert open_volume(tmp_path / "a.zarr").box == Box.of_shape(source.shape)
    with rasterio.open(tmp_path / "a.tif") as made, rasterio.open(REAL / name) as first:
        np.testing.assert_array_equal(made.read(), first.read())
        assert (made.crs, made.transform, made.nodata, made.bounds) == (
            first.crs, first.transform, first.nodata, first.bounds,
        )  # fmt: skip
