import errno
import gc
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from pictures import WRITERS, picture, write_geotiff, write_hdf5, write_npy, write_png, write_slide, write_stack
from volumes import save, save_ome

from pipeline.errors import (
    InputDamageError,
    InputError,
    MissingChunkError,
    NonFiniteError,
    StoreError,
    VolumeError,
)
from pipeline.geometry import Box
from pipeline.store import open_file
from pipeline.volume.file_image import FileImage, absolute_image, open_image, split_address
from pipeline.volume.look import HOLE, identity_digest
from pipeline.volume.sources import open_source
from pipeline.volume.sources.reading import Reading
from pipeline.volume.volume import Volume


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_shows_its_voxels_and_their_mirror_image(tmp_path, kind):
    image = open_image(WRITERS[kind][0](tmp_path))
    assert isinstance(image, FileImage)
    with open_source(image.url) as source:
        voxels = source.read(Box.of_shape(source.shape))
    assert (image.channels, *image.shape) == voxels.shape
    assert image.dtype == voxels.dtype
    assert len(image.axes) == voxels.ndim - (image.channels == 1)
    assert np.array_equal(image.read(image.box), voxels)
    around = Box(tuple(-2 for _ in image.shape), tuple(n + 1 for n in image.shape))
    shown = image.look(around).shown()
    assert np.array_equal(shown, np.pad(voxels, [(0, 0)] + [(2, 1)] * len(image.shape), mode="reflect"))
    image.check_holes()
    image.close()
    image.close()


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_seen_is_what_the_listing_says(tmp_path, kind):
    image = open_image(WRITERS[kind][0](tmp_path))
    identities, look = image.identities(), image.look(image.box)
    assert tuple(identities.digests(image.box)) == look.seen
    assert identities.keys(image.box) == list(look.files)
    assert look.seen == tuple(identity_digest(open_file(file).stat().identity) for file in look.files)
    assert look.files


def test_a_read_depends_on_the_files_below_it_only(tmp_path):
    image = open_image(write_stack(tmp_path))
    names = [os.path.basename(f) for f in image.look(Box((1, 0, 0), (3, 5, 5))).files]
    assert names == ["s1.png", "s2.png"]
    (tmp_path / "slices" / "s0.png").unlink()
    assert image.look(Box((1, 0, 0), (3, 5, 5))).shown().shape == (1, 2, 5, 5)
    with pytest.raises(MissingChunkError, match=r"1 file\(s\) below voxels 0:1,0:5,0:5 are missing \(.*s0.png\)"):
        image.look(Box((0, 0, 0), (1, 5, 5)))
    assert image.identities().digests(Box((0, 0, 0), (1, 5, 5))) == [HOLE]


def touch(path, seconds=1):
    moved = os.stat(path).st_mtime_ns + seconds * 10**9
    os.utime(path, ns=(moved, moved))


def test_a_file_that_changed_is_refused_until_it_is_opened_again(tmp_path):
    image = open_image(write_npy(tmp_path))
    before = image.look(image.box).seen
    touch(tmp_path / "in.npy")
    with pytest.raises(
        InputDamageError, match=r"voxels 0:70,0:90, 1 file\(s\) changed since .* opened \(.*in.npy\)"
    ):
        image.look(image.box)
    assert open_image(image.url).look(image.box).seen != before


class Failing:
    """A source that does something else than read."""

    def __init__(self, source, act):
        self._source, self._act = source, act

    def __getattr__(self, name):
        return getattr(self._source, name)

    def read(self, box):
        return self._act(self._source, box)


def raising(error, cause=None):
    def act(source, box):
        raise error from cause

    return act


def wrapped(cause):
    return raising(VolumeError("the file may be damaged"), cause)


@pytest.mark.parametrize(
    ("act", "expected", "match"),
    [
        (wrapped(ValueError("bad tile")), InputDamageError, "voxels 0:70,0:90 do not decode .*may be damaged"),
        (raising(ValueError("bad tile")), InputDamageError, "do not decode .bad tile"),
        (wrapped(StoreError("no answer")), StoreError, "no answer"),
        (raising(StoreError("no answer")), StoreError, "no answer"),
        (wrapped(MemoryError("too much")), MemoryError, "too much"),
        (wrapped(OSError(errno.EMFILE, "too many files")), OSError, "too many files"),
        (wrapped(FileNotFoundError(errno.ENOENT, "gone")), MissingChunkError, "in.npy"),
    ],
)
def test_what_a_failed_read_means(tmp_path, act, expected, match):
    image = open_image(write_npy(tmp_path))
    image.source = Failing(image.source, act)
    with pytest.raises(expected, match=match):
        image.look(image.box).shown()


def test_a_file_that_changes_while_it_is_read_is_found(tmp_path):
    image = open_image(write_npy(tmp_path))

    def act(source, box):
        touch(tmp_path / "in.npy")
        return source.read(box)

    image.source = Failing(image.source, act)
    with pytest.raises(InputDamageError, match="changed since"):
        image.read(image.box)


def test_a_damaged_tile_is_named(tmp_path):
    path = write_slide(tmp_path)
    with tifffile.TiffFile(path) as tif:
        begin = tif.pages.first.dataoffsets[3]
    with open(path, "r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * 100)
    image = open_image(path)
    with pytest.raises(InputDamageError, match=r"in.svs: voxels 0:70,0:90 do not decode"):
        image.look(image.box).shown()


def test_nan_is_refused_or_kept(tmp_path):
    values = picture(1)[0].astype("f4")
    values[3, 4] = np.nan
    np.save(tmp_path / "in.npy", values)
    image = open_image(tmp_path / "in.npy")
    with pytest.raises(NonFiniteError, match=r"first is voxel 3,4 of channel 0, stored in .*in.npy, voxel 3,4"):
        image.look(image.box).shown()
    assert np.isnan(image.look(image.box).shown(finite=False)).sum() == 1


def test_many_threads_read_at_once(tmp_path):
    image = open_image(write_geotiff(tmp_path))
    boxes = [Box((y, x), (y + 20, x + 30)) for y in (0, 25, 50) for x in (0, 30, 60)] * 3
    whole = picture(3)
    with ThreadPoolExecutor(8) as pool:
        for box, found in zip(boxes, pool.map(image.read, boxes), strict=True):
            assert np.array_equal(found, whole[(slice(None), *box.slices)])


def test_levels_of_a_slide(tmp_path):
    path = write_slide(tmp_path)
    image = open_image(path, Reading(level=1))
    assert (image.level, image.level_count, image.shape) == (1, 3, (35, 45))
    assert image.scale == (2.0, 2.0)
    assert image.space.voxel_size == (1.0, 1.0)
    assert open_image(path).scale == ()
    with pytest.raises(VolumeError, match="no level 3"):
        open_image(path, Reading(level=3))


def test_what_is_decoded_is_counted_in_whole_pieces(tmp_path):
    image = open_image(write_slide(tmp_path))
    assert image.pieces == (32, 48)
    assert [image.decoded_along(0, *ends) for ends in ((0, 1), (31, 33), (64, 70))] == [32, 64, 6]
    assert image.read_bytes((8, 8)) == 4 * 32 * 48 * 3
    cheap = open_image(write_npy(tmp_path))
    assert cheap.decoded_along(0, 3, 5) == 2
    assert cheap.read_bytes((8, 8)) == 0


def test_what_identifies_a_file_is_its_layout_and_what_is_chosen_of_it(tmp_path):
    path = write_geotiff(tmp_path)
    plain, again, first = (open_image(path, Reading(bands=bands)) for bands in (None, None, (1,)))
    assert plain.metadata == again.metadata != first.metadata
    assert first.metadata["reading"] == {"bands": [1]}
    assert plain.geo.transform[0] == 0.5


def test_files_are_let_go_with_the_image(tmp_path):
    image = open_image(write_hdf5(tmp_path))
    source = image.source
    del image
    gc.collect()
    with pytest.raises(VolumeError):
        source.read(Box((0, 0), (1, 1)))


def test_a_zarr_is_a_volume(tmp_path):
    save_ome(tmp_path / "in", [np.zeros((8, 8), "u1"), np.zeros((4, 4), "u1")], "yx", version="0.4")
    image = open_image(tmp_path / "in", Reading(level=1, holes="background", voxel_size=(0.5, 0.25), unit="um"))
    assert isinstance(image, Volume)
    assert (image.level, image.level_count, image.holes, image.scale) == (1, 2, "background", (2.0, 2.0))
    assert image.space.voxel_size == (0.5, 0.25)
    assert isinstance(open_image(tmp_path / "in" / "s0"), Volume)


def test_bands_of_a_zarr(tmp_path):
    data = np.arange(4 * 3 * 5, dtype="u2").reshape(4, 3, 5)
    save(tmp_path / "in.zarr", data, "cyx")
    image = open_image(tmp_path / "in.zarr", Reading(bands=(3, 1)))
    assert image.channels == 2
    assert np.array_equal(image.read(image.box), data[[2, 0]])
    assert image.metadata["bands"] == [2, 0]
    values = np.ones((2, 4, 4), "f4")
    values[1, 2, 2] = np.nan
    save(tmp_path / "nan.zarr", values, "cyx", chunks=(1, 4, 4))
    assert open_image(tmp_path / "nan.zarr", Reading(bands=(1,))).look(Box((0, 0), (4, 4))).shown().all()
    with pytest.raises(NonFiniteError, match="of channel 0, stored in c/1/0/0"):
        open_image(tmp_path / "nan.zarr", Reading(bands=(2, 1))).look(Box((0, 0), (4, 4))).shown()


@pytest.mark.parametrize(
    ("reading", "match"),
    [
        ({"bands": (5,)}, "there is no band 5; it has 4"),
        ({"crs": "EPSG:4326"}, "--crs is for raster files"),
        ({"warp": "first"}, "--warp is for raster files"),
        ({"voxel_size": (1.0,)}, "one positive number for each"),
        ({"unit": "um"}, "without a voxel size"),
    ],
)
def test_what_does_not_fit_a_zarr_is_refused(tmp_path, reading, match):
    save(tmp_path / "in.zarr", np.zeros((4, 3, 5), "u1"), "cyx")
    with pytest.raises(VolumeError, match=match):
        open_image(tmp_path / "in.zarr", Reading(**reading))


@pytest.mark.parametrize("name", ["missing.zarr", "missing.zarr/0", "missing.tif", "missing"])
def test_what_is_not_there_is_refused(tmp_path, name):
    with pytest.raises(VolumeError):
        open_image(tmp_path / name)
    with pytest.raises(InputError):
        open_image("ftp://host/in.tif")


def test_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path)
    assert absolute_image("in.png") == str(tmp_path / "in.png")
    assert absolute_image("in.h5::/raw/b") == f"{tmp_path / 'in.h5'}::/raw/b"
    assert absolute_image("slices/*.png") == str(tmp_path / "slices" / "*.png")
    assert split_address("s3://bucket/in.h5::/a") == ("s3://bucket/in.h5", "::/a")
    (tmp_path / "odd::name.png").touch()
    assert split_address("odd::name.png") == ("odd::name.png", "")
