import json

import numpy as np
import pytest
import rasterio
import shapely
import tifffile
import yaozarrs
import zarr
from PIL import Image
from pyogrio.raw import read
from runs import make_image, make_run
from volumes import create_filled, save, small_spec

import pipeline
from pipeline.config import ExportJob, load_job
from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Grid
from pipeline.run.folder import RunFolder
from pipeline.store import LocalPlace
from pipeline.volume import open_volume, publish
from pipeline.volume.absent import Absent
from pipeline.volume.geo import Georeference, georeference_attributes, read_georeference
from pipeline.volume.state import KEY, set_attributes

UTM = "EPSG:32618"


def export(result, target, *, listener=None, **options):
    job = load_job(ExportJob, {"result": str(result), "target": str(target), **options})
    return pipeline.export(job, listener=listener)


def squares(shape=(150, 130)):
    ids = np.zeros(shape, "u1")
    ids[10:20, 30:50] = ids[60:70, 60:80] = 1  # the second lies over four chunks
    ids[100, 100] = 1
    return ids


@pytest.fixture
def result(tmp_path):
    return make_run(tmp_path, squares())


def features(path):
    return json.loads(path.read_text())["features"]


def bounds(path):
    return sorted(shapely.geometry.shape(f["geometry"]).bounds for f in features(path))


def test_polygons_of_a_run(tmp_path, result):
    found = export(result, tmp_path / "a.geojson")
    assert found == {
        "result": str(result),
        "target": str(tmp_path / "a.geojson"),
        "format": ".geojson",
        "bytes": (tmp_path / "a.geojson").stat().st_size,
        "classes": ["background", "cell"],
        "crs": None,
        "holes": 0,
        "polygons": 3,
    }
    assert bounds(tmp_path / "a.geojson") == [(30, 10, 50, 20), (60, 60, 80, 70), (100, 100, 101, 101)]


def test_options_of_polygons(tmp_path, result):
    target = tmp_path / "a.geojson"
    options = {"min_size": 2, "simplify": 0.5, "classes": ["glass", "nucleus"], "object_type": "detection"}
    found = export(result, target, threads=1, **options)
    assert (found["polygons"], found["classes"]) == (2, ["glass", "nucleus"])
    properties = json.loads(target.read_text())["features"][0]["properties"]
    assert (properties["objectType"], properties["classification"]["name"]) == ("detection", "nucleus")
    assert export(result, tmp_path / "a.gpkg", min_size=2)["polygons"] == 2
    assert len(read(tmp_path / "a.gpkg")[2]) == 2


def test_pixels_are_those_of_level_0_of_the_image(tmp_path):
    make_image(tmp_path / "image.zarr", (1100, 1000))
    ids = squares((140, 130))
    out = make_run(tmp_path, ids, level=1, region=((20, 160), (40, 170)))
    export(out, tmp_path / "a.geojson")
    assert bounds(tmp_path / "a.geojson")[0] == (2 * (30 + 40), 2 * (10 + 20), 2 * (50 + 40), 2 * (20 + 20))
    record = tmp_path / "out.zarr.run" / "run.json"
    recorded = json.loads(record.read_text())
    recorded["plan"].pop("resolution")  # as older versions recorded a run
    record.write_text(json.dumps(recorded))
    export(out, tmp_path / "b.geojson")
    assert bounds(tmp_path / "b.geojson") == bounds(tmp_path / "a.geojson")
    (tmp_path / "image.zarr").rename(tmp_path / "moved.zarr")
    with pytest.raises(InputError, match=r"of level 1 of .*image\.zarr, which is needed"):
        export(out, tmp_path / "b.geojson")


def test_pixels_of_a_region_need_no_image(tmp_path):
    make_image(tmp_path / "image.zarr", (300, 300))
    out = make_run(tmp_path, squares((140, 130)), region=((20, 160), (40, 170)))
    (tmp_path / "image.zarr").rename(tmp_path / "moved.zarr")
    export(out, tmp_path / "a.geojson")
    assert bounds(tmp_path / "a.geojson")[0] == (70, 30, 90, 40)


def georeferenced(root, ids):
    spec = small_spec(ids.shape, shard=(64, 64))
    create_filled(root, spec, ids)
    publish(root, name="a", axes="yx", levels=[("0", spec.space)], classes=["background", "road"])
    geo = Georeference(UTM, (2.0, 0.0, 500000.0, 0.0, -2.0, 4000000.0), None)
    group = zarr.open_group(str(root), mode="r+")
    group.attrs.update(georeference_attributes(geo, shape=ids.shape))


def test_a_georeferenced_map_leaves_in_its_coordinate_system(tmp_path):
    georeferenced(tmp_path / "a.zarr", squares())
    for ending in ("geojson", "gpkg", "tif"):
        found = export(tmp_path / "a.zarr", tmp_path / f"a.{ending}")
        assert (found["crs"], found["format"]) == (UTM, f".{ending}")
    expected = (500060.0, 4000000 - 40.0, 500100.0, 4000000 - 20.0)
    assert bounds(tmp_path / "a.geojson")[0] == expected
    assert json.loads((tmp_path / "a.geojson").read_text())["crs"]["properties"]["name"].endswith("EPSG::32618")
    meta, _, geometry, _ = read(tmp_path / "a.gpkg")
    assert meta["crs"] == UTM
    assert sorted(g.bounds for g in shapely.from_wkb(geometry))[0] == expected
    with rasterio.open(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), squares())
        assert raster.crs.to_epsg() == 32618


def test_rasters_and_pictures(tmp_path, result):
    found = export(result, tmp_path / "a.OME.TIF")
    assert (found["format"], "polygons" in found) == (".ome.tif", False)
    with tifffile.TiffFile(tmp_path / "a.OME.TIF") as file:
        np.testing.assert_array_equal(file.series[0].asarray(), squares())
    export(result, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (130 + 256, 150)


def test_channels_of_probabilities_have_the_names_of_the_run(tmp_path):
    values = np.zeros((2, 100, 90), "u1")
    out = make_run(tmp_path, values, kind="probabilities")
    export(out, tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert 'Name="cell"' in file.ome_metadata
    with pytest.raises(InputError, match="polygons are made of class ids"):
        export(out, tmp_path / "a.geojson")


def test_a_target_that_is_there_is_replaced_and_the_same_bytes_come(tmp_path, result):
    target = tmp_path / "a.geojson"
    target.write_text("old")
    export(result, target)
    first = target.read_bytes()
    export(result, target, threads=1)
    assert target.read_bytes() == first


def test_listeners_are_told(tmp_path, result):
    class Heard:
        phases, done = [], []

        def phase(self, name, total, unit):
            self.phases.append((name, total, unit))

        def progress(self, done, failed=0):
            self.done.append(done)

        def note(self, text):
            raise AssertionError(text)

    for ending in ("geojson", "png"):
        export(result, tmp_path / f"a.{ending}", listener=Heard())
    assert Heard.phases == [("polygons", 1, "chunks"), ("export", 1, "file")]
    assert Heard.done == [1, 1]


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("a.shp", {}, r"one of \.geojson, \.gpkg, \.ome\.tif, \.ome\.tiff, \.tif, \.tiff, \.png, \.zarr"),
        (".geojson", {}, "its ending names the format"),
        ("none/a.png", {}, "there is no folder"),
        ("folder.png", {}, "is a folder"),
        ("out.zarr/a.png", {}, "lies in the result"),
        ("s3://bucket/a.png", {}, "files on this machine"),
        ("a.png", {"threads": 0}, "--threads: .*greater than or equal to 1"),
        ("a.png", {"simplify": 1.0}, "--simplify: is for polygons"),
        ("a.png", {"min_size": 1}, "--min-size: is for polygons"),
        ("a.gpkg", {"min_size": 0}, "--min-size: .*greater than or equal to 1"),
        ("a.gpkg", {"simplify": 0.0}, "--simplify: .*greater than 0"),
        ("a.gpkg", {"object_type": "detection"}, "--object-type: is for .geojson"),
        ("a.geojson", {"object_type": "cell"}, "--object-type: Input should be 'annotation' or 'detection'"),
        ("a.tif", {}, "nothing says where on Earth"),
        ("a.zarr", {"ngff": "0.6"}, r"--ngff: Input should be '0\.4' or '0\.5'"),
        ("a.png", {"ngff": "0.4"}, r"--ngff: is for \.zarr"),
        ("a.png", {"holes": "none"}, "--holes: Input should be 'error' or 'background'"),
        ("folder.zarr", {}, "exists already"),
        ("none/a.zarr", {}, "there is no folder"),
        ("out.zarr/a.zarr", {}, "lies in the result"),
    ],
)
def test_refusals_write_nothing(tmp_path, result, target, options, message):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.zarr").mkdir()
    before = sorted(tmp_path.rglob("*"))
    where = target if "://" in target else tmp_path / target
    with pytest.raises(InputError, match=message):
        export(result, where, **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_is_not_complete_is_refused(tmp_path):
    out = make_run(tmp_path, squares(), states={1: "failed"}, sealed=False)
    for url in (out, out / "0"):
        with pytest.raises(InputError, match="its run is not complete, so it has holes"):
            export(url, tmp_path / "a.geojson")


@pytest.fixture
def partial(tmp_path):
    """A result whose second chunk failed, which its job accepted."""
    out = make_run(tmp_path, squares(), states={1: "failed"}, sealed=False, pyramid=False)
    RunFolder(out).seal({"state": "partial", "root": "abcd"})
    volume = open_volume(out / "0")
    publish(out, name="out", axes="yx", levels=[("0", volume.space)], classes=["background", "cell"])
    set_attributes(LocalPlace(out), {KEY: {"state": "partial", "holes": ["0/1"], "run": "out.zarr.run"}})
    return out


def test_holes_of_a_partial_result_are_background_only_where_that_is_said(tmp_path, partial):
    with pytest.raises(InputError, match=r"chunks that failed, so the result has holes.*--holes background"):
        export(partial, tmp_path / "a.geojson")
    found = export(partial, tmp_path / "a.geojson", holes="background")
    assert (found["holes"], found["polygons"]) == (1, 3)
    assert bounds(tmp_path / "a.geojson")[1] == (60, 60, 80, 70)  # the chunk held (64, 60, 80, 64) of it
    area = sum(shapely.geometry.shape(f["geometry"]).area for f in features(tmp_path / "a.geojson"))
    assert area == squares().sum() - 16 * 4


def test_a_copy_says_what_the_result_said_of_itself(tmp_path, partial):
    export(partial, tmp_path / "a.zarr", ngff="0.4", holes="background")
    attributes = dict(zarr.open_group(str(tmp_path / "a.zarr"), mode="r").attrs)
    assert attributes[KEY] == {"made_by": "export", "state": "partial", "holes": ["0/1"]}
    ids = squares()
    ids[0:64, 64:128] = 0
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "a.zarr" / "0"), mode="r")[...], ids)


@pytest.mark.parametrize(("ngff", "form"), [(None, 3), ("0.5", 3), ("0.4", 2)])
def test_a_copy_as_ome_zarr(tmp_path, ngff, form):
    georeferenced(tmp_path / "a.zarr", squares())
    found = export(tmp_path / "a.zarr", tmp_path / "b.ome.zarr", ngff=ngff)
    assert (found["format"], found["crs"], found["classes"]) == (".zarr", UTM, ["background", "road"])
    files = [p for p in (tmp_path / "b.ome.zarr").rglob("*") if p.is_file()]
    assert found["bytes"] == sum(p.stat().st_size for p in files)
    yaozarrs.validate_zarr_store(str(tmp_path / "b.ome.zarr"))
    group = zarr.open_group(str(tmp_path / "b.ome.zarr"), mode="r")
    assert group.metadata.zarr_format == form
    attributes = dict(group.attrs)
    assert read_georeference(attributes).transform == (2.0, 0.0, 500000.0, 0.0, -2.0, 4000000.0)
    assert attributes.get("ome", attributes)["multiscales"][0]["name"] == "b"
    np.testing.assert_array_equal(group["0"][...], squares())


def test_what_a_mask_left_out_is_background_in_every_export(tmp_path):
    ids = squares()
    georeferenced(tmp_path / "a.zarr", ids)
    bits = np.zeros((3, 3), bool)
    bits[1, 1] = bits[0, 0] = True
    for row, column in ((1, 1), (0, 0)):
        (tmp_path / "a.zarr" / "0" / "c" / str(row) / str(column)).unlink()
        ids[64 * row : 64 * row + 64, 64 * column : 64 * column + 64] = 0
    said = Absent(bits, (Grid(ids.shape, (64, 64)),)).to_attribute()
    set_attributes(LocalPlace(tmp_path / "a.zarr"), {KEY: {"state": "sealed", "absent": said}})
    for ending in ("geojson", "gpkg", "tif", "ome.tif", "png", "zarr"):
        assert export(tmp_path / "a.zarr", tmp_path / f"a-copy.{ending}")["holes"] == 0
    areas = [shapely.geometry.shape(f["geometry"]).area for f in features(tmp_path / "a-copy.geojson")]
    assert sum(areas) == 4 * ids.sum()
    assert sum(g.area for g in shapely.from_wkb(read(tmp_path / "a-copy.gpkg")[2])) == 4 * ids.sum()
    with rasterio.open(tmp_path / "a-copy.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), ids)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a-copy.ome.tif"), ids)
    with Image.open(tmp_path / "a-copy.png") as image:
        picture = np.asarray(image)[: ids.shape[0], : ids.shape[1]]
    np.testing.assert_array_equal(picture.any(axis=2), ids > 0)
    copy = open_volume(tmp_path / "a-copy.zarr")
    np.testing.assert_array_equal(copy.read(copy.box)[0], ids)


def test_plain_arrays_and_what_is_none(tmp_path):
    save(tmp_path / "a.zarr", squares(), "yx", chunks=64)
    assert export(tmp_path / "a.zarr", tmp_path / "a.geojson")["classes"] == []
    with pytest.raises(VolumeError, match="no such file"):
        export(tmp_path / "none.zarr", tmp_path / "a.geojson")


def test_a_geopackage_without_its_extra_is_refused_at_once(tmp_path, result, monkeypatch):
    monkeypatch.setattr("pipeline.volume.export.geopackage.write", None)
    with pytest.raises(InputError, match=r"overtile\[geo\]"):
        export(result, tmp_path / "a.gpkg")
