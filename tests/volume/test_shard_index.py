import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from volumes import create_filled, numbers, save, small_spec
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec

from pipeline.errors import InputDamageError, VolumeError
from pipeline.geometry import Box
from pipeline.store import Stat
from pipeline.volume import index, open_volume
from pipeline.volume.index import MISSING, IndexForm, Indices, index_form

FORM = IndexForm((2, 3), at_start=False, checked=True)
HOLE = 2**64 - 1


def encoded(entries, *, checked=True):
    body = np.array(entries, "<u8").tobytes()
    return body + google_crc32c.value(body).to_bytes(4, "little") if checked else body


def test_an_index_says_where_inner_chunks_lie():
    entries = [[[0, 5], [5, 1], [HOLE, HOLE]], [[6, 4], [HOLE, HOLE], [10, 2]]]
    found = FORM.decode(encoded(entries), 12 + FORM.nbytes)
    assert FORM.nbytes == 6 * 16 + 4
    assert found.tolist() == entries
    assert (found == MISSING).all(axis=-1).tolist() == [[False, False, True], [False, True, False]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes instead of 100"),
        (encoded(np.zeros((2, 3, 2)))[:-1], "99 bytes instead of 100"),
        (encoded(np.zeros((2, 3, 2)))[:-1] + b"\x01", "checksum of its index does not match"),
        (encoded(np.full((2, 3, 2), [0, 200])), "points outside its 150 bytes"),
        (encoded(np.full((2, 3, 2), [151, 1])), "points outside its 150 bytes"),
        (encoded(np.full((2, 3, 2), [4, 0])), "points outside its 150 bytes"),
        (encoded(np.full((2, 3, 2), np.array([HOLE, 1], "u8"))), "points outside its 150 bytes"),
        (encoded(np.full((2, 3, 2), np.array([1, HOLE], "u8"))), "points outside its 150 bytes"),
    ],
)
def test_what_is_no_index_of_this_shard_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        FORM.decode(data, 150)


@given(st.integers(0, FORM.nbytes * 8 - 1))
def test_every_flipped_bit_is_found(bit):
    data = bytearray(encoded(np.full((2, 3, 2), [0, 9])))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="checksum"):
        FORM.decode(bytes(data), 200)


def made(path, shape=(8, 8), **options):
    codec = ShardingCodec(**{"chunk_shape": (4, 4), "codecs": [BytesCodec()]} | options.pop("sharding", {}))
    array = zarr.create_array(
        str(path), shape=shape, chunks=(8, 8), dtype="u1", serializer=codec, **({"compressors": None} | options)
    )
    array[...] = 1
    return array


@pytest.mark.parametrize(
    ("sharding", "form"),
    [
        ({}, IndexForm((2, 2), False, True)),
        ({"index_location": "start"}, IndexForm((2, 2), True, True)),
        ({"index_codecs": [BytesCodec()]}, IndexForm((2, 2), False, False)),
        ({"chunk_shape": (8, 2)}, IndexForm((1, 4), False, True)),
    ],
)
def test_forms_that_are_known(tmp_path, sharding, form):
    assert index_form(made(tmp_path / "a", sharding=sharding)) == form


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sharding": {"index_codecs": [BytesCodec(endian="big"), Crc32cCodec()]}}, "index_codecs"),
        ({"sharding": {"index_codecs": [BytesCodec(), Crc32cCodec(), Crc32cCodec()]}}, "index_codecs"),
        ({"sharding": {"codecs": [ShardingCodec(chunk_shape=(2, 2))]}}, "shards inside shards"),
        ({"compressors": [GzipCodec()]}, "another codec around them"),
        ({"filters": [TransposeCodec(order=(1, 0))]}, "another codec around them"),
    ],
)
@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec")
def test_forms_that_are_not_known_are_refused_at_the_look_unless_holes_are_background(tmp_path, options, message):
    made(tmp_path / "a", **options)
    volume = open_volume(tmp_path / "a")
    with pytest.raises(VolumeError, match=f"{tmp_path}.*{message}.*--holes background"):
        volume.look(Box((0, 0), (1, 1)))
    with pytest.raises(VolumeError, match="shards of one level"):
        volume.missing(volume.box)
    assert (volume.look(volume.box, holes="background").shown() == 1).all()


def test_arrays_without_shards_have_no_indices(tmp_path):
    for zarr_format in (2, 3):
        array = save(tmp_path / str(zarr_format), numbers("yx"), zarr_format=zarr_format)
        assert index_form(array) is None
        with pytest.raises(AssertionError, match="no indices"):
            Indices(array).read({}, "a")


def test_the_last_few_indices_are_kept_and_a_new_identity_is_read_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "HELD", 3)
    spec = small_spec((32, 8))
    create_filled(tmp_path / "a", spec, np.ones(spec.stored_shape, "u1"))
    volume = open_volume(tmp_path / "a")
    keys = volume.stored_keys(volume.box)
    shards = dict(zip(keys, volume.place.stats(keys), strict=True))
    indices = Indices(volume.array)
    first = indices.read(shards, "a")
    again = indices.read(shards, "a")
    assert [first[key] is again[key] for key in keys] == [False, True, True, True]
    assert len(indices._held) == 3
    (tmp_path / "a" / "0" / keys[3]).write_bytes(b"x" * shards[keys[3]].size)
    with pytest.raises(InputDamageError, match=rf"1 shard\(s\) are damaged \({keys[3]}: the checksum"):
        indices.read({keys[3]: Stat(shards[keys[3]].size, "another")}, "a")


def test_all_damaged_indices_are_counted_and_three_are_named(tmp_path):
    spec = small_spec((32, 8))
    create_filled(tmp_path / "a", spec, np.ones(spec.stored_shape, "u1"))
    volume = open_volume(tmp_path / "a")
    for key in volume.stored_keys(volume.box):
        (tmp_path / "a" / "0" / key).write_bytes(b"x" * 200)
    with pytest.raises(
        InputDamageError, match=r"voxels 0:32,0:8: 4 shard\(s\) are damaged \(c/0/0: .*c/1/0: .*c/2/0: .* \.\.\.\)"
    ):
        volume.look(volume.box)
