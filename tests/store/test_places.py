"""The laws of places, on a folder and on an object store: one table, two kinds."""

import errno
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3 import S3Server

from pipeline.errors import InputError, StoreError
from pipeline.store import (
    PARTIAL,
    LocalPlace,
    ObjectPlace,
    absolute,
    fsync,
    make_folder,
    open_place,
    put_file,
    same_place,
)


@pytest.fixture(scope="module")
def server():
    with S3Server(patience=1.0) as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path, server):
    server.heal()
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    yield open_place(tmp_path / name if request.param == "folder" else server.url(f"{name}/p"))
    server.heal()


@pytest.fixture
def bucket(server, request):
    """A place in the bucket alone."""
    server.heal()
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    yield open_place(server.url(f"bucket-{name}"))
    server.heal()


def keys(place, prefix=""):
    return sorted(entry.key for entry in place.entries(prefix))


def test_what_is_put_is_there_at_once_and_is_replaced(place):
    place.put("a/b", b"old")
    assert place.get("a/b") == b"old"
    place.put("a/b", b"")
    assert place.get("a/b") == b""
    place.put("a/b", bytes(range(256)) * 5000)
    assert place.get("a/b") == bytes(range(256)) * 5000
    assert keys(place) == ["a/b"]


@pytest.mark.parametrize("operation", [lambda p: p.get("a/b"), lambda p: p.tail("a/b", 3)])
def test_what_is_not_there_is_not_found(place, operation):
    with pytest.raises(FileNotFoundError):
        operation(place)
    place.put("a/c", b"another")
    with pytest.raises(FileNotFoundError):
        operation(place)


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("count", [1, 4, 999, 1001])
def test_the_tail_is_the_end_or_all_of_it(place, size, count):
    data = os.urandom(size)
    place.put("a", data)
    assert place.tail("a", count) == data[-count:]


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_stats_are_in_the_order_of_the_keys_and_none_where_nothing_is(place, count):
    for i in range(0, count, 2):
        place.put(f"a/{i}", b"x" * i)
    found = place.stats([f"a/{i}" for i in range(count)])
    assert [s and s.size for s in found] == [None if i % 2 else i for i in range(count)]


def test_a_key_below_an_object_is_not_there(place):
    place.put("a", b"1")
    assert place.stats(["a/b"]) == [None]


def test_an_identity_stays_until_the_object_is_written_again(place):
    place.put("a", b"one")
    first = place.stats(["a"])
    assert place.stats(["a"]) == first
    (entry,) = place.entries()
    assert [entry.stat] == first
    place.put("a", b"two")
    assert place.stats(["a"]) != first


def test_a_creation_makes_it_once(place):
    assert place.create("a/b", b"first")
    assert not place.create("a/b", b"second")
    assert place.get("a/b") == b"first"
    assert keys(place) == ["a/b"]


def test_of_many_that_create_one_wins(place):
    start = threading.Barrier(12, timeout=60)

    def attempt(number):
        start.wait()
        return place.create("a/run.json", b"by %d" % number)

    with ThreadPoolExecutor(12) as pool:
        won = list(pool.map(attempt, range(12)))
    assert sum(won) == 1
    assert place.get("a/run.json") == b"by %d" % won.index(True)
    assert keys(place) == ["a/run.json"]


def test_deleting_is_once_and_again_nothing(place):
    place.put("a/b", b"1")
    place.put("a/c", b"2")
    place.delete("a/b")
    place.delete("a/b")
    place.delete("d/e")
    assert keys(place) == ["a/c"]


def test_entries_are_everything_below_a_folder_and_nothing_beside_it(place):
    assert keys(place) == []
    assert keys(place, "a") == []
    for key in ("a/b/c", "a/d", "ab/e", "f"):
        place.put(key, key.encode())
    assert keys(place) == ["a/b/c", "a/d", "ab/e", "f"]
    assert keys(place, "a") == keys(place, "a/") == ["a/b/c", "a/d"]
    assert keys(place, "a/b") == ["a/b/c"]
    assert {entry.stat.size for entry in place.entries("a")} == {3, 5}


def test_places_inside_and_beside(place):
    place.at("a").put("b", b"inside")
    assert place.get("a/b") == b"inside"
    assert place.at("a").at("c/d").url == place.at("a/c/d").url == f"{place.url}/a/c/d"
    beside = place.beside(".run")
    assert beside.url == f"{place.url}.run"
    beside.put("run.json", b"{}")
    assert keys(place) == ["a/b"]
    assert keys(beside) == ["run.json"]
    assert repr(place).endswith(f"Place({place.url!r})")


def test_what_grows_is_there_when_it_was_synced_or_closed(place):
    appender = place.appender("log/one")
    appender.append(b"a\n")
    appender.append(b"b\n")
    appender.sync()
    appender.sync()
    assert grown(place, "log/one") == b"a\nb\n"
    appender.append(b"c\n")
    appender.close()
    appender.close()
    assert grown(place, "log/one") == b"a\nb\nc\n"


def grown(place, key):
    """Return all of what grew: a file, or the objects below its key."""
    return b"".join(place.get(found) for found in keys(place) if found.startswith(key))


def test_a_place_is_a_zarr_store(place):
    store = place.zarr_store(read_only=False)
    array = zarr.create_array(store, name="a", shape=(4,), chunks=(2,), dtype="u1")
    array[:] = [1, 2, 3, 4]
    assert keys(place) == ["a/c/0", "a/c/1", "a/zarr.json", "zarr.json"]
    reading = zarr.open_array(place.zarr_store(read_only=True), path="a", mode="r")
    assert reading[...].tolist() == [1, 2, 3, 4]
    assert place.at("a").zarr_store(read_only=True).read_only


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("pcd"), st.sampled_from(["a", "b/a", "b/b"]), st.binary(max_size=4))))
def test_a_folder_behaves_as_a_dictionary(tmp_path_factory, steps):
    place, model = LocalPlace(tmp_path_factory.mktemp("model")), {}
    for step, key, data in steps:
        if step == "p":
            place.put(key, data)
            model[key] = data
        elif step == "c":
            assert place.create(key, data) == (key not in model)
            model.setdefault(key, data)
        else:
            place.delete(key)
            model.pop(key, None)
    assert {entry.key: place.get(entry.key) for entry in place.entries()} == model


@pytest.mark.parametrize(
    "operation",
    [
        lambda p: p.get("a"),
        lambda p: p.tail("a", 1),
        lambda p: p.stats(["a"]),
        lambda p: p.stats(["a", "b"]),
        lambda p: p.put("a", b"1"),
        lambda p: p.create("a", b"1"),
        lambda p: p.replace("a", b"1", "etag"),
        lambda p: p.versioned("a"),
        lambda p: p.delete("a"),
        lambda p: list(p.entries()),
    ],
)
@pytest.mark.parametrize(("kind", "error"), [("503", StoreError), ("403", PermissionError)])
def test_a_store_that_does_not_answer_is_no_absence(server, bucket, operation, kind, error):
    bucket.put("a", b"there")
    server.fail(1, kind, count=None)
    with pytest.raises(error, match=bucket.url) as found:
        operation(bucket)
    assert not isinstance(found.value, FileNotFoundError)
    server.heal()
    assert bucket.get("a") == b"there"


def test_what_could_not_be_synced_waits_and_nothing_is_lost_or_doubled(server, bucket):
    appender = bucket.appender("log")
    appender.append(b"a\n")
    server.fail(1, "503", count=None)
    with pytest.raises(StoreError):
        appender.sync()
    server.heal()
    appender.append(b"b\n")
    appender.close()
    assert {entry.key for entry in bucket.entries()} == {"log/00000001", "log/00000002"}
    assert grown(bucket, "log") == b"a\nb\n"


def test_an_object_is_replaced_only_in_the_version_that_is_known(bucket):
    bucket.put("a", b"one")
    _, etag = bucket.versioned("a")
    new = bucket.replace("a", b"two", etag)
    assert bucket.versioned("a") == (b"two", new)
    assert bucket.replace("a", b"three", etag) is None
    assert bucket.replace("a", b"two", etag) == new, "its own, whose answer was lost"
    assert bucket.replace("b", b"one", etag) is None
    assert keys(bucket) == ["a"]


def test_a_folder_in_the_way_is_an_error_of_the_machine(tmp_path):
    place = LocalPlace(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    for operation in (lambda: place.put("a", b"1"), lambda: place.get("a"), lambda: place.delete("a")):
        with pytest.raises(OSError, match="directory"):
            operation()
    place.put("c", b"1")
    with pytest.raises(NotADirectoryError):
        list(place.entries("c"))
    assert keys(place) == ["c"]


def test_a_file_grows_alone_and_not_over_another(tmp_path):
    place = LocalPlace(tmp_path)
    place.put("a", b"1")
    with pytest.raises(FileExistsError):
        place.appender("a")
    assert place.get("a") == b"1"


def test_after_a_write_that_was_cut_short_a_file_goes_on_with_a_new_line(tmp_path):
    appender = LocalPlace(tmp_path).appender("a")
    file = appender._file

    class Full:
        """A file on a disk that is full after three bytes."""

        def write(self, data):
            file.write(bytes(data[:3]))
            raise OSError(errno.ENOSPC, "no space left")

    appender._file = Full()
    with pytest.raises(OSError, match="no space"):
        appender.append(b"first\n")
    appender._file = file
    appender.append(b"second\n")
    appender.close()
    assert (tmp_path / "a").read_bytes() == b"fir\nsecond\n"


def test_a_put_that_fails_leaves_the_old_bytes_and_no_partial(tmp_path, monkeypatch):
    place = LocalPlace(tmp_path)
    place.put("a", b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    for write in (lambda: place.put("a", b"new"), lambda: place.create("b", b"new")):
        with pytest.raises(OSError, match="no space"):
            write()
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert place.get("a") == b"old"


@pytest.mark.parametrize("write", ["put", "create", "delete"])
def test_bytes_then_names_are_forced_to_the_disk(tmp_path, monkeypatch, write):
    place = LocalPlace(tmp_path)
    (tmp_path / "a").mkdir()
    if write == "delete":
        place.put("a/b", b"1")
    forced, real = [], os.fsync

    def noted(handle):
        forced.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real(handle)

    monkeypatch.setattr(os, "fsync", noted)
    getattr(place, write)(*(("a/b",) if write == "delete" else ("a/b", b"1")))
    assert forced == (["folder"] if write == "delete" else ["file", "folder"])


def test_folders_are_made_once_and_files_put_by_many_threads_are_whole(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    fsync(tmp_path / "a" / "b")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: put_file(tmp_path / "a" / "c" / "d", bytes([i]) * 10_000), range(8)))
    assert len(set((tmp_path / "a" / "c" / "d").read_bytes())) == 1
    assert not list(tmp_path.rglob(f"*{PARTIAL}"))


@pytest.mark.parametrize(
    ("url", "kind", "found"),
    [
        ("a/b.zarr", LocalPlace, "a/b.zarr"),
        ("file:///a/b.zarr", LocalPlace, "/a/b.zarr"),
        ("s3://overtile-test/a/b.zarr/", ObjectPlace, "s3://overtile-test/a/b.zarr"),
    ],
)
def test_addresses(server, url, kind, found):
    place = open_place(url)
    assert type(place) is kind
    assert place.url == found


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket", "not an address of the form s3://bucket/key"),
        ("s3://bucket/", "not an address of the form"),
        ("s3:///prefix", "not an address of the form"),
        ("s3://key:secret@bucket/prefix", "credentials go into the environment"),
        ("s3://bucket/prefix?endpoint=x", "not an address of the form"),
        ("s3://bucket/prefix#a", "not an address of the form"),
        ("s3://bucket/a//b", "not an address of the form"),
        ("ftp://host/prefix", "addresses are a path or begin with one of .*, not ftp://"),
        ("file://host/a", "a file address is file:///absolute/path"),
        ("file:a::s3://b/c", "chained addresses are not read"),
        ("simplecache::s3://bucket/prefix", "chained addresses are not read"),
    ],
)
def test_addresses_of_another_form_are_refused(url, message):
    with pytest.raises(InputError, match=message):
        open_place(url)


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_CHECKSUM_ALGORITHM", "bogus"), ("AWS_CONDITIONAL_PUT", "bogus"), ("OVERTILE_STORE_PATIENCE", "long")],
)
def test_an_object_store_that_is_not_set_up_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"s3://bucket/prefix: the object store is not set up .*" + value):
        open_place("s3://bucket/prefix")


def test_object_stores_are_an_extra(monkeypatch):
    monkeypatch.setattr("pipeline.store.clients.obstore", None)
    with pytest.raises(InputError, match=r"pip install 'overtile\[s3\]'"):
        open_place("s3://bucket/prefix")


def test_absolute_addresses_mean_the_same_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("a/../b") == str(tmp_path / "b")
    assert absolute("file:///a/b") == "/a/b"
    assert absolute("s3://bucket/prefix/") == "s3://bucket/prefix"
    assert absolute("s3://bucket/slices/s?.png") == "s3://bucket/slices/s?.png"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a", "a/", True),
        ("a", "a/b", True),
        ("a/b", "a", True),
        ("a", "ab", False),
        ("s3://b/p", "s3://b/p/q", True),
        ("s3://b/p", "s3://b/pq", False),
        ("s3://b/p", "s3://c/p", False),
        ("s3://b/p", "b/p", False),
    ],
)
def test_places_that_are_one_or_lie_inside_each_other(one, other, same):
    assert same_place(one, other) is same


def test_a_creation_whose_file_was_taken_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    place, link, calls = LocalPlace(tmp_path), os.link, []

    def removed(source, target):
        calls.append(source)
        if len(calls) < 3:
            os.unlink(source)
        link(source, target)

    monkeypatch.setattr("pipeline.store.local.os.link", removed)
    assert place.create("a", b"data")
    assert len(calls) == 3
    assert place.get("a") == b"data"
    calls[:] = []
    monkeypatch.setattr(
        "pipeline.store.local.os.link", lambda source, target: (os.unlink(source), link(source, target))
    )
    with pytest.raises(FileNotFoundError):
        place.create("b", b"data")


def test_a_late_request_of_an_appender_takes_nothing_back(bucket, monkeypatch):
    """A store may carry out a put that failed for the client, and after the ones that followed it."""
    late = []

    def put(key, data):
        if not late:
            late.append((key, data))
            raise StoreError("no answer")
        put_now(key, data)

    put_now = bucket.put
    monkeypatch.setattr(bucket, "put", put)
    appender = bucket.appender("late")
    appender.append(b"a\n")
    with pytest.raises(StoreError):
        appender.sync()
    appender.append(b"b\n")
    appender.sync()
    put_now(*late[0])
    assert [bucket.get(f"late/{number:08d}") for number in (1, 2)] == [b"a\n", b"b\n"]
