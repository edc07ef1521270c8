import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import yaozarrs
import zarr
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from volumes import channels_first, create_filled, files, numbers, save, small_spec

from pipeline.errors import InputError, MissingChunkError
from pipeline.geometry import Grid
from pipeline.store import LocalPlace
from pipeline.volume import Space, build_pyramid, open_volume, publish
from pipeline.volume.absent import Absent
from pipeline.volume.export import ome_zarr
from pipeline.volume.export.ome_zarr import write_ome_zarr
from pipeline.volume.export.unfinished import ENDING, unfinished
from pipeline.volume.ngff import read_channels, read_classes
from pipeline.volume.state import KEY, set_attributes

DRIVERS = {"0.4": "zarr", "0.5": "zarr3"}
FORMATS = {"0.4": FormatV04, "0.5": FormatV05}


def image(folder, data, *, channels=None, shard=(256, 256), classes=None, names=None, dtype="u1"):
    """Store an image with coarser levels in voxels of 3 x 2 nanometres, and return its levels."""
    shape = data.shape[-len(shard) :]
    space = Space("zyx"[-len(shard) :], (4.0, 3.0, 2.0)[-len(shard) :], (0.0,) * len(shard), "nanometer")
    spec = small_spec(shape, channels=channels, shard=shard, space=space, dtype=dtype)
    create_filled(folder, spec, data)
    method = "mode" if channels is None and data.dtype.kind in "bui" else "mean"
    levels = build_pyramid(folder, spec, method=method, threads=1, progress=None)
    publish(folder, name="image", axes=spec.axes, levels=levels, classes=classes, channels=names)
    return levels_of(folder)


def levels_of(folder, **options):
    finest = open_volume(folder, **options)
    return [finest, *(open_volume(folder, level=k, **options) for k in range(1, len(finest.levels)))]


def ids(shape=(700, 900)):
    return np.random.default_rng(0).integers(0, 3, shape, dtype=np.uint8)


def by_tensorstore(folder, level, version):
    store = {"driver": "file", "path": str(folder / str(level))}
    return tensorstore.open({"driver": DRIVERS[version], "kvstore": store}).result().read().result()


def by_ome_zarr(folder, version):
    (node,) = Reader(parse_url(str(folder), fmt=FORMATS[version]()))()
    return node


def check(folder, levels, version, *, channels=False):
    """Two readers that know nothing of Overtile read all voxels, axes and scales; yaozarrs finds nothing wrong."""
    yaozarrs.validate_zarr_store(str(folder))
    node = by_ome_zarr(folder, version)
    assert len(node.data) == len(levels)
    steps = node.metadata["coordinateTransformations"]
    for k, level in enumerate(levels):
        voxels = level.read(level.box)
        expected = voxels if channels else voxels[0]
        np.testing.assert_array_equal(np.asarray(node.data[k]), expected)
        np.testing.assert_array_equal(by_tensorstore(folder, k, version), expected)
        scale, moved = steps[k]
        assert scale["scale"] == [1.0] * channels + list(level.space.voxel_size)
        assert moved["translation"] == [0.0] * channels + list(level.space.translation)
    axes = [(a["name"], a.get("unit")) for a in node.metadata["axes"]]
    assert axes == [("c", None)] * channels + [(a, levels[0].space.unit) for a in levels[0].space.axes]
    return node


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_class_maps_are_read_by_others(tmp_path, version):
    levels = image(tmp_path / "a.zarr", ids(), classes=["background", "cell", "fold"])
    assert len(levels) == 2
    told = []
    write_ome_zarr(
        levels,
        tmp_path / "b.zarr",
        version=version,
        names=["background", "cell", "fold"],
        attributes={"proj:code": "EPSG:32618"},
        progress=lambda *now: told.append(now),
    )
    check(tmp_path / "b.zarr", levels, version)
    attributes = dict(zarr.open_group(str(tmp_path / "b.zarr"), mode="r").attrs)
    assert read_classes(attributes) == ["background", "cell", "fold"]
    assert attributes["proj:code"] == "EPSG:32618"
    assert told[-1][0] == told[-1][1] == len(told)
    assert not (tmp_path / f"b.zarr{ENDING}").exists()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_probabilities_have_named_channels(tmp_path, version):
    data = np.stack([ids() * 80, 255 - ids() * 80, ids() * 7])
    levels = image(tmp_path / "a.zarr", data, channels=3)
    write_ome_zarr(levels, tmp_path / "b.zarr", version=version, names=["background", "cell", "fold"])
    node = check(tmp_path / "b.zarr", levels, version, channels=True)
    assert node.metadata["channel_names"] == ["background", "cell", "fold"]
    assert node.metadata["contrast_limits"] == [[0.0, 255.0]] * 3
    assert read_channels(dict(zarr.open_group(str(tmp_path / "b.zarr"), mode="r").attrs)) == [
        "background",
        "cell",
        "fold",
    ]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "zyx", "yxc", "czyx", "tczyx"])
def test_axes_of_any_order_become_channels_first(tmp_path, axes, version):
    data = numbers(axes)
    save(tmp_path / "a.zarr", data, axes)
    volume = open_volume(tmp_path / "a.zarr")
    write_ome_zarr([volume], tmp_path / "b.zarr", version=version)
    check(tmp_path / "b.zarr", [volume], version, channels="c" in axes)
    expected = channels_first(data, axes)
    np.testing.assert_array_equal(open_volume(tmp_path / "b.zarr").read(volume.box), expected)


def test_version_0_4_is_zarr_v2_without_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(ome_zarr, "CHUNK", {2: (128, 128), 3: (8, 8, 8)})
    data = np.stack([ids((300, 200)), ids((300, 200))])
    levels = image(tmp_path / "a.zarr", data, channels=2)
    write_ome_zarr(levels, tmp_path / "b.zarr", version="0.4", threads=1)
    document = json.loads((tmp_path / "b.zarr" / "0" / ".zarray").read_text())
    assert (document["zarr_format"], document["dimension_separator"], document["order"]) == (2, "/", "C")
    assert document["chunks"] == [1, 128, 128]
    assert (document["compressor"]["id"], document["compressor"]["cname"]) == ("blosc", "lz4")
    assert document["filters"] is None
    assert (tmp_path / "b.zarr" / "0" / "1" / "2" / "1").is_file()
    assert not list((tmp_path / "b.zarr").rglob("zarr.json"))
    array = zarr.open_array(str(tmp_path / "b.zarr" / "0"), mode="r")
    assert array.attrs["_ARRAY_DIMENSIONS"] == ["c", "y", "x"]


@pytest.mark.parametrize(
    ("dtype", "older"), [("bool", "uint8"), ("f2", "float32"), ("u2", "uint16"), ("f4", "float32")]
)
def test_types_that_readers_of_0_4_lack_are_widened(tmp_path, dtype, older):
    data = (np.arange(63).reshape(7, 9) % 2).astype(dtype)
    save(tmp_path / "a.zarr", data, "yx")
    volume = open_volume(tmp_path / "a.zarr")
    for version, expected in (("0.4", older), ("0.5", np.dtype(dtype).name)):
        write_ome_zarr([volume], tmp_path / f"{version}.zarr", version=version)
        array = zarr.open_array(str(tmp_path / f"{version}.zarr" / "0"), mode="r")
        assert array.dtype == expected
        np.testing.assert_array_equal(array[...], data)


def masked(folder, left_out):
    """Store a map of 4 x 4 shards of which some are left out on purpose; return its voxels."""
    data = ids((1024, 1024))
    for row, column in left_out:
        data[256 * row : 256 * row + 256, 256 * column : 256 * column + 256] = 0
    levels = image(folder, data)
    bits = np.zeros((4, 4), bool)
    for row, column in left_out:
        bits[row, column] = True
        (folder / "0" / "c" / str(row) / str(column)).unlink()
    grids = tuple(Grid(level.shape, level.array.shards) for level in levels)
    absent = Absent(bits, grids)
    for k in range(1, len(grids)):
        for row, column in np.argwhere(absent.of_level(k)).tolist():
            (folder / str(k) / "c" / str(row) / str(column)).unlink()
    set_attributes(LocalPlace(folder), {KEY: {"state": "sealed", "absent": absent.to_attribute()}})
    return data


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_a_mask_left_out_is_left_out_and_read_as_background(tmp_path, monkeypatch, version):
    monkeypatch.setattr(ome_zarr, "CHUNK", {2: (128, 128), 3: (8, 8, 8)})
    data = masked(tmp_path / "a.zarr", [(0, 0), (0, 1), (1, 0), (1, 1), (3, 2)])
    levels = levels_of(tmp_path / "a.zarr")
    np.testing.assert_array_equal(levels[0].read(levels[0].box)[0], data)
    told = []
    write_ome_zarr(
        levels,
        tmp_path / "b.zarr",
        version=version,
        attributes={KEY: {"state": "sealed", "absent": {"of": "the source"}}},
        progress=lambda *now: told.append(now),
    )
    check(tmp_path / "b.zarr", levels, version)
    copies = levels_of(tmp_path / "b.zarr")
    assert copies[0].absent != ()
    for copy, level in zip(copies, levels, strict=True):
        np.testing.assert_array_equal(copy.read(copy.box), level.read(level.box))
    first = tmp_path / "b.zarr" / "0"
    assert not (first / ("0/0" if version == "0.4" else "c/0/0")).exists()
    assert (first / ("4/0" if version == "0.4" else "c/2/0")).exists()
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_missing_chunk_leaves_nothing(tmp_path, version):
    save(tmp_path / "a.zarr", ids((64, 64)), "yx", chunks=16)
    (tmp_path / "a.zarr" / "c" / "1" / "1").unlink()
    with pytest.raises(MissingChunkError):
        write_ome_zarr([open_volume(tmp_path / "a.zarr")], tmp_path / "b.zarr", version=version)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    whole = open_volume(tmp_path / "a.zarr", holes="background")
    write_ome_zarr([whole], tmp_path / "b.zarr", version=version)
    np.testing.assert_array_equal(open_volume(tmp_path / "b.zarr").read(whole.box), whole.read(whole.box))


def test_a_folder_is_never_overwritten(tmp_path):
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(InputError, match="exists already"), unfinished(tmp_path / "b.zarr"):
        raise AssertionError
    with pytest.raises(InputError, match="there is no folder"), unfinished(tmp_path / "none" / "b.zarr"):
        raise AssertionError
    assert [p.name for p in tmp_path.iterdir()] == ["b.zarr"]


def test_what_a_killed_export_left_is_cleared(tmp_path):
    code = f"""
import os
from pathlib import Path
from pipeline.volume.export.unfinished import unfinished
with unfinished(Path({str(tmp_path)!r}) / "b.zarr") as folder:
    (folder / "0").mkdir()
    (folder / "0" / "old").write_text("old")
    (folder / "link").symlink_to(folder)
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    left = tmp_path / f"b.zarr{ENDING}"
    assert (left / "0" / "old").exists()
    with unfinished(tmp_path / "b.zarr") as folder:
        assert folder == left
        assert list(folder.iterdir()) == []
        (folder / "new").write_text("new")
    assert list(files(tmp_path)) == ["b.zarr/new"]


def test_two_exports_to_one_folder_do_not_mix(tmp_path):
    with unfinished(tmp_path / "b.zarr") as folder:
        (folder / "mine").write_text("mine")
        with pytest.raises(InputError, match="another process is exporting to it"):
            enter(tmp_path / "b.zarr")
        assert (folder / "mine").exists()
    assert list(files(tmp_path)) == ["b.zarr/mine"]


def enter(target):
    with unfinished(target):
        raise AssertionError


def test_a_folder_that_was_finished_while_another_waited_is_left_alone(tmp_path, monkeypatch):
    """Between a look and the lock another process gives the folder its name."""
    lock = fcntl.flock

    def late(descriptor, how):
        lock(descriptor, how)
        Path(f"{tmp_path}/b.zarr{ENDING}").rename(tmp_path / "b.zarr")

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(InputError, match="another process"):
        enter(tmp_path / "b.zarr")
    assert os.listdir(tmp_path) == ["b.zarr"]
