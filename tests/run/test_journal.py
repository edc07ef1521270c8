import contextlib
import os
import resource
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline.run.journal as journal_module
from pipeline.run.journal import GROUP_RECORDS, Journal, epochs, frame, replay, unframe
from pipeline.run.records import STATES, Done, Record
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
    ),
    error=st.none() | words.filter(bool),
    kind=st.none() | words.filter(bool),
    worker=words,
    memory=st.integers(0, 2**50),
)


def record(chunk, state="done", **fields):
    return Record(chunk, state, 1, **fields)


def write(folder, *given):
    journal = Journal(folder)
    journal.append(list(given))
    journal.close()
    return epochs(folder)[-1]


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
    path = write(tmp_path, first)
    line = frame(last)
    for length in range(len(line)):
        path.write_bytes(frame(first) + line[:length])
        assert list(replay(tmp_path)) == [first] + [None] * (length > 0)
    path.write_bytes(frame(first) + line)
    assert list(replay(tmp_path)) == [first, last]


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
        found = [one for one in replay(Path(folder)) if one is not None]
    rest = iter(written)
    assert all(any(one == other for other in rest) for one in found), (
        "found is no part of what was written, in order"
    )


def test_each_journal_is_an_epoch_of_its_own_and_old_files_stay_as_they_are(tmp_path):
    first = write(tmp_path, record(0))
    first.write_bytes(first.read_bytes() + frame(record(1))[:-5])
    torn = first.read_bytes()
    journal = Journal(tmp_path)
    assert journal.epoch == 2
    journal.append([record(2)])
    assert list(replay(tmp_path)) == [record(0), None, record(2)], "in order, and readable while it is written"
    journal.close()
    assert first.read_bytes() == torn
    assert [path.name for path in epochs(tmp_path)] == ["000001.jsonl", "000002.jsonl"]
    assert write(tmp_path, record(3)).name == "000003.jsonl"


def test_epochs_are_counted_as_numbers_and_other_files_are_left_alone(tmp_path):
    for name in ("999999.jsonl", "1000000.jsonl", "000001 (copy).jsonl", "1x.jsonl", "000007.jsonl.bak", "notes"):
        (tmp_path / name).touch()
    assert [path.name for path in epochs(tmp_path)] == ["999999.jsonl", "1000000.jsonl"]
    assert write(tmp_path, record(0)).name == "1000001.jsonl"


def test_there_may_be_no_journal_yet(tmp_path):
    assert epochs(tmp_path / "none") == []
    assert list(replay(tmp_path / "none")) == []


@pytest.fixture
def syncs(monkeypatch):
    """How often something was forced to the disk."""
    counted = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (counted.append(handle), real(handle)))
    return counted


def test_records_are_forced_to_the_disk_in_groups(tmp_path, syncs, monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_SECONDS", 3600.0)
    journal = Journal(tmp_path)
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


def test_a_group_does_not_wait_longer_than_its_time(tmp_path, syncs, monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_SECONDS", 0.0)
    journal = Journal(tmp_path)
    syncs.clear()
    journal.append([record(0)])
    journal.append([record(1)])
    assert len(syncs) == 2
    journal.close()


def test_threads_do_not_cut_into_each_others_lines(tmp_path):
    journal = Journal(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda chunk: journal.append([record(chunk, worker="w" * 500)]), range(200)))
    journal.close()
    found = list(replay(tmp_path))
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
    journal = Journal(tmp_path)
    with largest_file(len(frame(record(0))) + 20), pytest.raises(OSError, match="File too large"):
        journal.append([record(0), record(1)])
    journal.append([record(2)])
    journal.close()
    assert list(replay(tmp_path)) == [record(0), None, record(2)]
