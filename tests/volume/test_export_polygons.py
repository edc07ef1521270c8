import json

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyogrio.raw import read
from rasterio.features import rasterize
from rasterio.transform import Affine
from skimage.measure import label
from volumes import create_filled, save, small_spec

from pipeline.errors import EnvironmentFaultError, InputError, MissingChunkError
from pipeline.geometry import Grid
from pipeline.store import LocalPlace
from pipeline.volume import open_volume, publish
from pipeline.volume.absent import Absent
from pipeline.volume.export import geojson, geopackage, shapes
from pipeline.volume.export.colours import class_colour, class_name
from pipeline.volume.export.files import replaced
from pipeline.volume.export.geojson import write_geojson
from pipeline.volume.export.geopackage import write_geopackage
from pipeline.volume.export.polygons import polygons
from pipeline.volume.export.shapes import placed
from pipeline.volume.state import KEY, set_attributes


def volume_of(folder, data, axes="yx"):
    save(folder / "a.zarr", np.asarray(data), axes)
    return open_volume(folder / "a.zarr")


def rings(polygon):
    return [ring.tolist() for ring in (polygon.shell, *polygon.holes)]


def as_set(found):
    return sorted((p.value, p.size, rings(p)) for p in found)


def drawn(found, shape):
    pairs = [(shapely.Polygon(p.shell, p.holes), p.value) for p in found]
    return rasterize(pairs, out_shape=shape, dtype="int32") if pairs else np.zeros(shape, "int32")


def picture(text):
    return np.array([[int(c) for c in row] for row in text.split()], "u1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", []),
        ("1", [(1, 1, [[[0, 0], [1, 0], [1, 1], [0, 1]]])]),
        ("11 11", [(1, 4, [[[0, 0], [2, 0], [2, 2], [0, 2]]])]),
        ("12", [(1, 1, [[[0, 0], [1, 0], [1, 1], [0, 1]]]), (2, 1, [[[1, 0], [2, 0], [2, 1], [1, 1]]])]),
        # two regions that touch at a corner
        ("10 01", [(1, 1, [[[0, 0], [1, 0], [1, 1], [0, 1]]]), (1, 1, [[[1, 1], [2, 1], [2, 2], [1, 2]]])]),
        (
            "111 101 111",
            [(1, 8, [[[0, 0], [3, 0], [3, 3], [0, 3]], [[1, 1], [1, 2], [2, 2], [2, 1]]])],
        ),
        # a region that touches itself at a corner: its hole touches the outside there
        (
            "011 101 111",
            [(1, 7, [[[1, 0], [3, 0], [3, 3], [0, 3], [0, 1], [1, 1]], [[1, 1], [1, 2], [2, 2], [2, 1]]])],
        ),
        # two holes that touch at a corner are two rings
        (
            "1111 1011 1101 1111",
            [
                (
                    1,
                    14,
                    [
                        [[0, 0], [4, 0], [4, 4], [0, 4]],
                        [[1, 1], [1, 2], [2, 2], [2, 1]],
                        [[2, 2], [2, 3], [3, 3], [3, 2]],
                    ],
                )
            ],
        ),
    ],
)
@pytest.mark.parametrize("chunk", [(1, 1), (2, 3), (9, 9)])
def test_by_example(tmp_path, text, expected, chunk):
    found = list(polygons(volume_of(tmp_path, picture(text)), chunk=chunk))
    assert as_set(found) == expected
    assert all(shapely.Polygon(p.shell, p.holes).is_valid for p in found)


def check_law(folder, data, chunk):
    found = list(polygons(volume_of(folder, data), chunk=chunk))
    made = [shapely.Polygon(p.shell, p.holes) for p in found]
    assert all(polygon.is_valid for polygon in made)
    assert [polygon.area for polygon in made] == [p.size for p in found]
    np.testing.assert_array_equal(drawn(found, data.shape), data)
    for value in np.unique(data[data != 0]):
        assert sum(p.value == value for p in found) == label(data == value, connectivity=1).max()
    return as_set(found)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_drawn_again_they_are_the_map_whatever_the_chunks(tmp_path_factory, data):
    shape = data.draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    classes = data.draw(st.integers(1, 3))
    ids = data.draw(arrays("u1", shape, elements=st.integers(0, classes)))
    cuts = data.draw(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=2))
    folder = tmp_path_factory.mktemp("law")
    found = [check_law(folder / str(i), ids, chunk) for i, chunk in enumerate([*cuts, (99, 99)])]
    assert all(each == found[0] for each in found)


def left_out(folder, ids, bits, shard):
    """Store a map without the shards that a mask left out; return its voxels: those are background."""
    spec = small_spec(ids.shape, shard=shard)
    create_filled(folder, spec, ids)
    publish(folder, name="a", axes="yx", levels=[("0", spec.space)], classes=None)
    ids = ids.copy()
    for row, column in np.argwhere(bits).tolist():
        (folder / "0" / "c" / str(row) / str(column)).unlink()
        ids[row * shard[0] : (row + 1) * shard[0], column * shard[1] : (column + 1) * shard[1]] = 0
    said = Absent(bits, (Grid(ids.shape, shard),)).to_attribute()
    set_attributes(LocalPlace(folder), {KEY: {"absent": said}})
    return ids


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_files_drawn_again_are_the_map_with_any_shards_left_out(tmp_path_factory, data):
    shape = data.draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    shard = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    chunk = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    ids = data.draw(arrays("u1", shape, elements=st.integers(0, 3)))
    bits = data.draw(arrays("bool", Grid(shape, shard).counts))
    folder = tmp_path_factory.mktemp("law")
    expected = left_out(folder / "a.zarr", ids, bits, shard)
    volume = open_volume(folder / "a.zarr")
    write_geojson(placed(polygons(volume, chunk=chunk)), folder / "a.geojson")
    write_geopackage(placed(polygons(volume, chunk=chunk)), folder / "a.gpkg", crs="EPSG:32618")
    features = json.loads((folder / "a.geojson").read_text())["features"]
    by_colour = {class_colour(value): value for value in (1, 2, 3)}
    pairs = [
        (shapely.geometry.shape(f["geometry"]), by_colour[tuple(f["properties"]["classification"]["color"])])
        for f in features
    ]
    _, _, geometry, (values, *_) = read(folder / "a.gpkg")
    for made in (pairs, list(zip(shapely.from_wkb(geometry), values.tolist(), strict=True))):
        assert all(polygon.is_valid for polygon, _ in made)
        found = rasterize(made, out_shape=shape, dtype="int32") if made else np.zeros(shape)
        np.testing.assert_array_equal(found, expected)


def test_long_rings_are_written_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(geojson, "CORNERS", 3)
    ids = (np.random.default_rng(0).random((40, 40)) < 0.7).astype("u1")
    found = list(polygons(volume_of(tmp_path, ids)))
    write_geojson(placed(found), tmp_path / "a.geojson")
    shapes_read = [f["geometry"] for f in json.loads((tmp_path / "a.geojson").read_text())["features"]]
    assert shapes_read == [
        {"type": "Polygon", "coordinates": [ring.tolist() for ring in shape.rings]} for shape in placed(found)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_mazes_are_one_polygon_across_many_chunks(tmp_path, seed):
    """Noise near the percolation threshold: regions that wind through all chunks and touch themselves often."""
    ids = (np.random.default_rng(seed).random((90, 70)) < 0.62).astype("u2") * 300
    assert check_law(tmp_path / "a", ids, (16, 16)) == check_law(tmp_path / "b", ids, (90, 70))


@pytest.mark.parametrize("dtype", ["bool", "i1", "i8", "u8", "u4"])
def test_every_integer_dtype(tmp_path, dtype):
    ids = picture("0110 0100 1001").astype(dtype)
    found = list(polygons(volume_of(tmp_path, ids), chunk=(2, 2)))
    assert sorted((p.value, p.size) for p in found) == [(1, 1), (1, 1), (1, 3)]


def test_negative_ids_are_classes_too(tmp_path):
    found = list(polygons(volume_of(tmp_path, np.array([[-1, 0, 2]], "i2"))))
    assert [p.value for p in found] == [-1, 2]


def test_small_regions_are_left_out_by_their_whole_size(tmp_path):
    ids = picture("11110 00000 10000 00111")
    found = list(polygons(volume_of(tmp_path, ids), chunk=(2, 2), min_size=3))
    assert sorted(p.size for p in found) == [3, 4]


def test_progress_and_default_chunks(tmp_path):
    told = []
    volume = volume_of(tmp_path, np.ones((30, 30), "u1"))
    assert len(list(polygons(volume, progress=lambda *now: told.append(now)))) == 1
    assert told == [(1, 1)]
    assert len(list(polygons(volume, chunk=(10, 30), progress=lambda *now: told.append(now)))) == 1
    assert told[1:] == [(1, 3), (2, 3), (3, 3)]


def test_regions_leave_as_soon_as_they_are_whole(tmp_path):
    """A polygon of the first band comes before the last band is read, whose chunk is not even there."""
    ids = np.zeros((12, 8), "u1")
    ids[1, 1] = ids[10, 1] = 1
    volume = volume_of(tmp_path, ids)
    (tmp_path / "a.zarr" / "c" / "2" / "0").unlink()
    found = polygons(volume, chunk=(2, 8), threads=1)
    assert next(found).size == 1
    with pytest.raises(MissingChunkError):
        next(found)


@pytest.mark.parametrize(
    ("data", "axes", "message"),
    [
        (np.zeros((2, 3, 3), "u1"), "zyx", "axes zyx; polygons are made of class maps of the axes yx"),
        (np.zeros((2, 3, 3), "u1"), "cyx", "2 channel"),
        (np.zeros((3, 3), "f4"), "yx", "of float32"),
    ],
)
def test_other_volumes_are_refused(tmp_path, data, axes, message):
    with pytest.raises(InputError, match=message):
        list(polygons(volume_of(tmp_path, data, axes)))


FRAME = "1111 1001 1111"


def test_coordinates_are_whole_in_voxels_and_placed_by_a_transform(tmp_path):
    found = list(polygons(volume_of(tmp_path, picture(FRAME))))
    (shape,) = placed(found)
    assert [r.tolist() for r in shape.rings] == [
        [[0, 0], [4, 0], [4, 3], [0, 3], [0, 0]],
        [[1, 1], [1, 2], [3, 2], [3, 1], [1, 1]],
    ]
    assert all(r.dtype == np.int64 for r in shape.rings)
    (shape,) = placed(found, (0.5, 0, 100, 0, 0.25, 10))
    assert shape.rings[0].tolist() == [[100, 10], [102, 10], [102, 10.75], [100, 10.75], [100, 10]]


@pytest.mark.parametrize("transform", [(1, 0, 0, 0, 1, 0), (2, 0, 5, 0, -2, 90), (0.6, 0.8, 0, 0.8, -0.6, 3)])
@pytest.mark.parametrize("simplify", [None, 0.5])
def test_shells_turn_left_in_every_coordinate_system(tmp_path, transform, simplify):
    found = list(polygons(volume_of(tmp_path, picture(FRAME))))
    (shape,) = placed(found, transform, simplify=simplify)
    assert [shapely.LinearRing(r).is_ccw for r in shape.rings] == [True, False]
    scale = abs(transform[0] * transform[4] - transform[1] * transform[3])
    assert shapely.Polygon(shape.rings[0], shape.rings[1:]).area == pytest.approx(10 * scale)


def test_simpler_boundaries_are_valid_near_and_shorter(tmp_path):
    y, x = np.indices((60, 60))
    ids = ((y - 30) ** 2 + (x - 30) ** 2 < 600).astype("u1")
    ids[25:35, 25:35] = 0
    found = list(polygons(volume_of(tmp_path, ids), chunk=(16, 16)))
    (exact,), (simple,) = placed(found), placed(found, simplify=1.0)
    one, other = (shapely.Polygon(s.rings[0], s.rings[1:]) for s in (exact, simple))
    assert other.is_valid
    assert len(other.interiors) == 1
    assert len(other.exterior.coords) < len(one.exterior.coords) / 2
    assert one.hausdorff_distance(other) <= 1.0


@pytest.mark.parametrize("distance", [0, -1, float("nan"), float("inf")])
def test_distances_that_simplify_nothing_are_refused(distance):
    with pytest.raises(InputError, match="greater than 0"):
        list(placed([], simplify=distance))


def test_missing_extras_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "shapely", None)
    with pytest.raises(InputError, match=r"overtile\[geo\]"):
        list(placed([], simplify=1))
    monkeypatch.setattr(geopackage, "write", None)
    with pytest.raises(InputError, match=r"overtile\[geo\]"):
        write_geopackage([], tmp_path / "a.gpkg")


def test_geojson_is_what_qupath_reads(tmp_path):
    found = polygons(volume_of(tmp_path, picture("0120 0000")))
    target = tmp_path / "a.geojson"
    assert write_geojson(placed(found), target, names=("background", "cell"), object_type="detection") == 2
    document = json.loads(target.read_text())
    assert set(document) == {"type", "features"}
    assert document["features"][0] == {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[[1, 0], [2, 0], [2, 1], [1, 1], [1, 0]]]},
        "properties": {"objectType": "detection", "classification": {"name": "cell", "color": [230, 159, 0]}},
    }
    assert document["features"][1]["properties"]["classification"]["name"] == "class 2"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.geojson"]


def test_an_empty_map_is_an_empty_collection(tmp_path):
    target = tmp_path / "a.geojson"
    assert write_geojson([], target, crs="EPSG:32618") == 0
    document = json.loads(target.read_text())
    assert document["features"] == []
    assert document["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32618"
    assert write_geopackage([], tmp_path / "a.gpkg", crs="EPSG:32618") == 0
    meta, _, geometry, _ = read(tmp_path / "a.gpkg")
    assert (meta["crs"], len(geometry)) == ("EPSG:32618", 0)


@pytest.mark.parametrize(("limit", "value"), [("BATCH", 2), ("CORNERS", 6)])
def test_geopackages_keep_every_batch(tmp_path, monkeypatch, limit, value):
    monkeypatch.setattr(geopackage, limit, value)
    ids = picture("10203 00000 10101")
    found = polygons(volume_of(tmp_path, ids))
    target = tmp_path / "a.gpkg"
    transform = (2.0, 0, 500000, 0, -2.0, 4000000)
    assert write_geopackage(placed(found, transform), target, names=("bg", "road"), crs="EPSG:32618") == 6
    meta, _, geometry, (ids_read, names, sizes, colours) = read(target)
    assert meta["crs"] == "EPSG:32618"
    assert list(meta["fields"]) == ["class_id", "class", "voxels", "color"]
    assert sorted(zip(ids_read, names, sizes, colours, strict=True))[0] == (1, "road", 1, "#e69f00")
    assert sorted(names) == ["class 2", "class 3", "road", "road", "road", "road"]
    pairs = list(zip(shapely.from_wkb(geometry), ids_read, strict=True))
    again = rasterize(pairs, out_shape=ids.shape, transform=affine(transform))
    np.testing.assert_array_equal(again, ids)


def affine(transform):
    return Affine(*transform)


def test_a_foreign_coordinate_system_is_refused_and_a_file_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="unknown to GDAL"):
        write_geopackage([], tmp_path / "a.gpkg", crs="EPSG:9999999")

    def full(*_args, **_options):
        raise geopackage.DataSourceError("disk full")

    monkeypatch.setattr(geopackage, "write", full)
    with pytest.raises(EnvironmentFaultError, match="disk full"):
        write_geopackage([], tmp_path / "a.gpkg")
    assert list(tmp_path.iterdir()) == []


def test_a_target_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "[a].geojson"
    target.write_text("old")

    def broken():
        yield next(placed(polygons(volume_of(tmp_path, np.ones((2, 2), "u1")))))
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_geojson(broken(), target)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["[a].geojson"]
    assert write_geojson([], target) == 0
    assert json.loads(target.read_text())["features"] == []


def test_targets_that_cannot_be_written_are_refused(tmp_path):
    for target, message in ((tmp_path, "is a folder"), (tmp_path / "none" / "a.png", "there is no folder")):
        with pytest.raises(InputError, match=message), replaced(target):
            raise AssertionError("must not get here")


def test_colours_and_names():
    colours = [class_colour(i) for i in range(29)]
    assert colours[0] == (0, 0, 0)
    assert len(set(colours)) == 29
    assert class_colour(29) == class_colour(1)
    assert class_name(1, ("a", "b")) == "b"
    assert (class_name(2, ("a", "b")), class_name(-1, ("a",))) == ("class 2", "class -1")
