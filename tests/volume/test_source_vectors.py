"""Polygons as class ids on the grid of an image."""

import json
import os
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform_geom
from shapely.geometry import mapping

from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Box
from pipeline.volume import Space
from pipeline.volume.geo import Georeference
from pipeline.volume.sources import features, open_source, vectors
from pipeline.volume.sources.vectors import Like, open_vectors

REAL = Path(os.environ.get("OVERTILE_DATA", "../shared/data")) / "sat_labelled"
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="the labelled scenes are not in ../shared/data/sat_labelled"
)

SPACE = Space.unscaled("yx")
PLAIN = Like((40, 60), SPACE)
UTM = Affine(2, 0, 500_000, 0, -2, 4_000_000)
ON_EARTH = Like((40, 60), SPACE, Georeference("EPSG:32618", tuple(UTM)[:6], 7.0))
TRIANGLE = shapely.Polygon([(3.13, 2.27), (50.31, 10.71), (12.41, 35.93)])  # its edges meet no centre
RING = shapely.Polygon([(5, 5), (30, 5), (30, 30), (5, 30)], [[(10, 10), (20, 10), (20, 20), (10, 20)]])


def feature(shape, name=None, **properties):
    named = {"classification": {"name": name}} if name else {}
    geometry = None if shape is None else mapping(shape)
    return {"type": "Feature", "geometry": geometry, "properties": {**named, **properties}}


def save(path, *found, **members):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": found, **members}))
    return path


def whole(source):
    return source.read(Box.of_shape(source.shape))[0]


def drawn(*shapes, shape=(40, 60), transform=None):
    """Draw shapes at once, the later over the earlier: 1, 2 ..."""
    pairs = [(s, i) for i, s in enumerate(shapes, 1)]
    return rasterize(pairs, shape, transform=transform or Affine.identity(), dtype="uint8")


def saved_layer(path, *shapes, crs="EPSG:32618", layer="one", append=False, **columns):
    pyogrio.raw.write(
        str(path),
        shapely.to_wkb(np.array(shapes, object)),
        [np.array(v) for v in columns.values()],
        list(columns),
        geometry_type=shapes[0].geom_type,
        crs=crs,
        layer=layer,
        append=append,
        driver="GPKG" if str(path).endswith("gpkg") else None,
    )
    return path


@pytest.mark.parametrize(
    "document",
    [
        {"type": "FeatureCollection", "features": [feature(TRIANGLE), feature(RING)]},
        [feature(TRIANGLE), feature(RING)],
        feature(shapely.union(TRIANGLE, RING)),
        [feature(TRIANGLE.difference(RING)), feature(RING)],
        [feature(None), feature(shapely.Polygon()), feature(shapely.force_3d(TRIANGLE)), feature(RING)],
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf \n"])
def test_forms_of_geojson(tmp_path, document, mark):
    path = tmp_path / "a.geojson"
    path.write_bytes(mark + json.dumps(document).encode())
    with open_vectors(path, PLAIN) as source:
        np.testing.assert_array_equal(whole(source), drawn(TRIANGLE, RING) > 0)
        assert (source.channels, source.dtype, source.geo, source.files) == (None, np.uint8, None, (str(path),))
        assert source.classes == {}


def test_a_voxel_is_in_a_polygon_where_its_centre_is(tmp_path):
    square = shapely.box(2.4, 3.6, 5.6, 7.4)
    expected = np.zeros((40, 60), np.uint8)
    expected[4:7, 2:6] = 1
    with open_vectors(save(tmp_path / "a.json", feature(square)), PLAIN) as source:
        np.testing.assert_array_equal(whole(source), expected)


def test_holes_stay_open_and_the_later_polygon_wins(tmp_path):
    path = save(
        tmp_path / "a.json", feature(RING, "a"), feature(TRIANGLE, "b"), feature(shapely.box(0, 0, 9, 9), "a")
    )
    with open_vectors(path, PLAIN) as source:
        found = whole(source)
    expected = drawn(RING, TRIANGLE, shapely.box(0, 0, 9, 9))
    np.testing.assert_array_equal(found, np.array([0, 1, 2, 1], np.uint8)[expected])
    assert set(np.unique(found)) == {0, 1, 2}


def test_pixels_of_level_0_are_scaled_to_a_coarser_one(tmp_path):
    path = save(tmp_path / "a.json", feature(shapely.box(8, 4, 40, 20)))
    with open_vectors(path, Like((10, 15), SPACE, factors=(4.0, 2.0))) as source:
        expected = np.zeros((10, 15), np.uint8)
        expected[1:5, 4:15] = 1
        np.testing.assert_array_equal(whole(source), expected)


corners = st.tuples(st.floats(-20, 90, width=32), st.floats(-20, 70, width=32))


@st.composite
def boxes(draw, shape=(40, 60)):
    edges = [sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape]
    return Box(tuple(a for a, _ in edges), tuple(b for _, b in edges))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(corners, corners, corners), min_size=1, max_size=6), boxes())
def test_any_box_has_the_same_voxels(tmp_path_factory, triangles, box):
    shapes = [shapely.convex_hull(shapely.MultiPoint(points)) for points in triangles]
    shapes = [*(s for s in shapes if s.geom_type == "Polygon" and s.is_valid), shapely.box(1, 1, 2, 2)]
    path = save(tmp_path_factory.mktemp("v") / "a.json", *(feature(s, f"c{i}") for i, s in enumerate(shapes)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "BLOCK", 16)
        with open_vectors(path, PLAIN) as source:
            np.testing.assert_array_equal(source.read(box)[0], whole(source)[box.slices])
            centres = np.indices(PLAIN.shape) + 0.5
            for shape, value in zip(shapes, (source.classes[f"c{i}"] for i in range(len(shapes))), strict=True):
                inside = shapely.contains_xy(shape.buffer(-1e-6), centres[1], centres[0])
                assert (whole(source)[inside] >= value).all()


def test_a_polygon_around_everything_covers_what_is_below(tmp_path):
    path = save(
        tmp_path / "a.json", feature(RING, "a"), feature(shapely.box(-9, -9, 99, 99), "b"), feature(RING, "c")
    )
    with open_vectors(path, PLAIN) as source:
        np.testing.assert_array_equal(whole(source), np.where(drawn(RING), 3, 2))


def test_classes_are_numbered_as_they_come_or_as_they_are_named(tmp_path):
    path = save(
        tmp_path / "a.json", *(feature(RING, name, kind=i) for i, name in enumerate(("tumour", "gland"), 5))
    )
    with open_vectors(path, PLAIN) as source:
        assert source.classes == {"tumour": 1, "gland": 2}
    with open_vectors(path, PLAIN, classes={"gland": 9, "stroma": 1, "tumour": 0}) as source:
        assert set(np.unique(whole(source))) == {0, 9}
    with open_vectors(path, PLAIN, attribute="kind") as source:
        assert source.classes == {"5": 1, "6": 2}


def test_what_qupath_writes(tmp_path):
    """Objects with an objectType are in pixels, even of an image on Earth; a derived class has several names."""
    found = [feature(RING, "a", objectType="annotation"), feature(TRIANGLE, objectType="annotation")]
    found.append(feature(shapely.box(0, 0, 1, 1), objectType="annotation"))
    found[2]["properties"]["classification"] = {"names": ["Tumor", "Positive"]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(found))
    with open_vectors(path, ON_EARTH) as source:
        assert source.classes == {"a": 1, "unclassified": 2, "Tumor: Positive": 3}
        np.testing.assert_array_equal(whole(source), drawn(RING, TRIANGLE, shapely.box(0, 0, 1, 1)))
        assert source.geo.nodata is None


def in_utm(shape):
    return shapely.transform(shape, lambda p: np.stack([500_000 + 2 * p[:, 0], 4_000_000 - 2 * p[:, 1]], axis=1))


@pytest.mark.parametrize(
    ("crs", "members"),
    [
        ("EPSG:32618", {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32618"}}}),
        ("EPSG:3857", {"crs": {"type": "name", "properties": {"name": "EPSG:3857"}}}),
        ("EPSG:4326", {}),
        ("EPSG:4326", {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}}),
    ],
)
def test_geojson_is_brought_to_the_system_of_the_image(tmp_path, crs, members):
    shapes = [transform_geom("EPSG:32618", crs, mapping(in_utm(s))) for s in (TRIANGLE, RING)]
    path = save(tmp_path / "a.json", *(feature(shapely.geometry.shape(s)) for s in shapes), **members)
    with open_vectors(path, ON_EARTH) as source:
        np.testing.assert_array_equal(whole(source), drawn(TRIANGLE, RING) > 0)


def test_a_system_of_null_is_pixels(tmp_path):
    with open_vectors(save(tmp_path / "a.json", feature(RING), crs=None), ON_EARTH) as source:
        np.testing.assert_array_equal(whole(source), drawn(RING))


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "shp"])
@pytest.mark.parametrize("crs", ["EPSG:32618", "EPSG:4326"])
def test_other_vector_files(tmp_path, ending, crs):
    shapes = [
        shapely.geometry.shape(transform_geom("EPSG:32618", crs, mapping(in_utm(s)))) for s in (TRIANGLE, RING)
    ]
    path = saved_layer(tmp_path / f"a.{ending}", *shapes, crs=crs, layer="a", kind=["x", "y"])
    with open_vectors(path, ON_EARTH, attribute="kind") as source:
        found, order = whole(source), [source.classes[k] for k in "xy"]
    assert sorted(order) == [1, 2]  # FlatGeobuf keeps its features in an order of its own
    first = drawn(TRIANGLE, RING) if order == [1, 2] else drawn(RING, TRIANGLE)
    np.testing.assert_array_equal(found, first)


def test_a_file_without_a_system_is_in_pixels(tmp_path):
    with pytest.warns(UserWarning, match="crs"):
        path = saved_layer(tmp_path / "a.gpkg", RING, crs=None)
    with open_vectors(path, ON_EARTH) as source:
        np.testing.assert_array_equal(whole(source), drawn(RING))


def test_layers_are_named(tmp_path):
    path = saved_layer(tmp_path / "a.gpkg", in_utm(TRIANGLE))
    saved_layer(path, in_utm(RING), layer="two", append=True)
    with open_vectors(path, ON_EARTH, layer="two") as source:
        np.testing.assert_array_equal(whole(source), drawn(RING))
    with pytest.raises(
        VolumeError, match="2 layers, and one must be named; its layers with geometry are one, two"
    ):
        open_vectors(path, ON_EARTH)
    with pytest.raises(VolumeError, match="no layer 'six' in it"):
        open_vectors(path, ON_EARTH, layer="six")


BOWTIE = shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            [feature(RING), feature(shapely.LineString([(0, 0), (5, 5)]))],
            "feature 2 is a LineString; only polygons",
        ),
        ([feature(shapely.Point(3, 3))], "feature 1 is a Point"),
        ([feature(shapely.GeometryCollection([RING]))], "feature 1 is a GeometryCollection"),
        ([feature(RING), feature(BOWTIE)], r"feature 2 is no valid polygon \(Self-intersection"),
        ([feature(None)], "there is no polygon in it"),
        (
            [feature(shapely.box(70, 0, 90, 9))],
            r"none of its 1 polygon.s. is in the image: they span voxels 0:9,70:90",
        ),
        (
            [{**feature(RING), "geometry": {"type": "Polygon", "coordinates": 3}}],
            "feature 1 has no geometry that can be",
        ),
        ([{"type": "Thing"}], "neither a FeatureCollection, a list of features nor a feature"),
    ],
)
def test_features_that_are_refused(tmp_path, found, message):
    with pytest.raises(VolumeError, match=message):
        open_vectors(save(tmp_path / "a.json", *found), PLAIN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attribute": "kind"}, "feature 2 has no 'kind', .* the attributes are classification, kind"),
        ({"layer": "x"}, "a GeoJSON has no layers"),
        ({"classes": {"a": 1}}, "no class id is given for b; it is for a"),
        ({"classes": {"a": 1, "b": 256}}, "class ids are 0 to 255, not b = 256"),
    ],
)
def test_classes_that_are_refused(tmp_path, options, message):
    path = save(tmp_path / "a.json", feature(RING, "a", kind=1), feature(RING, "b"))
    with pytest.raises(VolumeError, match=message):
        open_vectors(path, PLAIN, **options)


def test_an_attribute_that_is_not_there(tmp_path):
    path = saved_layer(tmp_path / "a.gpkg", in_utm(RING), kind=["x"])
    with pytest.raises(VolumeError, match="no attribute 'sort'; it has kind"):
        open_vectors(path, ON_EARTH, attribute="sort")
    path = saved_layer(tmp_path / "b.gpkg", in_utm(RING), in_utm(RING), size=[1.0, np.nan])
    with pytest.raises(VolumeError, match="feature 2 has no 'size'"):
        open_vectors(path, ON_EARTH, attribute="size")


@pytest.mark.parametrize(
    ("crs", "like", "message"),
    [
        (
            {"type": "name", "properties": {"name": "EPSG:4326"}},
            PLAIN,
            "of EPSG:4326, but the image has no coordinate",
        ),
        ({"type": "name", "properties": {"name": "Mars"}}, ON_EARTH, "'Mars' is unknown"),
        ({"type": "link"}, ON_EARTH, "its member crs is .* which names no system"),
        ("EPSG:4326", ON_EARTH, "its member crs is"),
    ],
)
def test_systems_that_are_refused(tmp_path, crs, like, message):
    with pytest.raises(VolumeError, match=message):
        open_vectors(save(tmp_path / "a.json", feature(RING), crs=crs), like)


def test_a_polygon_where_the_system_does_not_reach(tmp_path):
    far = save(tmp_path / "a.json", feature(shapely.box(-200_000, 100_000, 999_999, 9_000_000)))
    with pytest.raises(
        VolumeError, match="feature 1 lies where EPSG:32618, the system of the image, does not reach"
    ):
        open_vectors(far, ON_EARTH)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "no vector format that is read"),
        (b"{oops", "cannot be read"),
        (b"SQLite format 3\x00 oops", "cannot be read"),
    ],
)
def test_files_that_are_damaged_or_no_polygons(tmp_path, content, message):
    (tmp_path / "a.gpkg").write_bytes(content)
    with pytest.raises(VolumeError, match=message):
        open_vectors(tmp_path / "a.gpkg", PLAIN)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(VolumeError, match="there is no such file"):
        open_vectors(tmp_path / "a.gpkg", PLAIN)


@pytest.mark.parametrize(("module", "name"), [(features, "shapely"), (vectors, "rasterio")])
def test_without_the_extra(tmp_path, monkeypatch, module, name):
    monkeypatch.setattr(module, name, None)
    with pytest.raises(InputError, match=r"pip install 'overtile\[geo\]'"):
        open_vectors(tmp_path / "a.gpkg", PLAIN)


@needs_real
@pytest.mark.parametrize(
    ("image", "polygons"),
    [
        ("massachusetts/22978945_15.tif", "massachusetts/22978945_15_buildings.gpkg"),
        ("newbrunswick/23322E759967N_1of2.tif", "newbrunswick/BakerLake_2017_landcover.gpkg"),
        ("spacenet4_atlanta_pan/sample_geotiff.tif", "spacenet4_atlanta_pan/buildings.geojson"),
    ],
)
def test_real_polygons(image, polygons):
    with open_source(REAL / image) as found:
        like = Like(found.shape, found.space, found.geo)
    shapes = shapely.from_wkb(pyogrio.raw.read(REAL / polygons, force_2d=True)[2])
    with rasterio.open(REAL / image) as raster:
        expected = rasterize(list(shapes), raster.shape, transform=raster.transform, dtype="uint8")
    with open_vectors(REAL / polygons, like) as source:
        np.testing.assert_array_equal(whole(source), expected)
