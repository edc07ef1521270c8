import numpy as np
import pytest

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume.sources import map_values
from pipeline.volume.sources.source import array_source

LABELS = np.array([[0, 255, 255], [255, 0, 255]], "u1")
WHOLE = Box((0, 0), (2, 3))


def source(voxels, axes="yx"):
    return array_source("labels", np.asarray(voxels), axes)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "i8", "f4"])
def test_values_become_class_ids(dtype):
    mapped = map_values(source(LABELS.astype(dtype)), values={0: 1, 255: 0})
    assert (mapped.dtype, mapped.channels, mapped.shape, mapped.count) == (np.uint8, None, (2, 3), 2)
    read = mapped.read(WHOLE)
    assert read.dtype == np.uint8
    assert read.tolist() == [[[1, 0, 0], [0, 1, 0]]]
    assert mapped.read(Box((1, 0), (2, 2))).tolist() == [[[0, 1]]]


def test_bits_and_values_beyond_the_dtype():
    assert map_values(source(LABELS > 9), values={0: 1, 1: 0, 700: 2}).read(WHOLE).tolist() == [
        [[1, 0, 0], [0, 1, 0]]
    ]
    assert map_values(source(LABELS), values={0: 1, 255: 0, -1: 2}).count == 3


@pytest.mark.parametrize(
    ("threshold", "expected"), [(127, [[0, 1, 1], [1, 0, 1]]), (255, [[0] * 3] * 2), (-1.5, [[1] * 3] * 2)]
)
def test_above_the_threshold_is_class_one(threshold, expected):
    mapped = map_values(source(LABELS), threshold=threshold)
    assert mapped.read(WHOLE).tolist() == [expected]
    assert mapped.count == 2


def test_class_ids_stay_and_may_be_unlabelled():
    mapped = map_values(source([[0, 1, 2], [2, 255, 0]]), classes=("a", "b", "c"))
    assert mapped.read(WHOLE).tolist() == [[[0, 1, 2], [2, 255, 0]]]
    kept = map_values(source(LABELS), values={0: 0, 255: 255}, classes=("a",))
    assert kept.read(WHOLE).tolist() == [LABELS.tolist()]


def test_the_only_channel_is_the_class_map():
    assert map_values(source(LABELS[np.newaxis], "cyx"), threshold=9).read(WHOLE).shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("voxels", "options", "message"),
    [
        (
            LABELS,
            {"values": {255: 1}},
            "labels, voxel 0,0: value 0, but the map has 255; add it, or use --threshold",
        ),
        (LABELS, {"values": {0: 1}}, "labels, voxel 0,1: value 255, but the map has 0;"),
        (LABELS, {"values": {}}, "value 0, but the map has ;"),
        ([[0, 1, 2], [3, 1, 9]], {"classes": ("a", "b", "c")}, "voxel 1,0: value 3, but there are 3 classes"),
        ([[0, 1, -2], [3, 1, 9]], {"classes": ("a", "b", "c", "d")}, "voxel 0,2: value -2, but"),
        ([[0, 0.5, 1]] * 2, {"values": {0: 0, 1: 1}}, "voxel 0,1: value 0.5, but"),
    ],
)
def test_other_values_are_refused_where_they_are(voxels, options, message):
    mapped = map_values(source(voxels), **options)
    with pytest.raises(VolumeError, match=message):
        mapped.read(WHOLE)


def test_the_place_is_the_one_in_the_volume_not_in_the_box():
    mapped = map_values(source([[0, 0, 0], [0, 0, 7]]), values={0: 0})
    with pytest.raises(VolumeError, match="voxel 1,2: value 7"):
        mapped.read(Box((1, 1), (2, 3)))


@pytest.mark.parametrize(
    ("voxels", "axes", "options", "message"),
    [
        (np.zeros((3, 2, 3), "u1"), "cyx", {"threshold": 1}, "it has 3 channels; a class map has one"),
        (LABELS, "yx", {"threshold": 1, "values": {0: 1}}, "a map of values or a threshold, not both"),
        (LABELS / 255, "yx", {"classes": ("a", "b")}, "float64 voxels are no class ids"),
        (LABELS, "yx", {}, "voxels are no class ids"),
        (LABELS, "yx", {"values": {0: 2}, "classes": ("a", "b")}, "class ids 2 with 2 classes"),
        (LABELS, "yx", {"values": {0: -1}}, "class ids -1 with 0 classes"),
        (LABELS, "yx", {"values": {0: 256}}, "class ids 256 with 257 classes"),
        (LABELS, "yx", {"threshold": 3, "classes": ("a",)}, "class ids 0, 1 with 1 classes"),
        (LABELS, "yx", {"classes": ()}, "with 0 classes"),
        (LABELS, "yx", {"classes": [str(i) for i in range(256)]}, "with 256 classes"),
    ],
)
def test_maps_that_cannot_be_are_refused(voxels, axes, options, message):
    with pytest.raises(VolumeError, match=message):
        map_values(source(voxels, axes), **options)


def test_closing_closes_what_is_below():
    closed = []
    below = array_source("labels", LABELS, "yx", closing=lambda: closed.append(True))
    with map_values(below, threshold=3):
        pass
    assert closed == [True]
