import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import VolumeError
from pipeline.volume import Space
from pipeline.volume.ngff import (
    channel_names,
    image_attributes,
    older_attributes,
    read_channels,
    read_classes,
    read_levels,
    read_version,
)
from pipeline.volume.space import check_axes, check_one_time

SPACE = Space("zyx", (50.0, 4.0, 4.0), (1.0, 2.0, 3.0), "nanometer")


def image(*steps, axes=None, outer=()):
    """Return attributes of version 0.4 with one level."""
    axes = axes or [{"name": a, "unit": "micrometer"} for a in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": list(steps)}]
    return {"multiscales": [{"axes": axes, "datasets": datasets, "coordinateTransformations": list(outer)}]}


def scale(*values):
    return {"type": "scale", "scale": list(values)}


def translation(*values):
    return {"type": "translation", "translation": list(values)}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (image(), Space("yx", (1, 1), (0, 0), "micrometer")),
        (image(scale(2, 3)), Space("yx", (2, 3), (0, 0), "micrometer")),
        (image(scale(2, 3), translation(5, 7)), Space("yx", (2, 3), (5, 7), "micrometer")),
        (
            image(scale(2, 3), translation(5, 7), outer=[scale(10, 10)]),
            Space("yx", (20, 30), (50, 70), "micrometer"),
        ),
        (image(scale(2, 3), outer=[translation(1, 1)]), Space("yx", (2, 3), (1, 1), "micrometer")),
        (image({"type": "identity"}), Space("yx", (1, 1), (0, 0), "micrometer")),
        (image(axes=["y", "x"]), Space("yx", (1, 1), (0, 0), None)),
        (image(axes=[{"name": "Y", "unit": "a"}, {"name": "X", "unit": "b"}]), Space("yx", (1, 1), (0, 0), None)),
    ],
)
def test_space_of_a_level(attributes, expected):
    (level,) = read_levels(attributes, where="here")
    assert level.space() == expected


def test_images_before_0_4_have_five_axes():
    attributes = {"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]}
    (level,) = read_levels(attributes, where="here")
    assert level.axes == "tczyx"
    assert level.space() == Space.unscaled("zyx")


@pytest.mark.parametrize("attributes", [{}, {"ome": {"version": "0.5"}}, {"multiscales": []}, {"ome": 3}])
def test_other_groups_are_no_image(attributes):
    assert read_levels(attributes, where="here") is None


@pytest.mark.parametrize("factors", [(0, 1), (-1, 1), (float("nan"), 1), (float("inf"), 1), (1, 1, 1), ("a", 1)])
def test_scales_that_are_none_are_refused(factors):
    with pytest.raises(VolumeError, match="here: broken OME-NGFF metadata"):
        read_levels(image(scale(*factors)), where="here")


@pytest.mark.parametrize("broken", [{"multiscales": {"a": 1}}, {"multiscales": [3]}, {"multiscales": "image"}])
def test_other_things_called_multiscales_are_refused(broken):
    with pytest.raises(VolumeError, match="broken OME-NGFF metadata"):
        read_levels(broken, where="here")


@pytest.mark.parametrize(
    ("axes", "classes"), [("zyx", None), ("czyx", ["a", "b"]), ("zyx", [str(i) for i in range(20)])]
)
def test_what_is_written_reads_back(axes, classes):
    levels = [("0", SPACE), ("1", SPACE.coarser((1, 2, 2)))]
    attributes = {"ome": image_attributes("name", axes, levels, classes=classes)}
    read = read_levels(attributes, where="here")
    assert [(level.path, level.space()) for level in read] == levels
    assert [level.axes for level in read] == [axes, axes]
    assert read_classes(attributes) == classes
    assert read_version(attributes) == "0.5"


def test_unknown_units_are_not_written():
    attributes = image_attributes("name", "yx", [("0", Space.unscaled("yx"))])
    assert [set(axis) for axis in attributes["multiscales"][0]["axes"]] == [{"name", "type"}] * 2


def test_colours_of_classes_differ_and_the_background_is_transparent():
    label = image_attributes("n", "yx", [("0", Space.unscaled("yx"))], classes=list("abcdefgh"))["image-label"]
    colours = [tuple(entry["rgba"]) for entry in label["colors"]]
    assert len(set(colours)) == 8
    assert [c[3] for c in colours] == [0] + [255] * 7


@pytest.mark.parametrize(
    ("attributes", "version"),
    [
        ({}, None),
        ({"multiscales": [{"version": "0.4"}]}, "0.4"),
        ({"multiscales": [{}]}, "unknown"),
        ({"ome": {"version": "0.5"}}, "0.5"),
    ],
)
def test_version(attributes, version):
    assert read_version(attributes) == version


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        ({"colors": [{"label-value": 2, "rgba": [0, 0, 0, 0]}]}, ["0", "1", "2"]),
        ({"properties": [{"label-value": 1, "class": "cell"}]}, ["0", "cell"]),
        ({}, []),
    ],
)
def test_classes_without_names_are_numbers(label, classes):
    assert read_classes({"image-label": label}) == classes
    assert read_classes({"ome": {"image-label": label}}) == classes


sizes = st.tuples(*[st.floats(0.01, 100)] * 2)


@given(sizes, st.tuples(*[st.integers(1, 4)] * 2), st.tuples(*[st.integers(1, 4)] * 2))
def test_coarser_levels_compose_and_keep_the_far_corner(size, first, second):
    space = Space("yx", size, (3.0, -2.0))
    twice = space.coarser(first).coarser(second)
    once = space.coarser(tuple(a * b for a, b in zip(first, second, strict=True)))
    assert twice.voxel_size == pytest.approx(once.voxel_size)
    assert twice.translation == pytest.approx(once.translation)
    corner = [t - s / 2 for t, s in zip(once.translation, once.voxel_size, strict=True)]
    assert corner == pytest.approx([t - s / 2 for t, s in zip(space.translation, size, strict=True)])


def test_a_box_of_a_volume_lies_where_its_first_voxel_lies():
    assert SPACE.moved((2, 0, 1)).translation == (101.0, 2.0, 7.0)


def test_axes_and_time_points():
    assert check_axes("CYX", 3, where="here") == "cyx"
    check_one_time("tyx", (1, 5, 5), where="here")
    with pytest.raises(VolumeError, match="here: axes 'yxy' cannot be used; give each of"):
        check_axes("yxy", 3, where="here")
    with pytest.raises(VolumeError, match="here: it has 4 time points"):
        check_one_time("ytx", (5, 4, 5), where="here")


LEVELS = [("0", Space.unscaled("yx"))]


@pytest.mark.parametrize(
    ("channels", "colours"),
    [
        (["red", "Green", "B"], ["FF0000", "00FF00", "0000FF"]),
        (["nir"], ["FFFFFF"]),
        (["background", "cell"], ["000000", "E69F00"]),
        (["glass", "cell"], ["E69F00", "56B4E9"]),
    ],
)
def test_channels_have_names_colours_and_a_window(channels, colours):
    ome = image_attributes("n", "cyx", LEVELS, channels=channels, window=(5, 900))
    assert [c["label"] for c in ome["omero"]["channels"]] == channels
    assert [c["color"] for c in ome["omero"]["channels"]] == colours
    window = {"min": 5, "max": 900, "start": 5, "end": 900}
    assert all(c["window"] == window and c["active"] for c in ome["omero"]["channels"])
    assert read_channels({"ome": ome}) == channels


def test_the_same_is_said_in_0_4_in_other_places():
    ome = image_attributes("n", "cyx", LEVELS, classes=["a", "b"], channels=["a", "b"])
    older = older_attributes(ome)
    assert set(older) == {"multiscales", "image-label", "omero"}
    assert read_version(older) == "0.4"
    assert older["image-label"]["version"] == older["omero"]["version"] == "0.4"
    assert read_classes(older) == read_channels(older) == ["a", "b"]
    assert read_levels(older, where="here") == read_levels({"ome": ome}, where="here")
    assert ome["image-label"]["version"] == "0.5"
    assert set(older_attributes(image_attributes("n", "yx", LEVELS))) == {"multiscales"}


@pytest.mark.parametrize(
    "omero",
    [None, 3, {}, {"channels": []}, {"channels": [3]}, {"channels": [{"label": "a"}, {"color": "FFFFFF"}]}],
)
def test_channels_without_names_have_none(omero):
    assert read_channels({"omero": omero}) is None


@pytest.mark.parametrize(
    ("channels", "expected"), [(None, None), (1, ("c",)), (2, ("a", "b")), (3, ("a", "b", "c")), (4, None)]
)
def test_names_of_channels_that_hold_classes(channels, expected):
    assert channel_names(["a", "b", "c"], channels) == expected
