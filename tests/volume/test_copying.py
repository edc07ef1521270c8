import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from volumes import files, numbers, save

from pipeline.errors import MissingChunkError, VolumeError
from pipeline.geometry import Box, Grid
from pipeline.volume import Space, copying, open_volume, pyramid, reduce
from pipeline.volume.copying import ingest, slab_shape
from pipeline.volume.sources import open_source
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.source import Source, array_source

REAL = Path(__file__).parents[3] / "shared" / "data" / "em_isbi2012"


class Watched(Source):
    """A source that remembers what was read, and fails where it is told to."""

    def __init__(self, data, space=None, *, slab=None, fail_in=None):
        self.name, self.slab, self.fail_in = "watched", slab, fail_in
        self.data = data
        self.shape, self.channels, self.dtype = data.shape, None, data.dtype
        self.space = space or Space.unscaled("zyx"[-data.ndim :])
        self.boxes, self.threads = [], set()

    def read(self, box):
        self.boxes.append(box)
        self.threads.add(threading.get_ident())
        if self.fail_in is not None and not self.fail_in.intersect(box).is_empty:
            raise VolumeError("planned failure")
        return self.data[box.slices][np.newaxis]


def voxels_of(path, level=0):
    volume = open_volume(path, level=level)
    return volume.read(volume.box)


@pytest.mark.parametrize(
    ("save_as", "axes", "data"),
    [
        (lambda p, v: Image.fromarray(v).save(p / "a.png"), None, numbers("yx", "u1")),
        (lambda p, v: Image.fromarray(v).save(p / "a.png"), None, numbers("yx", "u2") * 99),
        (lambda p, v: Image.fromarray(v).save(p / "a.png"), None, numbers("yxc", "u1")),
        (lambda p, v: tifffile.imwrite(p / "a.tif", v, tile=(16, 16)), "zyx", numbers("zyx")),
        (
            lambda p, v: tifffile.imwrite(p / "a.tif", v, photometric="minisblack", rowsperstrip=3),
            "cyx",
            numbers("cyx"),
        ),
        (lambda p, v: np.save(p / "a.npy", v), "czyx", numbers("czyx", "f4")),
        (lambda p, v: np.save(p / "a.npy", v), "yxc", numbers("yxc", ">i2")),
        (lambda p, v: save(p / "a.zarr", v, zarr_format=2), "zcyx", numbers("zcyx")),
        (lambda p, v: save(p / "a.zarr", v, "yx", sharded=True), None, numbers("yx", "?")),
    ],
)
def test_every_format_is_copied_exactly(tmp_path, save_as, axes, data):
    save_as(tmp_path, data)
    (path,) = tmp_path.iterdir()
    out = tmp_path / "new" / "out.zarr"
    with open_source(path, Reading(axes=axes)) as source:
        expected = source.read(Box.of_shape(source.shape))
        done = ingest(source, out, shard=(8,) * len(source.shape))
        assert (done.spec.channels, done.spec.dtype) == (source.channels, source.dtype)
    volume = open_volume(out)
    assert ("c" in volume.axes) == (done.spec.channels is not None)
    np.testing.assert_array_equal(volume.read(volume.box), expected)
    assert sorted(expected.ravel().tolist()) == sorted(data.ravel().tolist())
    assert volume.missing(volume.box) == []
    assert done.out == out
    assert done.levels == (("0", volume.space),)
    assert done.classes is None
    if data.dtype.kind != "b":
        yaozarrs.validate_zarr_store(str(out))


def test_an_image_gets_levels_by_the_mean_and_keeps_its_space(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (3, 700, 600)).astype("u1")
    space = Space("zyx", (50.0, 4.0, 4.0), (100.0, 0.0, 8.0), "nanometer")
    done = ingest(Watched(data, space), tmp_path / "a.zarr")
    assert done.levels == (("0", space), ("1", space.coarser((1, 2, 2))))
    assert [open_volume(tmp_path / "a.zarr", level=i).space for i in (0, 1)] == [s for _, s in done.levels]
    np.testing.assert_array_equal(voxels_of(tmp_path / "a.zarr", 1)[0], reduce(data, (1, 2, 2), "mean"))
    assert zarr.open_group(str(tmp_path / "a.zarr")).attrs["ome"]["multiscales"][0]["name"] == "a"
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        ({"values": {0: 1, 255: 0}, "classes": ("inside", "membrane")}, ("inside", "membrane")),
        ({"values": {0: 1, 255: 0}}, ("class 0", "class 1")),
        ({"threshold": 127, "classes": ["low", "high"]}, ("low", "high")),
    ],
)
def test_a_class_map_gets_levels_by_the_mode_and_names(tmp_path, options, classes):
    data = np.random.default_rng(0).choice([0, 255], (600, 520)).astype("u1")
    done = ingest(Watched(data), tmp_path / "a.zarr", **options)
    ids = data > 127 if "threshold" in options else data == 0
    assert (done.classes, done.spec.dtype) == (classes, np.uint8)
    np.testing.assert_array_equal(voxels_of(tmp_path / "a.zarr")[0], ids)
    np.testing.assert_array_equal(voxels_of(tmp_path / "a.zarr", 1)[0], reduce(ids.view("u1"), (2, 2), "mode"))
    label = zarr.open_group(str(tmp_path / "a.zarr")).attrs["ome"]["image-label"]
    assert [entry["class"] for entry in label["properties"]] == list(classes)
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))


def test_without_a_pyramid_there_is_one_level(tmp_path):
    done = ingest(Watched(np.zeros((600, 600), "u1")), tmp_path / "a.zarr", pyramid=False)
    assert [name for name, _ in done.levels] == ["0"]
    assert sorted(p.name for p in (tmp_path / "a.zarr").iterdir()) == ["0", "zarr.json"]


@pytest.mark.parametrize("slab", [None, (8, 8, 8), (1, 20, 30), (3, 20, 5)])
def test_progress_ends_at_all_bytes_of_all_levels(tmp_path, monkeypatch, slab):
    monkeypatch.setattr(pyramid, "COARSEST", 8)
    data = np.arange(5 * 20 * 30, dtype="u2").reshape(5, 20, 30)
    told = []
    source = Watched(data, slab=slab)
    done = ingest(source, tmp_path / "a.zarr", shard=(4, 8, 8), progress=lambda *now: told.append(now))
    levels = [open_volume(tmp_path / "a.zarr", level=i) for i in range(len(done.levels))]
    total = sum(v.read(v.box).nbytes for v in levels)
    assert len(levels) == 3
    assert told[-1] == (total, total)
    assert [n for n, _ in told] == sorted({n for n, _ in told})
    assert {n for _, n in told} == {total}
    np.testing.assert_array_equal(levels[0].read(levels[0].box)[0], data)


def test_cheap_reads_are_of_shards_and_in_threads(tmp_path):
    source = Watched(np.zeros((40, 40), "u1"), slab=(16, 8))
    ingest(source, tmp_path / "a.zarr", shard=(16, 16))
    assert sorted(source.boxes, key=str) == sorted(Grid((40, 40), (16, 16)).cores(), key=str)
    assert threading.get_ident() not in source.threads


def test_slices_are_read_once_in_slabs_as_deep_as_a_shard(tmp_path):
    source = Watched(np.zeros((10, 40, 40), "u1"), slab=(1, 40, 40))
    ingest(source, tmp_path / "a.zarr", shard=(4, 16, 16))
    assert source.boxes == [Box((a, 0, 0), (b, 40, 40)) for a, b in ((0, 4), (4, 8), (8, 10))]
    assert source.threads == {threading.get_ident()}


@pytest.mark.parametrize(
    ("piece", "limit", "expected"),
    [
        (None, 1, (4, 16, 16)),
        ((1, 8, 8), 1, (4, 16, 16)),
        ((1, 100, 70), 10**9, (4, 112, 80)),
        ((1, 100, 70), 2 * 4 * 112 * 80, (4, 112, 80)),
        ((1, 100, 70), 2 * 4 * 112 * 80 - 1, (4, 64, 80)),
        ((1, 100, 70), 1, (4, 16, 16)),
        ((9, 1000, 16), 10**9, (12, 112, 16)),
    ],
)
def test_slabs_are_whole_pieces_as_far_as_memory_allows(monkeypatch, piece, limit, expected):
    monkeypatch.setattr(copying, "SLAB_BYTES", limit)
    assert slab_shape((50, 100, 70), (4, 16, 16), piece, 2) == expected


@given(st.data())
def test_slabs_are_made_of_whole_shards(data):
    sizes = st.integers(1, 5000)
    shape, shard, piece = (tuple(data.draw(sizes) for _ in range(3)) for _ in range(3))
    slab = slab_shape(shape, shard, piece, data.draw(st.integers(1, 64)))
    assert all(a % b == 0 and a >= b for a, b in zip(slab, shard, strict=True))
    assert all(a - b < n for a, b, n in zip(slab, shard, shape, strict=True))


def test_an_interrupted_ingest_is_begun_again_in_place(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (600, 40)).astype("u1")
    whole = tmp_path / "whole.zarr"
    ingest(Watched(data), whole, shard=(64, 64))
    again = tmp_path / "again.zarr"
    with pytest.raises(VolumeError, match="planned failure"):
        ingest(Watched(data, fail_in=Box((300, 0), (301, 1))), again, shard=(64, 64))
    assert "ome" not in zarr.open_group(str(again)).attrs
    assert len(files(again)) > 3
    (again / "0" / "c" / "0" / "0").write_bytes(b"torn")
    (again / "0" / "c" / "0" / "0.abc.partial").write_bytes(b"left over")
    ingest(Watched(data), again, shard=(64, 64))
    (again / "0" / "c" / "0" / "0.abc.partial").unlink()
    expected = {name: content.replace(b'"whole"', b'"again"') for name, content in files(whole).items()}
    assert files(again) == expected


def test_an_interrupted_ingest_of_another_layout_is_in_the_way(tmp_path):
    data = np.zeros((20, 20), "u1")
    with pytest.raises(VolumeError, match="planned failure"):
        ingest(Watched(data, fail_in=Box((0, 0), (1, 1))), tmp_path / "a.zarr", shard=(8, 8))
    with pytest.raises(VolumeError, match="an array of another layout"):
        ingest(Watched(data), tmp_path / "a.zarr", shard=(16, 16))


def test_an_ingest_that_died_as_it_began_is_begun_again(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.0123.partial").write_text("{")
    ingest(Watched(np.ones((20, 20), "u1")), tmp_path / "a.zarr")
    assert (voxels_of(tmp_path / "a.zarr") == 1).all()


def finished(path):
    ingest(Watched(np.zeros((20, 20), "u1")), path)


def foreign(path):
    zarr.create_group(str(path))


def folder(path):
    path.mkdir()
    (path / "notes.txt").write_text("mine")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (finished, "exists already and is finished; choose another output or remove it"),
        (foreign, "exists already and is no interrupted ingest"),
        (folder, "exists already and is no interrupted ingest"),
        (lambda path: path.write_text("mine"), "exists already and is no interrupted ingest"),
    ],
)
def test_what_exists_is_never_overwritten(tmp_path, make, message):
    make(tmp_path / "a.zarr")
    before = files(tmp_path)
    with pytest.raises(VolumeError, match=message):
        ingest(Watched(np.ones((20, 20), "u1")), tmp_path / "a.zarr")
    assert files(tmp_path) == before


@pytest.mark.parametrize("shard", [(8,), (8, 8, 8), (0, 8), (-8, 8)])
def test_shards_that_cannot_be_are_refused(tmp_path, shard):
    with pytest.raises(VolumeError, match="one positive number for each of the axes y,x"):
        ingest(Watched(np.zeros((20, 20), "u1")), tmp_path / "a.zarr", shard=shard)
    assert not (tmp_path / "a.zarr").exists()


def test_bad_values_name_the_file_and_leave_the_output_unfinished(tmp_path):
    (tmp_path / "slices").mkdir()
    for z in range(12):
        Image.fromarray(np.full((20, 30), 128 if z == 9 else 255, "u1")).save(tmp_path / "slices" / f"{z}.png")
    with open_source(tmp_path / "slices") as source:
        with pytest.raises(VolumeError, match=r"9\.png \(slice 9\), voxel 0,0: value 128, but the map has 0, 255"):
            ingest(source, tmp_path / "a.zarr", values={0: 1, 255: 0})
        assert "ome" not in zarr.open_group(str(tmp_path / "a.zarr")).attrs
        ingest(source, tmp_path / "a.zarr", values={0: 1, 255: 0, 128: 2})
    assert np.unique(voxels_of(tmp_path / "a.zarr")[0, 9]).tolist() == [2]


def test_holes_of_a_source_are_errors(tmp_path):
    save(tmp_path / "a.zarr", numbers("yx"), "yx")
    (tmp_path / "a.zarr" / "c" / "1" / "1").unlink()
    with open_source(tmp_path / "a.zarr") as source, pytest.raises(MissingChunkError):
        ingest(source, tmp_path / "b.zarr")


def test_broken_files_are_refused_before_anything_is_written(tmp_path):
    source = array_source("a", np.zeros((3, 4, 5), "u1"), "cyx")
    with pytest.raises(VolumeError, match="3 channels"):
        ingest(source, tmp_path / "a.zarr", classes=("a", "b"))
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.skipif(not REAL.is_dir(), reason="the ISBI 2012 slices are not in ../shared/data/em_isbi2012")
def test_real_sections_and_their_labels(tmp_path):
    with open_source(REAL / "image", Reading(voxel_size=(50, 4, 4), unit="nm")) as source:
        ingest(source, tmp_path / "image.zarr")
    with open_source(REAL / "label", Reading(voxel_size=(50, 4, 4), unit="nm")) as source:
        done = ingest(source, tmp_path / "label.zarr", values={0: 1, 255: 0}, classes=("inside", "membrane"))
    assert done.spec.shape == (24, 512, 512)
    paths = [f"{z:02}.png" for z in range(24)]
    image = np.stack([np.asarray(Image.open(REAL / "image" / p)) for p in paths])
    label = np.stack([np.asarray(Image.open(REAL / "label" / p)) for p in paths])
    np.testing.assert_array_equal(voxels_of(tmp_path / "image.zarr")[0], image)
    np.testing.assert_array_equal(voxels_of(tmp_path / "label.zarr")[0], label == 0)
    for name in ("image.zarr", "label.zarr"):
        assert open_volume(tmp_path / name).space == Space("zyx", (50, 4, 4), (0, 0, 0), "nanometer")
        yaozarrs.validate_zarr_store(str(tmp_path / name))
