import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import VolumeError
from pipeline.volume.geo import Georeference, georeference_attributes, read_georeference

UTM = 'PROJCRS["WGS 84 / UTM zone 18N",BASEGEOGCRS["WGS 84",ID["EPSG",4326]],CS[Cartesian,2],ID["EPSG",32618]]'
LOCAL = 'ENGCRS["site",EDATUM["d"],CS[Cartesian,2],AXIS["x",east,LENGTHUNIT["metre",1,ID["EPSG",9001]]]]'
NORTH_UP = (0.5, 0.0, 1000.0, 0.0, -0.25, 2000.0)

numbers = st.floats(-1e7, 1e7, allow_subnormal=False)
sizes = st.floats(0.01, 1e4)


def place(transform=NORTH_UP, crs=UTM, nodata=None):
    return Georeference(crs, transform, nodata)


@pytest.mark.parametrize(
    ("crs", "code", "name"),
    [
        (UTM, "EPSG:32618", "WGS 84 / UTM zone 18N"),
        ('GEOGCS["WGS 84",DATUM["d",AUTHORITY["EPSG","6326"]],AUTHORITY["EPSG","4326"]]', "EPSG:4326", "WGS 84"),
        (LOCAL, None, "site"),
        ("EPSG:3857", "EPSG:3857", "EPSG:3857"),
    ],
)
def test_the_code_is_that_of_the_whole_system(crs, code, name):
    assert (place(crs=crs).code, place(crs=crs).name) == (code, name)


def test_the_voxel_size_has_the_order_of_the_axes():
    assert place().voxel_size == (0.25, 0.5)
    assert place((0.0, 3.0, 0.0, 4.0, 0.0, 0.0)).voxel_size == (3.0, 4.0)


@pytest.mark.parametrize("nodata", [None, 0.0, -9999.0, 1.5])
@pytest.mark.parametrize("crs", [UTM, LOCAL, "EPSG:3857"])
def test_attributes_are_read_back_from_json(crs, nodata):
    geo = place(crs=crs, nodata=nodata)
    stored = json.loads(json.dumps(georeference_attributes(geo, shape=(7, 9)), allow_nan=False))
    assert read_georeference(stored) == geo


@pytest.mark.parametrize("nodata", [math.nan, math.inf, -math.inf])
def test_nodata_that_json_has_no_number_for(nodata):
    stored = json.loads(json.dumps(georeference_attributes(place(nodata=nodata), shape=(7, 9)), allow_nan=False))
    assert str(read_georeference(stored).nodata) == str(nodata)


def test_what_readers_of_each_family_look_for():
    found = georeference_attributes(place(nodata=255.0), shape=(5, 7, 9))
    assert found["proj:code"] == "EPSG:32618"
    assert found["proj:wkt2"] == found["spatial_ref"]["crs_wkt"] == UTM
    assert found["spatial:dimensions"] == ["y", "x"]
    assert found["spatial:shape"] == [7, 9]
    assert found["spatial:transform"] == [0.5, 0.0, 1000.0, 0.0, -0.25, 2000.0]
    assert found["spatial_ref"]["GeoTransform"] == "1000.0 0.5 0.0 2000.0 0.0 -0.25"
    assert found["_FillValue"] == 255.0
    assert {c["name"] for c in found["zarr_conventions"]} == {"proj", "spatial"}
    plain = georeference_attributes(place(crs=LOCAL), shape=(7, 9))
    assert "proj:code" not in plain
    assert "_FillValue" not in plain


@pytest.mark.parametrize(
    "attributes", [{}, {"ome": {}}, {"proj:code": "EPSG:4326"}, {"spatial:transform": [1] * 6}]
)
def test_no_georeference(attributes):
    assert read_georeference(attributes) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"spatial:transform": [1, 2, 3]},
        {"spatial:transform": ["a", 0, 0, 0, 1, 0]},
        {"spatial:transform": 3},
        {"_FillValue": [1]},
        {"_FillValue": "none"},
    ],
)
def test_a_damaged_georeference_is_refused(damage):
    with pytest.raises(VolumeError, match="damaged"):
        read_georeference(georeference_attributes(place(), shape=(7, 9)) | damage)


@given(st.tuples(*[numbers] * 6), st.tuples(*[st.integers(-99, 99)] * 2), st.tuples(*[st.integers(-99, 99)] * 2))
def test_a_shift_moves_every_voxel(transform, first, second):
    a, b, c, d, e, f = transform
    found = place(transform).shifted(first).shifted(second).transform
    row, column = first[0] + second[0], first[1] + second[1]
    assert found[:2] + found[3:5] == (a, b, d, e)
    assert found[2] == pytest.approx(a * column + b * row + c, abs=1e-2)
    assert found[5] == pytest.approx(d * column + e * row + f, abs=1e-2)


@given(st.tuples(*[sizes] * 6), st.integers(1, 64), st.integers(1, 64))
def test_a_coarser_grid_has_the_same_corners(transform, fy, fx):
    geo = place(transform)
    coarse = geo.scaled((1, fy, fx))
    assert coarse.shifted((0, 0)).transform[2::3] == geo.transform[2::3]
    assert coarse.shifted((3, 5)).transform[2::3] == pytest.approx(geo.shifted((3 * fy, 5 * fx)).transform[2::3])
    assert coarse.voxel_size == pytest.approx((geo.voxel_size[0] * fy, geo.voxel_size[1] * fx))
