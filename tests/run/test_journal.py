import contextlib
import os
import resource
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import MemoryPlace
from waiting import wait_until

import pipeline.run.journal as journal_module
from pipeline.errors import StoreError
from pipeline.run.journal import GROUP_RECORDS, Journal, frame, replay, unframe
from pipeline.run.parts import last_epoch, survey
from pipeline.run.records import PHASES, STATES, Done, Record, Sums
from pipeline.store import LocalPlace
from pipeline.volume import Stored

words = st.text(st.characters(exclude_categories=()), max_size=30)
seconds = st.integers(0, 10**9).map(lambda n: n / 10_000)
objects = st.builds(
    Stored, key=st.text(max_size=12), digest=st.text("0123456789abcdef"), size=st.integers(0, 2**60)
)
statistics = st.none() | st.dictionaries(
    words, st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9), min_size=1, max_size=3
)
records = st.builds(
    Record,
    chunk=st.integers(0, 10**9),
    state=st.sampled_from(STATES),
    attempt=st.integers(0, 10**6),
    done=st.builds(
        Done,
        stored=st.lists(objects, max_size=3).map(tuple),
        seconds=st.tuples(seconds, seconds, seconds, seconds),
        statistics=statistics,
        seen=st.lists(st.text("0123456789abcdef", min_size=8, max_size=16), max_size=4).map(tuple),
    ),
    error=st.none() | words.filter(bool),
    kind=st.none() | words.filter(bool),
    worker=words,
    memory=st.integers(0, 2**50),
)


def record(chunk, state="done", **fields):
    return Record(chunk, state, 1, **fields)


def write(folder, epoch, *given):
    journal = Journal(LocalPlace(folder), epoch)
    journal.append(given)
    journal.close()
    return folder / f"{epoch:06d}.jsonl"


def read(folder):
    return list(replay(LocalPlace(folder)))


@given(records)
def test_a_framed_record_comes_back(one):
    line = frame(one)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert unframe(line) == one


@given(st.binary(max_size=60))
def test_any_bytes_give_nothing_and_no_error(junk):
    assert unframe(junk) is None
    assert unframe(junk + b"\n") is None


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[1]",
        b"null",
        b'"done"',
        b"7",
        b"not json",
        b'{"i":1}',
        b'{"i":"x","s":"done","a":1}',
        b'{"i":1,"s":"done","a":null}',
        b'{"i":1,"s":"done","a":1,"o":[["key"]]}',
        b'{"i":1,"s":"done","a":1,"o":7}',
        b'{"i":1,"s":"done","a":1,"t":[1,2]}',
        b'{"i":1,"s":"done","a":1,"t":[1,2,3,"x"]}',
        b"\xff\xfe",
    ],
)
def test_a_sound_checksum_over_something_else_is_no_record(text):
    assert unframe(b"%08x %s\n" % (zlib.crc32(text), text)) is None


def test_a_tail_torn_at_any_byte_costs_its_own_line_only(tmp_path):
    first, last = record(3), record(4, "failed", error="no such thing: ü\n")
    path = write(tmp_path, 1, first)
    line = frame(last)
    for length in range(len(line)):
        path.write_bytes(frame(first) + line[:length])
        assert read(tmp_path) == [first] + [None] * (length > 0)
    path.write_bytes(frame(first) + line)
    assert read(tmp_path) == [first, last]


@given(st.tuples(*[st.floats(0, 1e12)] * 4), st.integers(0, 2**60), st.integers(0, 2**60), st.integers(0, 99))
def test_framed_sums_come_back_to_the_last_bit(seconds, memory, stored, damaged):
    sums = Sums(dict(zip(PHASES, seconds, strict=True)), memory, stored, damaged)
    assert unframe(frame(sums)) == sums


def test_no_flipped_bit_makes_another_record():
    one = record(12, done=Done((Stored("c/0/3", "ab" * 16, 77),), (0.1, 0.2, 0.3, 0.4)), worker="worker-1")
    line = frame(one)
    for place in range(len(line)):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[place] ^= 1 << bit
            assert unframe(bytes(flipped)) in (None, one)


@settings(max_examples=150)
@given(st.data())
def test_damage_anywhere_never_makes_a_record_that_was_not_written(data):
    written = data.draw(st.lists(records, min_size=1, max_size=4))
    content = bytearray(b"".join(map(frame, written)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "000001.jsonl").write_bytes(content)
        found = [one for one in read(Path(folder)) if one is not None]
    rest = iter(written)
    assert all(any(one == other for other in rest) for one in found), (
        "found is no part of what was written, in order"
    )


def test_each_journal_is_an_epoch_of_its_own_and_old_files_stay_as_they_are(tmp_path):
    first = write(tmp_path, 1, record(0))
    first.write_bytes(first.read_bytes() + frame(record(1))[:-5])
    torn = first.read_bytes()
    journal = Journal(LocalPlace(tmp_path), 2)
    journal.append([record(2)])
    assert read(tmp_path) == [record(0), None, record(2)], "in order, and readable while it is written"
    journal.close()
    assert first.read_bytes() == torn
    with pytest.raises(FileExistsError):
        Journal(LocalPlace(tmp_path), 2)


def test_epochs_are_counted_as_numbers_and_other_files_are_left_alone(tmp_path):
    for name in ("999999.jsonl", "1000000.jsonl", "000001 (copy).jsonl", "1x.jsonl", "000007.jsonl.bak", "notes"):
        (tmp_path / name).touch()
    for name in ("index", "index.7f00.partial", "000003.jsonl.9.partial"):
        (tmp_path / name).touch()
    found = survey(LocalPlace(tmp_path))
    assert [part.name for part in found.parts] == ["999999.jsonl", "1000000.jsonl"]
    assert (set(found.stale), found.objects) == ({"index.7f00.partial", "000003.jsonl.9.partial"}, 2)
    assert last_epoch(LocalPlace(tmp_path)) == 1_000_000


def test_there_may_be_no_journal_yet(tmp_path):
    place = LocalPlace(tmp_path / "none")
    assert (survey(place).parts, last_epoch(place)) == ((), 0)
    assert list(replay(place)) == []


def test_a_file_is_read_up_to_the_size_that_it_was_listed_with(tmp_path):
    path = write(tmp_path, 1, record(0))
    found = replay(LocalPlace(tmp_path))
    assert next(found) == record(0)
    path.write_bytes(path.read_bytes() + frame(record(1)))
    assert list(found) == []


def test_an_object_store_gets_an_object_for_each_group(monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_SECONDS", 3600.0)
    place = MemoryPlace()
    for epoch in (9, 10):
        journal = Journal(place, epoch)
        for chunk in range(2 * GROUP_RECORDS + 1):
            journal.append([record(chunk)])
        assert len(place.objects) == 3 * (epoch - 9) + 2, "full groups; one record waits"
        journal.close()
    assert sorted(place.objects) == [f"{e:06d}.jsonl/{n:08d}" for e in (9, 10) for n in (1, 2, 3)]
    assert list(replay(place)) == 2 * [record(chunk) for chunk in range(2 * GROUP_RECORDS + 1)]


def test_many_objects_are_read_in_order_and_a_lost_one_is_a_damaged_line(monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_RECORDS", 1)
    place = MemoryPlace()
    journal = Journal(place, 1)
    for chunk in range(40):
        journal.append([record(chunk)])
    journal.close()
    assert [one.chunk for one in replay(place)] == list(range(40))
    del place.objects["000001.jsonl/00000018"]
    assert [one and one.chunk for one in replay(place)] == [*range(17), None, *range(18, 40)]


def test_a_store_that_does_not_answer_is_no_empty_journal():
    place = MemoryPlace({"000001.jsonl/00000001": frame(record(0))})
    place.down = True
    with pytest.raises(StoreError):
        list(replay(place))


@pytest.mark.parametrize("end", ["append", "sync", "close"])
def test_what_could_not_be_stored_in_time_waits_and_its_error_is_raised_next(end, monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_SECONDS", 0.01)
    tried = threading.Event()
    failing = True

    def before(operation, key):
        if operation == "put" and failing:
            tried.set()
            raise StoreError("no answer")

    place = MemoryPlace(before=before)
    journal = Journal(place, 1)
    with journal._changed:  # so that it is the thread that meets the fault
        journal._since, journal._unsynced = time.monotonic(), 1
        journal._appender.append(frame(record(0)))
        journal._changed.notify()
    assert tried.wait(10)
    wait_until(lambda: journal._error is not None, seconds=10)
    failing = False
    with pytest.raises(StoreError, match="no answer"):
        {"append": lambda: journal.append([record(1)]), "sync": journal.sync, "close": journal.close}[end]()
    journal.close()
    assert list(replay(place)) == [record(0), *([record(1)] if end == "append" else [])]


def test_an_append_whose_group_cannot_be_stored_raises_and_is_stored_later(monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_SECONDS", 3600.0)
    place = MemoryPlace()
    journal = Journal(place, 1)
    place.down = True
    with pytest.raises(StoreError):
        journal.append([record(chunk) for chunk in range(GROUP_RECORDS)])
    with pytest.raises(StoreError):
        journal.close()
    journal._thread.join(10)
    assert not journal._thread.is_alive(), "who has given up writes no more"
    place.down = False
    journal.close()
    assert [one.chunk for one in replay(place)] == list(range(GROUP_RECORDS))


def test_a_group_is_stored_in_time_without_a_next_append(monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_SECONDS", 0.01)
    place = MemoryPlace()
    journal = Journal(place, 1)
    journal.append([record(0)])
    wait_until(lambda: place.objects, seconds=10)
    assert list(replay(place)) == [record(0)]
    journal.close()


@pytest.fixture
def syncs(monkeypatch):
    """How often something was forced to the disk."""
    counted = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (counted.append(handle), real(handle)))
    return counted


def test_records_are_forced_to_the_disk_in_groups(tmp_path, syncs, monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_SECONDS", 3600.0)
    journal = Journal(LocalPlace(tmp_path), 1)
    syncs.clear()
    journal.append([])
    for chunk in range(GROUP_RECORDS - 1):
        journal.append([record(chunk)])
    assert syncs == []
    journal.append([record(GROUP_RECORDS)])
    assert len(syncs) == 1, "a full group"
    journal.append([record(chunk) for chunk in range(3 * GROUP_RECORDS)])
    assert len(syncs) == 2, "many at once are one group"
    journal.append([record(0)])
    journal.close()
    assert len(syncs) == 3, "the rest, at the end"
    journal.close()
    assert len(syncs) == 3


def test_threads_do_not_cut_into_each_others_lines(tmp_path):
    journal = Journal(LocalPlace(tmp_path), 1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda chunk: journal.append([record(chunk, worker="w" * 500)]), range(200)))
    journal.close()
    found = read(tmp_path)
    assert None not in found
    assert sorted(one.chunk for one in found) == list(range(200))


@contextlib.contextmanager
def largest_file(size):
    """Let files of this process grow to ``size`` bytes only: a write beyond is cut short, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_follows_a_line_cut_short_by_a_full_disk_is_kept(tmp_path):
    journal = Journal(LocalPlace(tmp_path), 1)
    with largest_file(len(frame(record(0))) + 20), pytest.raises(OSError, match="File too large"):
        journal.append([record(0), record(1)])
    journal.append([record(2)])
    journal.close()
    assert read(tmp_path) == [record(0), None, record(2)]
