"""Volumes on an object store are what they are in a folder, and a store that fails is never an empty volume."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from s3 import S3Server
from volumes import files, numbers, small_spec

from pipeline.errors import (
    InputDamageError,
    InputError,
    MissingChunkError,
    NonFiniteError,
    StoreError,
    VolumeError,
)
from pipeline.geometry import Box, Grid
from pipeline.store import open_place
from pipeline.volume import (
    ShardWriter,
    Space,
    build_pyramid,
    create_level,
    ensure_level,
    is_published,
    open_volume,
    publish,
    write_shards,
)
from pipeline.volume.create import sync_tree
from pipeline.volume.info import info
from pipeline.volume.look import HOLE, identity_digest


@pytest.fixture(scope="module")
def server():
    with S3Server(patience=0.3) as server:
        yield server


@pytest.fixture
def url(server, request):
    server.heal()
    yield server.url("".join(c if c.isalnum() else "-" for c in request.node.name))
    server.heal()


def build(root, *, shape=(600, 40), classes=None):
    """Make an image with two levels at a place, by every step that writes."""
    spec = small_spec(shape, shard=(200, 40), space=Space("yx", (4.0, 4.0), (0.0, 0.0), "nanometer"))
    data = np.random.default_rng(1).integers(1, 200, shape).astype("u1")
    array = create_level(root, "0", spec)
    pieces = ((core, lambda core=core: data[core.slices]) for core in Grid(shape, spec.shard).cores())
    write_shards(array, pieces, threads=2, wrote=lambda count: None)
    levels = build_pyramid(root, spec, method="mean", threads=2, progress=None)
    publish(root, name="image", axes="yx", levels=levels, classes=classes)
    sync_tree(root)
    return data


def stored(place):
    return {entry.key: place.get(entry.key) for entry in place.entries()}


def small(url, **options):
    spec = small_spec((20, 13), **options)
    data = np.random.default_rng(2).integers(1, 200, spec.stored_shape).astype(spec.dtype)
    ShardWriter(create_level(url, "0", spec)).write(Box.of_shape(spec.stored_shape), data)
    return spec, data


def test_every_object_is_the_file_that_a_folder_would_hold(url, tmp_path):
    data = build(url)
    build(tmp_path / "image")
    place = open_place(url)
    assert stored(place) == files(tmp_path / "image")
    assert is_published(url)
    volume = open_volume(url)
    np.testing.assert_array_equal(volume.read(volume.box)[0], data)
    assert (volume.url, volume.place.url, volume.levels) == (url, f"{url}/0", ("0", "1"))
    assert open_volume(f"{url}/1").shape == (300, 20)
    assert open_volume(place, level=1).place.url == f"{url}/1"
    assert open_volume(place).url == url
    assert {**info(url), "url": ""} == {**info(tmp_path / "image"), "url": ""}


def test_addresses_of_files_are_paths(tmp_path):
    build(f"file://{tmp_path}/image")
    assert info(f"file://{tmp_path}/image")["missing_chunks"]["count"] == 0
    assert open_volume(f"file://{tmp_path}/image").place.url == str(tmp_path / "image" / "0")
    with pytest.raises(VolumeError, match="no such file or folder"):
        open_volume(f"file://{tmp_path}/other")
    with pytest.raises(InputError, match="not ftp://"):
        open_volume("ftp://host/image")


def test_what_zarr_wrote_is_read_and_written_on(url):
    array = zarr.create_array(
        open_place(url).zarr_store(read_only=False), name="raw", shape=(8, 9), chunks=(4, 4), dtype="u1"
    )
    ShardWriter(array).write(Box((4, 0), (8, 9)), numbers("yx", "u1")[4:8, :9])
    volume = open_volume(url)
    assert volume.missing(volume.box) == ["c/0/0", "c/0/1", "c/0/2"]
    np.testing.assert_array_equal(volume.read(Box((4, 0), (8, 9)))[0], numbers("yx", "u1")[4:8, :9])


def test_nothing_there_is_said_so(url):
    with pytest.raises(VolumeError, match="nothing is stored there; check the bucket and the prefix"):
        open_volume(url)
    with pytest.raises(VolumeError, match="nothing is stored there"):
        info(url)
    assert not is_published(url)
    open_place(url).put("notes.txt", b"mine")
    with pytest.raises(VolumeError, match="not a Zarr array or group"):
        open_volume(url)
    open_place(url).put("zarr.json", b"{")
    with pytest.raises(VolumeError, match=r"zarr\.json is not readable JSON"):
        open_volume(url)


def test_a_level_is_never_created_over_another_and_is_taken_up(url):
    spec, data = small(url)
    before = stored(open_place(url))
    with pytest.raises(VolumeError, match="exists already"):
        create_level(url, "0", spec)
    np.testing.assert_array_equal(ensure_level(url, "0", spec)[...], data)
    with pytest.raises(VolumeError, match="an array of another layout"):
        ensure_level(url, "0", small_spec((20, 14)))
    assert stored(open_place(url)) == before


def test_of_many_that_create_a_level_all_have_the_same_one(url):
    layouts = [small_spec((20, 13 + i % 2)) for i in range(8)]

    def attempt(spec):
        try:
            return ensure_level(url, "0", spec).shape
        except VolumeError:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(attempt, layouts))
    shape = open_volume(f"{url}/0").shape
    assert found == [shape if spec.shape == shape else None for spec in layouts]


def test_anything_else_in_a_levels_place_is_in_the_way(url):
    open_place(url).put("0/notes.txt", b"mine")
    with pytest.raises(VolumeError, match="is in the way and is no array of ours"):
        ensure_level(url, "0", small_spec((20, 13)))
    with pytest.raises(VolumeError, match="exists already"):
        create_level(url, "0", small_spec((20, 13)))
    assert stored(open_place(url)) == {"0/notes.txt": b"mine"}


def test_what_was_seen_are_etags(url):
    small(url)
    volume = open_volume(url)
    look = volume.look(Box((7, 7), (9, 9)))
    stats = volume.place.stats(look.keys)
    assert look.seen == tuple(identity_digest(stat.identity) for stat in stats)
    volume.place.put("c/1/1", volume.place.get("c/1/1"))
    assert volume.look(Box((7, 7), (9, 9))).seen == look.seen, "the same bytes again"


def test_holes_and_damage_are_found(url):
    _, data = small(url)
    place, volume = open_place(url).at("0"), open_volume(url)
    whole = place.get("c/1/1")
    corner = Box((8, 8), (16, 13))
    for damaged in (whole[:-3], whole[:3], b"\x00" * len(whole), whole[:20] + b"\xff" + whole[21:]):
        place.put("c/1/1", damaged)
        for holes in ("error", "background"):
            with pytest.raises(InputDamageError, match="c/1/1: "):
                volume.read(corner, holes=holes)
    place.put("c/1/1", b"")
    with pytest.raises(MissingChunkError, match="c/1/1"):
        volume.read(corner)
    place.delete("c/1/1")
    with pytest.raises(MissingChunkError, match="c/1/1"):
        volume.read_shown(Box((-9, -9), (10, 10)))
    look = volume.look(corner, holes="background")
    assert (look.shown() == 0).all()
    assert look.seen == (HOLE,)
    found = info(url)["missing_chunks"]
    assert found == {"count": 1, "keys": ["c/1/1"]}
    place.put("c/1/1", whole)
    np.testing.assert_array_equal(volume.read(volume.box)[0], data)


def test_a_chunk_that_vanishes_after_the_look_is_not_filled_in(url):
    small(url)
    look = open_volume(url).look(Box((0, 0), (20, 13)))
    open_place(url).delete("0/c/1/1")
    with pytest.raises(MissingChunkError, match="c/1/1: the stored chunk vanished"):
        look.read()


def test_a_missing_inner_chunk_and_nan_are_found(url):
    _, data = small(url, dtype="f4")
    array = zarr.open_array(open_place(url).at("0").zarr_store(read_only=False), mode="r+")
    array.with_config({"write_empty_chunks": False})[12:16, 8:12] = 0
    array[3, 4] = np.nan
    volume = open_volume(url)
    with pytest.raises(MissingChunkError, match="inner chunk 1,0 of c/1/1"):
        volume.read(volume.box)
    with pytest.raises(NonFiniteError, match="voxel 3,4 of channel 0, stored in c/0/0"):
        volume.look(Box((0, 0), (8, 8))).shown()
    np.testing.assert_array_equal(volume.read(Box((4, 0), (8, 13)))[0], data[4:8])


def test_an_index_is_read_once_as_long_as_its_shard_stays(server, url):
    small(url)
    volume = open_volume(url)
    server.forget()
    volume.look(Box((0, 0), (8, 8)))
    assert dict(server.counts) == {"HEAD": 1, "GET": 1}
    volume.look(Box((0, 0), (8, 8)))
    assert dict(server.counts) == {"HEAD": 2, "GET": 1}
    volume.look(Box((0, 0), (8, 8)), holes="background")
    assert dict(server.counts) == {"HEAD": 3, "GET": 1}


STEPS = {
    "open": lambda url: open_volume(url),
    "read": lambda url: open_volume(url).read(Box((4, 4), (12, 12))),
    "background": lambda url: open_volume(url).read_shown(Box((-3, 4), (12, 12)), holes="background"),
    "missing": lambda url: open_volume(url).missing(Box((4, 4), (12, 12))),
    "info": lambda url: info(url),
    "group": lambda url: open_volume(f"{url}/0"),
    "published": lambda url: is_published(url),
    "ensure": lambda url: ensure_level(url, "0", small_spec((20, 13))).shape,
    "write": lambda url: ShardWriter(f"{url}/0").write(Box((0, 0), (8, 8)), np.ones((8, 8), "u1")),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("kind", "error"), [("503", StoreError), ("403", PermissionError)])
def test_a_store_that_stops_answering_at_any_request_is_its_own_error(server, url, step, kind, error, monkeypatch):
    small(url)
    monkeypatch.setenv("OVERTILE_STORE_PATIENCE", "0.01")
    failed = 0
    for nth in itertools.count(1):
        server.fail(nth, kind, count=None)
        try:
            STEPS[step](url)
        except error:
            failed += 1
        finally:
            server.heal()
        if failed < nth:
            break
    assert failed >= 1
    np.testing.assert_array_equal(
        open_volume(url).read(Box((8, 8), (20, 13))), open_volume(url).array[8:, 8:][None]
    )


def test_bad_answers_that_pass_are_not_noticed(server, url, tmp_path):
    server.rate = 0.1
    build(url)
    server.heal()
    build(tmp_path / "image")
    assert stored(open_place(url)) == files(tmp_path / "image")
    assert server.failed["503"] > 0
