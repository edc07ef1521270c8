"""One interface to a file on this machine, in a bucket and behind a web server: a table, three kinds."""

import io
import os
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3 import S3Server
from web import WebServer

from pipeline.errors import InputError, StoreError
from pipeline.store import list_files, open_file, open_place
from pipeline.store.files import matches
from pipeline.store.remote import AHEAD, BLOCK, GAP, KEPT, SPAN, join_ranges

DATA = np.random.default_rng(0).integers(0, 256, 5 * BLOCK + 123).astype("u1").tobytes()


@pytest.fixture(scope="module")
def bucket():
    with S3Server(patience=1.0) as server:
        yield server


@pytest.fixture(params=["folder", "bucket", "web"])
def put(request, tmp_path, bucket):
    """Store a file; returns its address."""
    bucket.heal()
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)

    def put(data, key="f/data.bin"):
        if request.param == "bucket":
            open_place(bucket.url(name)).put(key, data)
            return bucket.url(f"{name}/{key}")
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_bytes(data)
        return web.url(key) if request.param == "web" else str(tmp_path / key)

    with WebServer(tmp_path) as web:
        yield put
    bucket.heal()


def missing(url):
    return open_file(url + ".other")


def test_what_is_known_of_a_file(put):
    url = put(b"abc")
    file = open_file(url)
    assert (file.url, file.name) == (url, "data.bin")
    assert (file.path is None) == ("://" in url)
    assert file.stat().size == 3
    assert file.stat() == file.stat()
    assert pickle.loads(pickle.dumps(file)).ranges([(0, 3)]) == [b"abc"]
    before = file.stat()
    put(b"abcd")
    assert file.stat() != before


def test_what_is_not_there_is_not_found(put):
    file = missing(put(b""))
    for ask in (file.stat, file.open, lambda: file.ranges([(0, 1)])):
        with pytest.raises(FileNotFoundError):
            ask()


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path).stat()


def test_a_file_is_read_from_front_to_back(put):
    with open_file(put(DATA)).open() as handle:
        assert handle.seekable()
        assert handle.read(10) == DATA[:10]
        assert handle.read() == DATA[10:]
        assert handle.read(1) == b""
        assert handle.seek(-3, io.SEEK_END) == len(DATA) - 3
        assert handle.read(100) == DATA[-3:]
        handle.seek(len(DATA) + 10)
        assert handle.read(5) == b""
    with open_file(put(b"", "f/empty")).open() as handle:
        assert handle.read() == b""


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, 2 * BLOCK)), max_size=6))
def test_any_part_is_the_same_part(put, parts):
    parts = [(start, min(count, len(DATA) - start)) for start, count in parts]
    file = open_file(put(DATA))
    expected = [DATA[start : start + count] for start, count in parts]
    assert file.ranges(parts, file.stat()) == expected
    with file.open() as handle:
        found = [(handle.seek(start), handle.read(count))[1] for start, count in parts]
    assert found == expected


def test_a_range_past_the_end_is_an_error(put):
    with pytest.raises(StoreError):
        open_file(put(b"abc")).ranges([(1, 10)])


def test_another_version_of_a_file_is_an_error(put):
    file = open_file(put(DATA))
    before = file.stat()
    handle = file.open()
    put(DATA[:-1])
    with pytest.raises(StoreError, match="it was changed while it was read"):
        file.ranges([(0, 4)], before)
    if file.path is None:
        with pytest.raises(StoreError, match="it was changed while it was read"):
            handle.read(4)
    handle.close()


def test_a_position_before_the_file_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    with (
        WebServer(tmp_path) as web,
        open_file(web.url("a")).open() as handle,
        pytest.raises(ValueError, match="before"),
    ):
        handle.raw.seek(-1)


def test_without_etags_size_and_time_identify_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    with WebServer(tmp_path) as web:
        web.etags = False
        first = open_file(web.url("a")).stat()
        assert open_file(web.url("a")).stat() == first
        os.utime(tmp_path / "a", (1e9, 1e9))
        assert open_file(web.url("a")).stat() != first


def test_a_server_that_sends_no_parts_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    with WebServer(tmp_path) as web:
        web.ranges = False
        with pytest.raises(InputError, match="range requests"):
            open_file(web.url("a")).ranges([(1, 1)])


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, PermissionError), (403, PermissionError), (404, FileNotFoundError), (500, StoreError)],
)
def test_answers_of_a_server_are_told_apart(tmp_path, status, error):
    (tmp_path / "a").write_bytes(b"abc")
    with WebServer(tmp_path) as web:
        web.status = status
        with pytest.raises(error):
            open_file(web.url("a")).stat()


def test_a_refusal_is_no_absence(bucket):
    open_place(bucket.url("refused")).put("a", b"abc")
    bucket.fail(1, "403", count=None)
    with pytest.raises(PermissionError):
        open_file(bucket.url("refused/a")).open()
    bucket.heal()


def test_blocks_are_kept_and_read_ahead(tmp_path):
    blocks = 3 * KEPT
    (tmp_path / "a").write_bytes(bytes(blocks * BLOCK))
    with WebServer(tmp_path) as web, open_file(web.url("a")).open() as handle:
        web.counts.clear()
        handle.read(100)
        handle.read(100)
        assert web.counts["GET"] == 1
        handle.seek(0)
        for _ in range(blocks):
            assert len(handle.read(BLOCK)) == BLOCK
        assert web.counts["GET"] <= 4 + blocks // AHEAD
        assert len(handle.raw._blocks) <= KEPT


def test_near_ranges_come_in_one_request(tmp_path):
    (tmp_path / "a").write_bytes(DATA)
    with WebServer(tmp_path) as web:
        file = open_file(web.url("a"))
        stat = file.stat()
        web.counts.clear()
        wanted = [(i * 1000, 100) for i in range(50)]
        assert file.ranges(wanted, stat) == [DATA[a : a + n] for a, n in wanted]
        assert web.counts["GET"] == 1


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 28)), max_size=20))
def test_joined_ranges_hold_each_range_once(wanted):
    joined = join_ranges(wanted)
    assert sorted(m for _, members in joined for m in members) == [i for i, (_, n) in enumerate(wanted) if n]
    for (start, count), members in joined:
        assert all(start <= wanted[m][0] and sum(wanted[m]) <= start + count for m in members)
        assert count <= max(SPAN, max(wanted[m][1] for m in members))
    for ((a, n), _), ((b, m), _) in pairwise(joined):
        assert b - (a + n) > GAP or max(a + n, b + m) - a > SPAN


@pytest.fixture(params=["folder", "bucket"])
def root(request, tmp_path, bucket):
    """A folder or prefix of a few files."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    place = open_place(tmp_path if request.param == "folder" else bucket.url(name))
    for key in ("b.png", "a.png", "a1.png", ".hidden", "deep/c.png", "deep/er/d.png", "deep/er/e.tif"):
        place.put(key, key.encode())
    return place.url


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", [".hidden", "a.png", "a1.png", "b.png"]),
        ("/*.png", ["a.png", "a1.png", "b.png"]),
        ("/a?.png", ["a1.png"]),
        ("/[ab].png", ["a.png", "b.png"]),
        ("/deep/*", ["deep/c.png"]),
        ("/*/c.png", ["deep/c.png"]),
        ("/**/*.tif", ["deep/er/e.tif"]),
        ("/deep/**/*.png", ["deep/c.png", "deep/er/d.png"]),
        ("/none", []),
        ("/*.jpg", []),
    ],
)
def test_files_of_a_folder_and_of_a_pattern(root, pattern, found):
    listed = list_files(root + pattern)
    assert [file.url.removeprefix(f"{root}/") for file in listed] == found
    assert [file.ranges([(0, file.stat().size)])[0].decode() for file in listed] == found


def test_nothing_is_listed_behind_https(tmp_path):
    with WebServer(tmp_path) as web, pytest.raises(InputError, match="cannot be listed"):
        list_files(web.url("a/*.png"))


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("a", "**", True),
        ("a/b/c", "**/c", True),
        ("c", "**/c", True),
        ("a/b", "*", False),
        ("a/b", "a/**/b", True),
        ("a/x/y/b", "a/**/b", True),
        ("a/b/c", "a/**/b", False),
        ("A", "a", False),
    ],
)
def test_patterns(path, pattern, fits):
    assert matches(path.split("/"), pattern.split("/")) is fits
