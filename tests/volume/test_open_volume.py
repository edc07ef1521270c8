import itertools
import json

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from volumes import SHAPES, channels_first, numbers, save, save_ome

from pipeline.errors import MissingChunkError, VolumeError
from pipeline.geometry import Box
from pipeline.store import LocalPlace
from pipeline.volume import Space, open_volume
from pipeline.volume.volume import keys_present

AXES = ["yx", "cyx", "yxc", "zyx", "czyx", "tczyx", "zcyx", "tyx"]
LAYOUTS = [(2, False), (3, False), (3, True)]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """One volume of every layout, and what it holds."""
    root = tmp_path_factory.mktemp("layouts")
    made = []
    for axes, (zarr_format, sharded) in itertools.product(AXES, LAYOUTS):
        path = root / f"{axes}{zarr_format}{sharded}.zarr"
        data = numbers(axes)
        save(path, data, axes, zarr_format=zarr_format, sharded=sharded)
        made.append((open_volume(path, axes=axes), channels_first(data, axes)))
    return made


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_as_channels_and_space(tmp_path, axes, layout):
    zarr_format, sharded = layout
    data = numbers(axes)
    save(tmp_path / "a", data, axes, zarr_format=zarr_format, sharded=sharded)
    volume = open_volume(tmp_path / "a", axes=axes)
    spatial = "".join(a for a in "zyx" if a in axes)
    assert volume.axes == axes
    assert volume.space == Space.unscaled(spatial)
    assert volume.shape == tuple(SHAPES[a] for a in spatial)
    assert volume.box == Box.of_shape(volume.shape)
    assert volume.channels == (3 if "c" in axes else 1)
    assert volume.dtype == np.uint16
    assert volume.metadata["zarr_format"] == zarr_format
    assert "attributes" not in volume.metadata
    np.testing.assert_array_equal(volume.read(volume.box), channels_first(data, axes))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_box_of_any_layout_is_the_numpy_slice(layouts, data):
    volume, voxels = data.draw(st.sampled_from(layouts))
    edges = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in volume.shape]
    box = Box(tuple(a for a, _ in edges), tuple(b for _, b in edges))
    read = volume.read(box)
    assert read.shape == (volume.channels, *box.shape)
    np.testing.assert_array_equal(read, voxels[(slice(None), *box.slices)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_boxes_over_the_border_show_what_numpy_reflects(layouts, data):
    volume, voxels = data.draw(st.sampled_from(layouts))
    start = tuple(data.draw(st.integers(-25, n)) for n in volume.shape)
    stop = tuple(a + data.draw(st.integers(1, 40)) for a in start)
    widths = [(max(0, -a), max(0, b - n)) for a, b, n in zip(start, stop, volume.shape, strict=True)]
    reflected = np.pad(voxels, [(0, 0), *widths], mode="reflect")
    cut = tuple(slice(a + w, b + w) for a, b, (w, _) in zip(start, stop, widths, strict=True))
    np.testing.assert_array_equal(volume.read_shown(Box(start, stop)), reflected[(slice(None), *cut)])


@pytest.mark.parametrize("dtype", ["?", "i1", "u4", "i8", "f2", "f4", "f8"])
def test_dtypes(tmp_path, dtype):
    data = numbers("yx", dtype)
    save(tmp_path / "a", data, "yx")
    volume = open_volume(tmp_path / "a")
    assert volume.dtype == dtype
    np.testing.assert_array_equal(volume.read(volume.box)[0], data)


def test_other_byte_order_is_read_as_native(tmp_path):
    data = numbers("yx", ">u2")
    save(tmp_path / "a", data, zarr_format=2)
    volume = open_volume(tmp_path / "a")
    read = volume.read(volume.box)
    assert volume.dtype == np.dtype("u2")
    assert read.dtype.isnative
    np.testing.assert_array_equal(read[0], data)


def test_axes_are_known_by_names_by_attribute_or_by_being_two(tmp_path):
    save(tmp_path / "named", numbers("zyx"), "zyx")
    assert open_volume(tmp_path / "named").axes == "zyx"
    array = save(tmp_path / "xarray", numbers("cyx"), zarr_format=2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["c", "y", "x"]
    assert open_volume(tmp_path / "xarray").axes == "cyx"
    save(tmp_path / "flat", numbers("yx"), zarr_format=2)
    assert open_volume(str(tmp_path / "flat")).axes == "yx"
    assert open_volume(tmp_path / "named", axes="CYX").axes == "cyx"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_of_ome_images(tmp_path, version):
    levels = [numbers("czyx"), numbers("czyx")[:, ::2, ::2, ::2]]
    save_ome(tmp_path / "a", levels, "czyx", version=version)
    for i, data in enumerate(levels):
        volume = open_volume(tmp_path / "a", level=i)
        assert volume.levels == ("s0", "s1")
        assert volume.level == i
        assert volume.space == Space("zyx", (2.0**i,) * 3, (10.0,) * 3, "micrometer")
        np.testing.assert_array_equal(volume.read(volume.box), data)


def test_axes_said_by_the_user_win_over_the_metadata(tmp_path):
    save_ome(tmp_path / "a", [numbers("zyx")], "zyx", version="0.5")
    volume = open_volume(tmp_path / "a", axes="cyx")
    assert volume.channels == SHAPES["z"]
    assert volume.space == Space.unscaled("yx")


def test_the_only_array_of_a_plain_group_is_opened(tmp_path):
    zarr.create_group(str(tmp_path / "g"))
    save(tmp_path / "g", numbers("yx"), "yx", name="raw")
    assert open_volume(tmp_path / "g").levels == ("raw",)


@pytest.mark.parametrize(
    ("layout", "key", "separator"),
    [((2, False), "1.1", "."), ((3, False), "c/1/1", "/"), ((3, True), "c/1/1", "/")],
)
def test_a_missing_chunk_is_found(tmp_path, layout, key, separator):
    zarr_format, sharded = layout
    data = numbers("yx")
    save(tmp_path / "a", data, "yx", zarr_format=zarr_format, sharded=sharded)
    (tmp_path / "a" / key).unlink()
    volume = open_volume(tmp_path / "a")
    side = 8 if sharded else 4
    hole = Box((side, side), (side + 1, side + 1))
    assert volume.missing(volume.box) == [key]
    assert volume.missing(hole) == [key]
    assert volume.missing(Box((0, 0), (side, side))) == []
    with pytest.raises(MissingChunkError, match=r"1 stored chunk\(s\) below voxels .* are missing"):
        volume.read(hole)
    with pytest.raises(MissingChunkError):
        volume.read_shown(Box((-2 * side, -2 * side), (0, 0)))
    expected = data.copy()
    expected[side : 2 * side, side : 2 * side] = 0
    np.testing.assert_array_equal(volume.read(volume.box, holes="background")[0], expected)


def test_a_hole_reads_as_the_fill_value(tmp_path):
    zarr.create_array(str(tmp_path / "a"), shape=(4, 4), chunks=(2, 2), dtype="u1", fill_value=7)
    volume = open_volume(tmp_path / "a")
    assert len(volume.missing(volume.box)) == 4
    assert (volume.read(volume.box, holes="background") == 7).all()
    with pytest.raises(MissingChunkError, match=r"4 stored chunk.* \.\.\.\)"):
        volume.check_present(volume.box)


def test_a_missing_channel_of_a_box_is_missing_from_it(tmp_path):
    save(tmp_path / "a", numbers("cyx"), "cyx", chunks=(1, 4, 4))
    (tmp_path / "a" / "c" / "2" / "0" / "0").unlink()
    assert open_volume(tmp_path / "a").missing(Box((0, 0), (1, 1))) == ["c/2/0/0"]


def test_presence_of_keys(tmp_path):
    save(tmp_path / "a", numbers("yx"), "yx")
    (tmp_path / "a" / "c" / "0" / "1").write_bytes(b"")
    assert keys_present(LocalPlace(tmp_path / "a"), ["c/0/0", "c/0/1", "c/9/9", "zarr.json/0"]) == [True] + 3 * [
        False
    ]


def test_storage_grid_counts_shards_where_there_are_some(tmp_path):
    save(tmp_path / "a", numbers("cyx"), "cyx", sharded=True)
    save(tmp_path / "b", numbers("cyx"), "cyx")
    assert open_volume(tmp_path / "a").storage_grid.chunk == (6, 8, 8)
    assert open_volume(tmp_path / "b").storage_grid.chunk == (3, 4, 4)


def plain(path, **changes):
    """Write a Zarr v2 array's document alone."""
    path.mkdir()
    document = {
        "zarr_format": 2,
        "shape": [4, 4],
        "chunks": [2, 2],
        "dtype": "|u1",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    (path / ".zarray").write_text(json.dumps(document | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "|O", "filters": [{"id": "pickle"}]}, r"'\|O' is not numeric"),
        ({"dtype": "|O", "filters": [{"id": "vlen-utf8"}]}, r"'\|O' is not numeric"),
        ({"dtype": [["a", "<u2"]]}, "is not numeric"),
        ({"dtype": "<U4", "fill_value": ""}, "is not numeric"),
        ({"dtype": "|S4", "fill_value": ""}, "is not numeric"),
        ({"dtype": "<M8[s]"}, "is not numeric"),
        ({"dtype": "<c8", "fill_value": [0.0, 0.0]}, "is not numeric"),
        ({"dtype": "what"}, "cannot be opened as Zarr"),
        ({"shape": [4], "chunks": [2]}, "1 axes; a volume has 2 to 5"),
        ({"shape": [1] * 6, "chunks": [1] * 6}, "6 axes; a volume has 2 to 5"),
        ({"shape": [0, 4]}, r"shape \(0, 4\) holds no voxel"),
        ({"shape": [4, 4, 4], "chunks": [2, 2, 2]}, "does not name its axes; say them with --axes"),
    ],
)
def test_arrays_that_are_no_volume_are_refused(tmp_path, changes, message):
    with pytest.raises(VolumeError, match=message):
        open_volume(plain(tmp_path / "a", **changes))


def test_strings_of_zarr_v3_are_refused(tmp_path):
    zarr.create_array(str(tmp_path / "a"), shape=(2, 2), dtype="str")
    with pytest.raises(VolumeError, match="is not numeric"):
        open_volume(tmp_path / "a")


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("yx", "name 2 axes, but the array has 3"),
        ("qyx", "cannot be used"),
        ("yyx", "cannot be used"),
        ("xyz", "cannot be used"),
        ("cxy", "cannot be used"),
        ("tcx", "cannot be used"),
        ("tyx", "it has 5 time points"),
    ],
)
def test_axes_that_cannot_be_are_refused(tmp_path, axes, message):
    save(tmp_path / "a", numbers("zyx"), "zyx")
    with pytest.raises(VolumeError, match=message):
        open_volume(tmp_path / "a", axes=axes)


def test_places_without_a_volume_are_refused(tmp_path):
    with pytest.raises(VolumeError, match="no such file or folder"):
        open_volume(tmp_path / "missing")
    with pytest.raises(VolumeError, match="not a Zarr array or group"):
        open_volume(tmp_path)
    file = tmp_path / "a.txt"
    file.write_text("hello")
    with pytest.raises(VolumeError, match="not a Zarr array or group"):
        open_volume(file)


@pytest.mark.parametrize("text", ["{", "[1]", "null", '"text"'])
@pytest.mark.parametrize("document", ["zarr.json", ".zarray", ".zgroup"])
def test_broken_documents_are_refused(tmp_path, document, text):
    (tmp_path / document).write_text(text)
    with pytest.raises(VolumeError, match=document.replace(".", r"\.")):
        open_volume(tmp_path)


def test_a_document_of_no_array_and_no_group_is_refused(tmp_path):
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "tree"}')
    with pytest.raises(VolumeError, match="cannot be opened as Zarr"):
        open_volume(tmp_path)


@pytest.mark.parametrize("level", [-1, 2])
def test_levels_out_of_range_are_refused(tmp_path, level):
    save_ome(tmp_path / "a", [numbers("yx"), numbers("yx")], "yx", version="0.5")
    with pytest.raises(VolumeError, match=f"there is no level {level}; it has levels 0 to 1"):
        open_volume(tmp_path / "a", level=level)
    save(tmp_path / "b", numbers("yx"), "yx")
    with pytest.raises(VolumeError, match="levels 0 to 0"):
        open_volume(tmp_path / "b", level=1)


@pytest.mark.parametrize("count", [0, 2])
def test_plain_groups_with_no_or_several_arrays_are_refused(tmp_path, count):
    zarr.create_group(str(tmp_path / "g"))
    for i in range(count):
        save(tmp_path / "g", numbers("yx"), "yx", name=f"raw{i}")
    with pytest.raises(VolumeError, match=r"name one of its arrays \((none|raw0, raw1)\)"):
        open_volume(tmp_path / "g")


def test_object_arrays_below_a_group_are_refused(tmp_path):
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    plain(tmp_path / "raw", dtype="|O", filters=[{"id": "pickle"}])
    with pytest.raises(VolumeError, match=r"cannot be opened .*\|O"):
        open_volume(tmp_path)
    dataset = {"path": "raw", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}
    multiscales = [{"version": "0.4", "axes": [{"name": "y"}, {"name": "x"}], "datasets": [dataset]}]
    (tmp_path / ".zattrs").write_text(json.dumps({"multiscales": multiscales}))
    with pytest.raises(VolumeError, match="raw"):
        open_volume(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i["datasets"][0].pop("path"), "broken OME-NGFF metadata"),
        (lambda i: i.pop("datasets"), "broken OME-NGFF metadata"),
        (lambda i: i["axes"][0].pop("name"), "broken OME-NGFF metadata"),
        (lambda i: i["axes"][0].update(name="depth"), "broken OME-NGFF metadata"),
        (lambda i: i["axes"].pop(), "broken OME-NGFF metadata"),
        (
            lambda i: i["datasets"][0]["coordinateTransformations"][0].update(scale=[1.0]),
            "broken OME-NGFF metadata",
        ),
        (
            lambda i: i["datasets"][0]["coordinateTransformations"][0].update(scale="no"),
            "broken OME-NGFF metadata",
        ),
        (
            lambda i: i["datasets"][0]["coordinateTransformations"][0].update(scale=[0, 1]),
            "broken OME-NGFF metadata",
        ),
        (lambda i: i["datasets"][0].update(path="s9"), "level 's9' is named in the metadata but is not there"),
        (lambda i: i["datasets"][0].update(path="../../etc"), "cannot be opened"),
        (lambda i: i["datasets"][0].update(path=""), "is named in the metadata but"),
    ],
)
def test_broken_ngff_is_refused(tmp_path, change, message):
    save_ome(tmp_path / "a", [numbers("yx")], "yx", version="0.5")
    group = zarr.open_group(str(tmp_path / "a"))
    ome = group.attrs["ome"]
    change(ome["multiscales"][0])
    group.attrs["ome"] = ome
    with pytest.raises(VolumeError, match=message):
        open_volume(tmp_path / "a")


def test_metadata_and_array_of_other_axes_are_refused(tmp_path):
    save_ome(tmp_path / "a", [numbers("yx")], "yx", version="0.5")
    save_ome(tmp_path / "b", [numbers("zyx")], "zyx", version="0.5")
    ome = zarr.open_group(str(tmp_path / "b")).attrs["ome"]
    zarr.open_group(str(tmp_path / "a")).attrs["ome"] = ome
    with pytest.raises(VolumeError, match="axes 'zyx' name 3 axes, but the array has 2"):
        open_volume(tmp_path / "a")
