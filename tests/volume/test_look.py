import gzip
import itertools
import shutil
import threading

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from volumes import create_filled, numbers, save, small_spec
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from pipeline.errors import InputDamageError, MissingChunkError, NonFiniteError, StoreError
from pipeline.geometry import Box
from pipeline.store import LocalPlace
from pipeline.volume import open_volume
from pipeline.volume.look import HOLE, SEPARATE, identity_digest, seen_of


def sharded(path, *, shape=(20, 13), channels=None, dtype="u1", seed=0):
    """Write random voxels in shards of 8 with zstd and crc32c, inner chunks of 4; return the volume and them."""
    spec = small_spec(shape, channels=channels, dtype=dtype)
    data = np.random.default_rng(seed).integers(1, 200, spec.stored_shape).astype(dtype)
    create_filled(path, spec, data)
    return open_volume(path), data


def leave_out(path, box, *, holes=0):
    """Write an array of shards again without the inner chunks of a box, as Zarr leaves empty ones out."""
    array = zarr.open_array(str(path), mode="r+").with_config({"write_empty_chunks": False})
    array[box.slices] = holes


# What is seen


def test_what_was_seen_are_the_identities_in_the_order_of_the_keys(tmp_path):
    volume, _ = sharded(tmp_path / "a")
    look = volume.look(Box((7, 7), (9, 9)))
    assert look.keys == ("c/0/0", "c/0/1", "c/1/0", "c/1/1") == tuple(volume.stored_keys(Box((7, 7), (9, 9))))
    stats = LocalPlace(tmp_path / "a" / "0").stats(look.keys)
    assert look.seen == tuple(identity_digest(stat.identity) for stat in stats)
    assert len({len(digest) for digest in look.seen} | {8}) == 1
    assert volume.look(Box((7, 7), (9, 9))).seen == look.seen


def test_the_mirror_image_is_seen_where_it_is_stored(tmp_path):
    volume, data = sharded(tmp_path / "a")
    look = volume.look(Box((-10, -3), (2, 5)))
    assert look.inside == Box((0, 0), (11, 5))
    assert look.keys == ("c/0/0", "c/1/0")
    np.testing.assert_array_equal(look.read()[0], data[:11, :5])
    padded = np.pad(data, 10, mode="reflect")
    np.testing.assert_array_equal(look.shown()[0], padded[0:12, 7:15])


def test_another_object_under_the_window_is_seen_as_another(tmp_path):
    volume, _ = sharded(tmp_path / "a")
    box = Box((0, 0), (20, 13))
    before = volume.look(box).seen
    path = tmp_path / "a" / "0" / "c" / "1" / "1"
    path.write_bytes(path.read_bytes() + b"")
    assert [a == b for a, b in zip(before, volume.look(box).seen, strict=True)] == [True] * 3 + [False] + [
        True
    ] * 2
    assert volume.look(Box((0, 0), (8, 8))).seen == before[:1]


def test_allowed_holes_are_seen_as_holes(tmp_path):
    volume, _ = sharded(tmp_path / "a")
    (tmp_path / "a" / "0" / "c" / "0" / "1").unlink()
    (tmp_path / "a" / "0" / "c" / "1" / "0").write_bytes(b"")
    look = volume.look(volume.box, holes="background")
    assert [digest == HOLE for digest in look.seen] == [False, True, True, False, False, False]
    assert (look.shown()[0, 8:16, :8] == 0).all()


def test_many_identities_are_told_as_one():
    digests = [identity_digest(str(i)) for i in range(SEPARATE + 1)]
    assert seen_of([]) == ()
    assert seen_of(digests[:-1]) == tuple(digests[:-1])
    (one,) = seen_of(digests)
    assert len(one) == 16
    assert int(one, 16) >= 0
    assert seen_of([*digests[:-1], HOLE]) != (one,)
    assert seen_of(digests[::-1]) != (one,)


# What is missing


def test_a_missing_inner_chunk_of_a_shard_is_named(tmp_path):
    volume, data = sharded(tmp_path / "a", shape=(16, 16))
    hole = Box((12, 8), (16, 12))
    leave_out(tmp_path / "a" / "0", hole)
    assert volume.missing(volume.box) == ["c/1/1"]
    assert volume.missing(Box((0, 0), (12, 16))) == []
    message = r"1 inner chunk\(s\) of shards below voxels 11:13,0:9 are missing \(inner chunk 1,0 of c/1/1\)"
    with pytest.raises(MissingChunkError, match=message):
        volume.look(Box((11, 0), (13, 9)))
    with pytest.raises(MissingChunkError, match="if inner chunks were left out"):
        volume.check_present(hole)
    np.testing.assert_array_equal(volume.read(Box((0, 0), (12, 16)))[0], data[:12])
    data[hole.slices] = 0
    np.testing.assert_array_equal(volume.read(volume.box, holes="background")[0], data)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("axes", ["yx", "cyx", "yxc", "zyx", "tczyx"])
def test_each_inner_chunk_that_is_left_out_is_found_and_no_other(tmp_path, axes, location):
    shape = tuple({"t": 1, "c": 3, "z": 3, "y": 5, "x": 6}[a] for a in axes)
    codec = zarr.codecs.ShardingCodec(
        chunk_shape=tuple(min(n, 2) for n in shape), codecs=[zarr.codecs.BytesCodec()], index_location=location
    )
    array = zarr.create_array(
        str(tmp_path / "a"),
        shape=shape,
        chunks=tuple(min(n, 4) // 2 * 2 or 1 for n in shape),
        serializer=codec,
        compressors=None,
        dtype="u1",
        dimension_names=list(axes),
        config={"write_empty_chunks": False},
    )
    data = np.random.default_rng(0).integers(0, 2, shape).astype("u1") * np.uint8(7)
    array[...] = data
    volume = open_volume(tmp_path / "a")
    inner, found = codec.chunk_shape, set()
    for start in itertools.product(*[range(0, n, c) for n, c in zip(shape, inner, strict=True)]):
        cut = tuple(slice(a, a + c) for a, c in zip(start, inner, strict=True))
        spatial = {a: (s.start, min(s.stop, n)) for a, s, n in zip(axes, cut, shape, strict=True)}
        if not data[cut].any():
            found.add(tuple(spatial[a] for a in volume.space.axes))
    for corner in itertools.product(*[range(n) for n in volume.shape]):
        voxel = Box(corner, tuple(a + 1 for a in corner))
        hole = any(all(a <= i < b for i, (a, b) in zip(corner, box, strict=True)) for box in found)
        assert bool(volume.missing(voxel)) == hole, voxel


def test_a_missing_channel_inside_a_shard_is_missing(tmp_path):
    volume, _ = sharded(tmp_path / "a", shape=(8, 8), channels=6)
    leave_out(tmp_path / "a" / "0", Box((4, 0, 0), (5, 4, 4)))
    with pytest.raises(MissingChunkError, match="inner chunk 4,0,0 of c/0/0/0"):
        volume.read_shown(Box((3, 3), (4, 4)))
    assert volume.missing(Box((4, 4), (8, 8))) == []


def test_an_empty_object_is_missing_and_the_keys_are_named(tmp_path):
    volume, _ = sharded(tmp_path / "a")
    for key in ("0/0", "0/1", "1/1", "2/0"):
        (tmp_path / "a" / "0" / "c" / key).write_bytes(b"")
    message = r"4 stored chunk\(s\) below voxels 0:20,0:13 are missing \(c/0/0, c/0/1, c/1/1 \.\.\.\)"
    with pytest.raises(MissingChunkError, match=message):
        volume.look(volume.box)


@pytest.mark.parametrize("content", [None, b""])
def test_a_chunk_that_vanishes_after_the_look_is_not_filled_in(tmp_path, content):
    volume, _ = sharded(tmp_path / "a")
    look = volume.look(volume.box)
    path = tmp_path / "a" / "0" / "c" / "1" / "0"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(MissingChunkError, match="c/1/0: the stored chunk vanished"):
        look.shown()


# What does not decode


def test_what_does_not_decode_is_named_with_its_box(tmp_path):
    volume, data = sharded(tmp_path / "a")
    for key in ("0/1", "1/0"):
        flip(tmp_path / "a" / "0" / "c" / key, 9)
    message = r"below voxels 0:9,0:9, 2 stored chunk\(s\) do not decode \(c/0/1: .*, c/1/0: .*\)\. Restore them"
    with pytest.raises(InputDamageError, match=message):
        volume.read(Box((0, 0), (9, 9)))
    np.testing.assert_array_equal(volume.read(Box((0, 0), (8, 8)))[0], data[:8, :8])
    with pytest.raises(InputDamageError, match="c/0/1"):
        volume.read(Box((0, 0), (9, 9)), holes="background")


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("holes", ["error", "background"])
def test_a_shard_that_is_cut_short_is_never_filled_in(tmp_path, location, holes):
    codec = zarr.codecs.ShardingCodec(chunk_shape=(4, 4), index_location=location)
    array = zarr.create_array(
        str(tmp_path / "a"), shape=(8, 8), chunks=(8, 8), serializer=codec, compressors=None, dtype="u1"
    )
    array[...] = numbers("yx", "u1")[:8, :8]
    volume = open_volume(tmp_path / "a")
    path = tmp_path / "a" / "c" / "0" / "0"
    whole = path.read_bytes()
    for count in range(1, len(whole)):
        path.write_bytes(whole[:count])
        with pytest.raises(InputDamageError, match="c/0/0"):
            volume.read(Box((4, 4), (8, 8)), holes=holes)


def test_an_index_that_points_nowhere_is_damage(tmp_path):
    codec = zarr.codecs.ShardingCodec(chunk_shape=(4, 4), index_codecs=[zarr.codecs.BytesCodec()])
    array = zarr.create_array(
        str(tmp_path / "a"), shape=(8, 8), chunks=(8, 8), serializer=codec, compressors=None, dtype="u1"
    )
    array[...] = 1
    path = tmp_path / "a" / "c" / "0" / "0"
    path.write_bytes(path.read_bytes()[:-8] + (10_000).to_bytes(8, "little"))
    with pytest.raises(
        InputDamageError, match=r"1 shard\(s\) are damaged \(c/0/0: its index points outside its 128"
    ):
        open_volume(tmp_path / "a").look(Box((0, 0), (1, 1)))


@pytest.mark.parametrize("compressor", [GzipCodec(), BloscCodec(), ZstdCodec(checksum=True), None])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_codecs_fail_in_their_own_ways_and_all_are_damage(tmp_path, compressor, zarr_format):
    old = {GzipCodec: numcodecs.GZip, BloscCodec: numcodecs.Blosc, ZstdCodec: numcodecs.Zstd}
    if zarr_format == 2 and compressor is not None:
        compressor = old[type(compressor)]()
    array = zarr.create_array(
        str(tmp_path / "a"),
        shape=(8, 8),
        chunks=(8, 8),
        dtype="u2",
        compressors=compressor,
        zarr_format=zarr_format,
    )
    array[...] = numbers("yx")[:8, :8]
    key = "0.0" if zarr_format == 2 else "c/0/0"
    path = tmp_path / "a" / key
    whole = path.read_bytes()
    volume = open_volume(tmp_path / "a", axes="yx")
    for data in (whole[:-1], whole[: len(whole) // 2], whole[:1], b"\xff" * (len(whole) - 2)):
        path.write_bytes(data)
        with pytest.raises(InputDamageError, match=f"{key}: "):
            volume.read(volume.box)
    path.write_bytes(whole)
    assert volume.read(volume.box).shape == (1, 8, 8)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_blosc_chunk_that_is_cut_short_is_never_made_up(tmp_path, zarr_format):
    compressor = numcodecs.Blosc() if zarr_format == 2 else BloscCodec()
    array = zarr.create_array(
        str(tmp_path / "a"),
        shape=(8, 8),
        chunks=(8, 8),
        dtype="u2",
        compressors=compressor,
        zarr_format=zarr_format,
    )
    array[...] = np.random.default_rng(0).integers(0, 60_000, (8, 8))
    volume = open_volume(tmp_path / "a", axes="yx")
    path = tmp_path / "a" / ("0.0" if zarr_format == 2 else "c/0/0")
    whole = path.read_bytes()
    for count in range(1, len(whole)):
        path.write_bytes(whole[:count])
        with pytest.raises(InputDamageError, match=f"cut short to {count}"):
            volume.read(volume.box, holes=["error", "background"][count % 2])
    path.write_bytes(whole)
    np.testing.assert_array_equal(volume.read(volume.box)[0], array[...])


def test_checks_stay_when_zarr_makes_a_store_read_only(tmp_path):
    volume, _ = sharded(tmp_path / "a")
    store = volume.checked["error"].store.with_read_only(True)
    assert store.read_only
    (tmp_path / "a" / "0" / "c" / "0" / "0").unlink()
    with pytest.raises(MissingChunkError, match="vanished"):
        sync(store.get("0/c/0/0", default_buffer_prototype()))


class Stubborn:
    """An array whose reads fail as they are told, first all at once and then one by one."""

    def __init__(self, *errors):
        self.errors = list(errors)

    def __getitem__(self, slices):
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return np.ones([s.stop - s.start for s in slices], "u1")


@pytest.fixture
def stubborn(tmp_path):
    """A look whose reads fail with the given errors, in turn."""

    def look(*errors):
        found = sharded(tmp_path / "a")[0].look(Box((0, 0), (8, 13)))
        found.volume.checked["error"] = Stubborn(*errors)
        return found

    return look


def test_errors_of_machine_and_store_pass_as_they_are(stubborn):
    look = stubborn()
    for error in (OSError(5, "input/output error"), PermissionError(13, "no"), StoreError("silent")):
        look.volume.checked["error"].errors.append(error)
        with pytest.raises(type(error)) as found:
            look.read()
        assert found.value is error


def test_an_error_of_the_machine_while_damage_is_looked_for_passes(stubborn):
    with pytest.raises(OSError, match="input/output"):
        stubborn(ValueError("checksum"), OSError(5, "input/output error")).read()


def test_what_decodes_later_changed_while_it_was_read(stubborn):
    with pytest.raises(InputDamageError, match=r"did not decode \(checksum\), and did later"):
        stubborn(ValueError("checksum")).read()


def test_memory_that_runs_out_is_no_damage_unless_one_chunk_alone_needs_it(stubborn, tmp_path):
    with pytest.raises(MemoryError):
        stubborn(MemoryError()).read()
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(InputDamageError, match=r"1 stored chunk\(s\) do not decode \(c/0/1: MemoryError"):
        stubborn(MemoryError(), None, MemoryError("absurd")).read()


def test_a_codecs_own_error_of_the_machine_is_damage(stubborn):
    error = gzip.BadGzipFile("not a gzip file")
    with pytest.raises(InputDamageError, match="c/0/0: BadGzipFile"):
        stubborn(error, error).read()


# NaN


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("holes", ["error", "background"])
def test_nan_and_infinity_are_errors_of_what_is_shown_and_are_read_as_they_are(tmp_path, dtype, holes):
    data = np.ones((2, 13, 17), dtype)
    data[1, 5, 9], data[1, 5, 10], data[1, 12, 0] = np.nan, np.inf, -np.inf
    save(tmp_path / "a", data, "cyx", chunks=(1, 4, 4), sharded=False)
    volume = open_volume(tmp_path / "a")
    message = r"3 of 442 voxels of 0:13,0:17 are NaN or infinite; the first is voxel 5,9 of channel 1, stored in"
    with pytest.raises(NonFiniteError, match=message):
        volume.look(Box((-1, 0), (13, 17)), holes=holes).shown()
    assert np.isnan(volume.read_shown(Box((-1, 0), (13, 17)), holes=holes)).sum() == 1
    np.testing.assert_array_equal(volume.read(volume.box, holes=holes), data)
    assert volume.read_shown(Box((0, 0), (5, 17))).shape == (2, 5, 17)
    with pytest.raises(NonFiniteError, match="2 of 12 voxels of 5:6,8:14"):
        volume.look(Box((5, 8), (6, 14))).shown()


def test_nan_is_found_wherever_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.volume.shown.AT_ONCE", 40)
    data = np.ones((13, 17), "f4")
    for y in range(13):
        data[y, 3] = np.nan
        save(tmp_path / str(y), data, "yx")
        with pytest.raises(NonFiniteError, match=f"1 of 221 .* voxel {y},3 of channel 0, stored in c/{y // 4}/0"):
            open_volume(tmp_path / str(y)).look(Box((0, 0), (13, 17))).shown()
        data[y, 3] = 1


# Nothing is silent


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    root = tmp_path_factory.mktemp("victim")
    volume, data = sharded(root / "a", shape=(20, 21), channels=2, dtype="u2", seed=5)
    folder = root / "a" / "0"
    return volume, data, {key: (folder / key).read_bytes() for key in volume.stored_keys(volume.box)}, folder


DAMAGE = st.one_of(
    st.just(("delete", 0)),
    st.tuples(st.just("cut"), st.integers(0, 10_000)),
    st.tuples(st.just("flip"), st.integers(0, 80_000)),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), damage=DAMAGE, holes=st.sampled_from(["error", "error", "background"]))
def test_no_damage_is_silent(victim, data, damage, holes):
    volume, voxels, stored, folder = victim
    kind, number = damage
    key = data.draw(st.sampled_from(sorted(stored)))
    whole = stored[key]
    if kind == "delete":
        (folder / key).unlink()
    elif kind == "cut":
        (folder / key).write_bytes(whole[: number % len(whole)])
    else:
        flip(folder / key, number)
    try:
        gone = not (folder / key).exists() or not (folder / key).stat().st_size
        look_and_compare(volume, voxels, data.draw(boxes(volume.shape)), holes, key if gone else None)
    finally:
        (folder / key).write_bytes(whole)


@st.composite
def boxes(draw, shape):
    start = tuple(draw(st.integers(-4, n - 1)) for n in shape)
    return Box(start, tuple(a + draw(st.integers(1, 25)) for a in start))


def look_and_compare(volume, voxels, box, holes, gone):
    """What is shown is right, or it is an error; a hole that is allowed is fill, and seen as a hole."""
    widths = [(max(0, -a), max(0, b - n)) for (a, b), n in zip(box, volume.shape, strict=True)]
    cut = tuple(slice(a + w, b + w) for (a, b), (w, _) in zip(box, widths, strict=True))
    try:
        look = volume.look(box, holes=holes)
        shown = look.shown()
    except (MissingChunkError, InputDamageError):
        return
    if gone in look.keys:
        assert holes == "background"
        assert look.seen[look.keys.index(gone)] == HOLE
        return
    expected = np.pad(voxels, [(0, 0), *widths], mode="reflect")[(slice(None), *cut)]
    np.testing.assert_array_equal(shown, expected)


def test_a_volume_is_shared_by_threads(tmp_path):
    volume, data = sharded(tmp_path / "a", shape=(40, 40))
    wrong = []

    def work(offset):
        for i in range(30):
            start = ((offset * 7 + i * 5) % 33, (offset * 3 + i) % 33)
            box = Box(start, tuple(a + 7 for a in start))
            if not np.array_equal(volume.read_shown(box)[0], data[box.slices]):
                wrong.append(box)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
