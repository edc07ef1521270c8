import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from volumes import numbers

import pipeline
from pipeline.config import IngestJob
from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Box
from pipeline.volume import Space, open_volume
from pipeline.volume.sources import hdf5, open_source
from pipeline.volume.sources.hdf5 import split_dataset
from pipeline.volume.sources.reading import Reading

REAL = Path(os.environ.get("OVERTILE_DATA", "../shared/data")) / "vol3d"


def write(path, *, attributes=None, labels="", **datasets):
    """Write datasets, all with the same attributes; the last part of a name says where it lies."""
    with h5py.File(path, "w") as file:
        for name, data in datasets.items():
            dataset = file.create_dataset(name.replace("__", "/"), data=data)
            dataset.attrs.update(attributes or {})
            for dimension, label in zip(dataset.dims, labels, strict=False):
                dimension.label = label
    return path


def whole(path, **options):
    with open_source(path, Reading(**options)) as source:
        return source.read(Box.of_shape(source.shape))


def axistags(axes):
    return json.dumps(
        {"axes": [{"key": axis, "typeFlags": 2, "resolution": 0, "description": ""} for axis in axes]}
    )


def channels_first(data, axes):
    order = [axes.index(a) for a in "czyx" if a in axes]
    data = data.transpose(order)
    return data if "c" in axes else data[np.newaxis]


@pytest.mark.parametrize("axes", ["yx", "zyx", "cyx", "yxc", "czyx", "zyxc"])
def test_axes_that_the_user_says(tmp_path, axes):
    data = numbers(axes)
    path = write(tmp_path / "a.h5", raw=data)
    voxels = whole(path, axes=axes)
    np.testing.assert_array_equal(voxels, channels_first(data, axes))
    assert voxels.dtype == data.dtype


@pytest.mark.parametrize("axes", ["zyx", "yxc", "zyxc", "czyx"])
def test_axes_that_the_attributes_say(tmp_path, axes):
    data = numbers(axes)
    tagged = write(tmp_path / "a.h5", raw=data, attributes={"axistags": axistags(axes)})
    labelled = write(tmp_path / "b.h5", raw=data, labels=axes)
    for path in (tagged, labelled):
        np.testing.assert_array_equal(whole(path), channels_first(data, axes))


def test_what_the_user_says_wins_over_the_attributes(tmp_path):
    data = numbers("zyx")
    path = write(tmp_path / "a.h5", raw=data, attributes={"axistags": axistags("zyx")})
    with open_source(path, Reading(axes="cyx")) as source:
        assert source.channels == len(data)


@pytest.mark.parametrize(
    ("attributes", "labels"),
    [
        ({}, ""),
        ({}, "zy"),
        ({}, ["depth", "y", "x"]),
        ({"axistags": "{"}, ""),
        ({"axistags": json.dumps({"axes": [{}]})}, ""),
        ({"axistags": 3}, ""),
        ({"element_size_um": "fine"}, ""),
        ({"element_size_um": [1.0, 1.0]}, ""),
        ({"element_size_um": [1.0, 0.0, 1.0]}, ""),
    ],
)
def test_axes_that_nothing_says_are_asked_for(tmp_path, attributes, labels):
    path = write(tmp_path / "a.h5", raw=numbers("zyx"), attributes=attributes, labels=labels)
    with pytest.raises(
        VolumeError, match=r"a\.h5::/raw: a dataset of shape .* does not name its axes; say them with"
    ):
        open_source(path)
    assert whole(path, axes="zyx").shape[0] == 1


@pytest.mark.parametrize(
    ("axes", "sizes", "expected"),
    [
        ("zyx", [0.5, 0.25, 0.125], Space("zyx", (0.5, 0.25, 0.125), (0.0,) * 3, "micrometer")),
        ("zyxc", [0.5, 0.25, 0.125], Space("zyx", (0.5, 0.25, 0.125), (0.0,) * 3, "micrometer")),
        ("yx", [0.5, 0.25, 0.125], Space("yx", (0.25, 0.125), (0.0,) * 2, "micrometer")),
        ("yx", [0.25, 0.125], Space("yx", (0.25, 0.125), (0.0,) * 2, "micrometer")),
        ("zyx", [0.25, 0.125], Space.unscaled("zyx")),
        ("zyx", [0.5, float("nan"), 0.125], Space.unscaled("zyx")),
        ("zyx", [], Space.unscaled("zyx")),
    ],
)
def test_voxel_size(tmp_path, axes, sizes, expected):
    path = write(tmp_path / "a.h5", raw=numbers(axes), attributes={"element_size_um": sizes})
    with open_source(path, Reading(axes=axes)) as source:
        assert source.space == expected
    with open_source(path, Reading(axes=axes, voxel_size=(4,) * len(expected.axes), unit="nm")) as source:
        assert source.space == Space(expected.axes, (4.0,) * len(expected.axes), expected.translation, "nanometer")


def test_three_sizes_are_of_z_y_x(tmp_path):
    path = write(tmp_path / "a.h5", raw=numbers("zyx"), attributes={"element_size_um": [3.0, 2.0, 1.0]})
    assert whole(path).shape == (1, *numbers("zyx").shape)


@pytest.mark.parametrize("dtype", ["?", "u1", ">i2", "<u4", ">f4", "f8"])
@pytest.mark.parametrize("chunks", [None, (4, 6)])
def test_dtypes_and_chunks(tmp_path, dtype, chunks):
    data = (numbers("yx") % 2).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=data, chunks=chunks, compression="gzip" if chunks else None)
    with open_source(tmp_path / "a.h5") as source:
        assert source.slab == chunks
        assert source.dtype == data.dtype.newbyteorder("=")
        voxels = source.read(Box((1, 2), (9, 11)))
        np.testing.assert_array_equal(voxels[0], data[1:9, 2:11])
        assert voxels.dtype == source.dtype


@pytest.mark.parametrize("name", ["volumes/raw", "/volumes/raw"])
def test_a_dataset_is_named_after_the_file(tmp_path, name):
    path = write(tmp_path / "a.h5", volumes__raw=numbers("yx"), other=numbers("yx")[:5])
    with open_source(f"{path}::{name}") as source:
        assert source.name == f"{path}::/volumes/raw"
        np.testing.assert_array_equal(source.read(Box.of_shape(source.shape))[0], numbers("yx"))


def test_a_file_of_one_numeric_dataset_needs_no_name(tmp_path):
    path = write(tmp_path / "a.h5", volumes__raw=numbers("yx"), note="made by a microscope", count=np.int64(3))
    np.testing.assert_array_equal(whole(path)[0], numbers("yx"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"it holds these datasets of numbers: /a \(13, 17\) .*, /b/c \(13, 17\) .*name one .* a\.h5::/a"),
        ("::/d", r"'/d' is no dataset of this file; it holds these datasets of numbers: /a"),
        ("::/b", r"'/b' is a group, no dataset of this file"),
        ("::/", r"'/?' is no dataset of this file"),
        ("::", r"'' is no dataset of this file"),
    ],
)
def test_datasets_that_are_not_there_or_not_told_are_refused(tmp_path, name, message):
    path = write(tmp_path / "a.h5", a=numbers("yx"), b__c=numbers("yx"))
    with pytest.raises(VolumeError, match=message):
        open_source(f"{path}{name}")


def test_long_lists_are_cut(tmp_path):
    path = write(tmp_path / "a.h5", **{f"d{i}": np.zeros((2, 2)) for i in range(25)})
    with pytest.raises(VolumeError, match="and 5 more; name one"):
        open_source(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((3, 4), [("a", "u1"), ("b", "f4")]), r"data type .*'a'.* is not numeric"),
        (np.full((3, 4), b"abc", "S3"), "is not numeric"),
        (np.zeros((3, 4), "c8"), "data type complex64 is not numeric"),
        (np.array([["a"]], h5py.string_dtype()), "data type object is not numeric"),
        (np.zeros((3, 0)), r"shape \(3, 0\) holds no voxel"),
        (np.float64(3), "a single value or none, no array"),
        (h5py.Empty("f4"), "a single value or none, no array"),
    ],
)
def test_datasets_that_are_no_volume_are_refused(tmp_path, data, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = data
    with pytest.raises(VolumeError, match=message):
        open_source(f"{tmp_path}/a.h5::/raw")


def test_a_file_without_numbers_is_refused(tmp_path):
    path = write(tmp_path / "a.h5", note="nothing")
    with pytest.raises(VolumeError, match=r"it holds no dataset of numbers; name one .* a\.h5::/dataset"):
        open_source(path)


def test_levels_are_refused(tmp_path):
    with pytest.raises(VolumeError, match="level 0 only"):
        open_source(write(tmp_path / "a.h5", raw=numbers("yx")), Reading(level=1))


def test_damaged_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("raw", data=numbers("yx"), chunks=(4, 6), compression="gzip")
        offset = dataset.id.get_chunk_info(0).byte_offset
    content = bytearray((tmp_path / "a.h5").read_bytes())
    for length in (8, 60, len(content) // 2):
        (tmp_path / "b.h5").write_bytes(content[:length])
        with pytest.raises(VolumeError, match="cannot be read"):
            open_source(tmp_path / "b.h5")
    content[offset : offset + 8] = bytes(8)
    (tmp_path / "c.h5").write_bytes(content)
    with open_source(tmp_path / "c.h5") as source:
        np.testing.assert_array_equal(source.read(Box((4, 6), (13, 17)))[0], numbers("yx")[4:, 6:])
        with pytest.raises(VolumeError, match=r"c\.h5::/raw: voxels 0:1,0:1 cannot be read"):
            source.read(Box((0, 0), (1, 1)))


def test_a_dataset_that_claims_a_terabyte_is_read_box_by_box(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", (1_000_000, 1_000_000), "u1", chunks=(64, 64), fillvalue=7)
    assert (tmp_path / "a.h5").stat().st_size < 10_000
    with open_source(tmp_path / "a.h5") as source:
        assert (source.read(Box((999_990, 0), (1_000_000, 10))) == 7).all()


def test_many_threads_read_at_once(tmp_path):
    data = np.random.default_rng(0).integers(0, 60_000, (5, 70, 90)).astype("u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=data, chunks=(2, 16, 16), compression="gzip")
    boxes = [
        Box((z, y, x), (z + 1, y + 20, x + 20)) for z in range(5) for y in range(0, 50, 9) for x in (0, 33, 70)
    ]
    with open_source(tmp_path / "a.h5", Reading(axes="zyx")) as source, ThreadPoolExecutor(4) as pool:
        for box, voxels in zip(boxes, pool.map(source.read, boxes), strict=True):
            np.testing.assert_array_equal(voxels[0], data[box.slices])


def test_a_closed_source_lets_go_of_the_file(tmp_path):
    path = write(tmp_path / "a.h5", raw=numbers("yx"))
    with open_source(path):
        pass
    with h5py.File(path, "r+") as file:
        file["raw"][0, 0] = 5
    assert whole(path)[0, 0, 0] == 5


def test_without_h5py_it_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5", raw=numbers("yx"))
    monkeypatch.setattr(hdf5, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'overtile\[hdf5\]'"):
        open_source(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.npy::/raw", r"only a dataset of an HDF5 file is named after '::', and .*a\.npy is none"),
        ("folder::/raw", "only a dataset of an HDF5 file"),
        ("missing.h5::/raw", "there is no such file or folder"),
    ],
)
def test_only_hdf5_files_hold_datasets(tmp_path, name, message):
    np.save(tmp_path / "a.npy", numbers("yx"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(VolumeError, match=message):
        open_source(tmp_path / name)


def test_paths_are_split_at_the_last_separator_unless_they_exist(tmp_path):
    assert split_dataset("a.h5") == ("a.h5", None)
    assert split_dataset("a.h5::/b/c") == ("a.h5", "/b/c")
    assert split_dataset("x::y/a.h5::b") == ("x::y/a.h5", "b")
    path = write(tmp_path / "a::b.h5", raw=numbers("yx"))
    assert split_dataset(path) == (str(path), None)
    np.testing.assert_array_equal(whole(path)[0], numbers("yx"))


def test_a_dataset_is_ingested_exactly(tmp_path):
    data = numbers("zyx")
    path = write(tmp_path / "a.h5", raw=data, label=data, attributes={"element_size_um": [0.5, 0.25, 0.25]})
    pipeline.ingest(IngestJob(source=f"{path}::/raw", output=str(tmp_path / "a.zarr")))
    volume = open_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(volume.read(Box.of_shape(volume.shape))[0], data)
    assert volume.space == Space("zyx", (0.5, 0.25, 0.25), (0.0,) * 3, "micrometer")


def test_the_output_of_ingest_is_not_the_file_that_holds_the_dataset(tmp_path):
    path = write(tmp_path / "a.zarr", raw=numbers("yx"))
    with pytest.raises(InputError, match="is the source, holds it or lies in it"):
        pipeline.ingest(IngestJob(source=f"{path}::/raw", output=str(path)))


@pytest.mark.parametrize("dataset", ["raw", "label"])
def test_a_real_volume(dataset):
    path = REAL / "sample_ovule.h5"
    if not path.exists():
        pytest.skip(f"{path} is not here: real volumes are no part of the repository")
    with h5py.File(path) as file:
        expected, chunks = file[dataset][:], file[dataset].chunks
    with open_source(f"{path}::/{dataset}") as source:
        np.testing.assert_array_equal(source.read(Box.of_shape(source.shape))[0], expected)
        assert source.space == Space("zyx", (0.235, 0.15, 0.15), (0.0,) * 3, "micrometer")
        assert source.slab == chunks
