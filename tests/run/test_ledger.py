import contextlib
import itertools
import json
import random
import tempfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import TOTAL, done, facts, failed, records
from places import Dies, MemoryPlace

import pipeline.run.journal as journal_module
import pipeline.run.ledger as ledger_module
from pipeline.errors import EnvironmentFaultError, StoreError
from pipeline.run.journal import Journal, frame
from pipeline.run.ledger import Ledger
from pipeline.run.parts import survey
from pipeline.run.records import DONE, FAILED, PENDING, PHASES, SKIPPED, STATES, Done, Record, seen_digest
from pipeline.store import LocalPlace
from pipeline.volume import Stored


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "journal", TOTAL, epoch=1)
    yield ledger
    ledger.close()


@settings(max_examples=40)
@given(st.lists(st.lists(records, max_size=5), max_size=6))
def test_what_is_read_back_is_what_was_in_memory(groups):
    with tempfile.TemporaryDirectory() as folder:
        kept = Ledger(Path(folder), TOTAL, epoch=1)
        for number, group in enumerate(groups):
            kept.append(group)
            if number == 2:
                kept.close()
                kept = Ledger(Path(folder), TOTAL, epoch=2)
        kept.close()
        assert facts(Ledger(Path(folder), TOTAL)) == facts(kept)


@settings(max_examples=40)
@given(st.lists(records, max_size=20))
def test_the_last_word_on_a_chunk_counts(given):
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder), TOTAL, epoch=1)
        ledger.append(given)
        ledger.close()
    last = {record.chunk: record for record in given}
    for chunk in range(TOTAL):
        assert ledger.state(chunk) == (last[chunk].state if chunk in last else PENDING)
        assert ledger.attempts(chunk) == (last[chunk].attempt if chunk in last else 0)
    assert ledger.failures == {chunk: record for chunk, record in last.items() if record.state == FAILED}
    states = [ledger.state(chunk) for chunk in range(TOTAL)]
    assert ledger.counts() == {state: states.count(state) for state in STATES}
    assert ledger.is_complete() == all(state in (DONE, SKIPPED) for state in states)
    assert ledger.memory == max([record.memory for record in given], default=0)
    successes = [record.done for record in given if record.state == DONE]
    assert ledger.stored_bytes == sum(s.size for success in successes for s in success.stored)
    assert list(ledger.seconds.values()) == [sum(s.seconds[i] for s in successes) for i in range(len(PHASES))]


def test_a_new_ledger_lacks_everything_and_writes_nothing(ledger, tmp_path):
    assert ledger.counts() == {PENDING: TOTAL, DONE: 0, FAILED: 0, SKIPPED: 0}
    assert ledger.lacking().tolist() == list(range(TOTAL))
    assert not ledger.is_complete()
    assert not (tmp_path / "journal").exists()


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (None, [0, 2, 5]),
        (range(7), [0, 2, 5]),
        (range(3), [0, 2]),
        (range(1, 5), [2]),
        (range(2, 3), [2]),
        (range(5, 7), [5]),
        (range(6, 7), []),
        (range(3, 3), []),
        (range(7, 7), []),
    ],
)
def test_lacking_are_the_pending_and_the_failed_of_a_range(ledger, chunks, expected):
    ledger.append([done(1), failed(2), Record(3, SKIPPED, 0), done(4), failed(5), done(6)])
    assert ledger.lacking(chunks).tolist() == expected


def test_the_states_given_out_are_a_copy(ledger):
    ledger.states()[:] = STATES.index(DONE)
    assert ledger.counts()[PENDING] == TOTAL


@settings(max_examples=25)
@given(st.permutations(range(TOTAL)), st.lists(st.integers(0, TOTAL - 1)))
def test_equal_results_have_an_equal_root_in_any_order_and_after_any_trouble(order, troubled):
    def root(given):
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(Path(folder), TOTAL, epoch=1)
            ledger.append(given)
            ledger.close()
            return ledger.root_digest()

    trouble = [failed(chunk) for chunk in troubled]
    assert root([done(chunk) for chunk in range(TOTAL)]) == root(trouble + [done(c, attempt=2) for c in order])


def test_the_root_differs_when_anything_stored_or_any_state_differs(tmp_path):
    def root(*given):
        ledger = Ledger(tmp_path / "none", 3)
        for record in given:
            ledger._book.note(record.to_json())
        return ledger.root_digest()

    one = Stored("c/0", "aa", 1)
    variants = [
        (),
        (done(0),),
        (done(1),),
        (done(0, digest="ab"),),
        (done(0, size=11),),
        (Record(0, DONE, 1, Done((one,))),),
        (Record(0, DONE, 1, Done((one, one))),),
        (Record(0, DONE, 1),),
        (failed(0),),
        (Record(0, SKIPPED, 1),),
        (done(0), done(1)),
        (done(0, digest="bb"), done(1)),
        (done(0), done(1, digest="bb")),
    ]
    assert len({root(*variant) for variant in variants}) == len(variants)
    assert root(done(0), failed(0)) == root(failed(0)), "what failed again has no digest"


def test_a_failure_is_forgotten_once_its_chunk_is_done(ledger):
    ledger.append([failed(2), failed(3, attempt=2)])
    assert list(ledger.failures) == [2, 3]
    assert ledger.failures[3].error == "no such chunk"
    ledger.append([done(2, attempt=2), failed(3, attempt=3, error="again")])
    assert list(ledger.failures) == [3]
    assert (ledger.failures[3].attempt, ledger.failures[3].error) == (3, "again")
    assert ledger.attempts(2) == 2


def test_requeued_chunks_are_pending_and_keep_their_attempts(ledger, tmp_path):
    ledger.append([done(0), failed(1, attempt=3), done(2)])
    before = ledger.root_digest()
    ledger.requeue([0, 1], "stored bytes are gone")
    assert ledger.lacking().tolist() == [0, 1, 3, 4, 5, 6]
    assert ledger.failures == {}
    assert (ledger.attempts(0), ledger.attempts(1)) == (1, 3)
    ledger.append([done(0, attempt=2), failed(1, attempt=3)])
    assert ledger.root_digest() == before
    assert facts(Ledger(tmp_path / "journal", TOTAL)) == facts(ledger)


def test_requeueing_nothing_writes_nothing(ledger, tmp_path):
    ledger.requeue([], "no reason")
    assert not (tmp_path / "journal").exists()


def test_lines_that_are_torn_or_of_other_chunks_or_states_are_counted_and_left_out(tmp_path):
    strange = [Record(TOTAL, DONE, 1), Record(-1, DONE, 1), Record(2, "lost", 1)]
    content = b"".join(map(frame, [done(0), *strange, done(1)]))
    (tmp_path / "000001.jsonl").write_bytes(content + frame(done(3))[:-1])
    ledger = Ledger(tmp_path, TOTAL)
    assert ledger.damaged_lines == 4
    assert ledger.lacking().tolist() == [2, 3, 4, 5, 6]


def test_a_record_of_no_chunk_is_an_error_of_ours(ledger):
    with pytest.raises(AssertionError, match="of 7 chunks"):
        ledger.append([done(TOTAL)])


def test_attempts_beyond_what_is_kept_do_not_overflow(ledger):
    ledger.append([failed(0, attempt=70_000)])
    assert ledger.attempts(0) == 65_535


def test_a_closed_ledger_can_be_read_and_writes_no_more(ledger, tmp_path):
    ledger.append([done(0)])
    ledger.close()
    ledger.close()
    assert ledger.counts()[DONE] == 1
    with pytest.raises(AssertionError, match="epoch is over"):
        ledger.append([done(1)])
    assert [part.name for part in survey(LocalPlace(tmp_path / "journal")).parts] == ["000001.jsonl"]


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_only_a_new_epoch_writes(tmp_path, epoch):
    for number in (1, 2):
        with contextlib.closing(Ledger(tmp_path, TOTAL, epoch=number)) as writer:
            writer.append([done(number)])
    with pytest.raises(AssertionError, match="is the lease held"):
        Ledger(tmp_path, TOTAL, epoch=epoch).append([done(0)])
    assert Ledger(tmp_path, TOTAL).lacking().tolist() == [0, 3, 4, 5, 6]


def test_files_that_a_process_left_half_written_are_removed_by_the_next_writer(tmp_path):
    (tmp_path / "index.77.partial").touch()
    Ledger(tmp_path, TOTAL).close()
    assert [path.name for path in tmp_path.iterdir()] == ["index.77.partial"]
    ledger = Ledger(tmp_path, TOTAL, epoch=1)
    ledger.append([done(0)])
    ledger.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001.jsonl", "index"]


def test_nothing_is_written_once_the_lease_is_lost(tmp_path):
    held = True

    def check():
        if not held:
            raise EnvironmentFaultError("the lease is lost")

    ledger = Ledger(tmp_path, TOTAL, epoch=1, check=check)
    ledger.append([done(0)])
    held = False
    with pytest.raises(EnvironmentFaultError, match="lost"):
        ledger.append([done(1)])
    ledger.close()
    assert facts(Ledger(tmp_path, TOTAL)) == facts(ledger)
    assert ledger.counts()[DONE] == 1


def test_what_a_store_did_not_take_is_not_done_in_memory_and_comes_with_the_next_sync():
    place = MemoryPlace()
    ledger = Ledger(place, 200, epoch=1)
    place.down = True
    with pytest.raises(StoreError):
        ledger.append([done(0)])  # the row of objects cannot be begun
    place.down = False
    ledger.append([done(0)])
    place.down = True
    with pytest.raises(StoreError):
        ledger.append([done(chunk) for chunk in range(1, 100)])
    assert ledger.counts()[DONE] == 1
    with pytest.raises(StoreError):
        ledger.close()
    place.down = False
    with contextlib.suppress(StoreError):  # that the thread met in the meantime
        ledger.sync()
    assert Ledger(place, 200).counts()[DONE] == 100
    ledger.close()
    assert "index" not in place.objects, "memory and journal differ"


def test_a_writer_that_stops_at_any_operation_leaves_a_ledger_that_goes_on(monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_RECORDS", 2)
    monkeypatch.setattr(ledger_module, "INDEX_RECORDS", 3)
    monkeypatch.setattr(ledger_module, "INDEX_SECONDS", 0.0)
    everything = [failed(0), *(done(chunk) for chunk in range(TOTAL))]
    for n in itertools.count():
        dies = Dies(n)
        place = MemoryPlace(before=dies)
        written, ledger = [], None
        with contextlib.suppress(StoreError):
            ledger = Ledger(place, TOTAL, epoch=1)
            for record in everything:
                ledger.append([record])
                written.append(record)
            ledger.close()
        again = Ledger(MemoryPlace(dict(place.objects)), TOTAL, epoch=2)
        assert again.damaged_lines == 0
        assert again.counts()[DONE] >= len(written) - 3, "all but the group that waited"
        again.append([done(int(chunk)) for chunk in again.lacking()])
        again.close()
        assert again.root_digest() == root_of_all()
        if not dies.died:
            break
        dies.heal()
        if ledger is not None:
            with contextlib.suppress(StoreError):  # what its thread met
                ledger.close()
    assert n > 6


def root_of_all():
    ledger = Ledger(MemoryPlace(), TOTAL, epoch=1)
    ledger.append([done(chunk) for chunk in range(TOTAL)])
    ledger.close()
    return ledger.root_digest()


def test_what_is_synced_is_seen_by_other_readers():
    place = MemoryPlace()
    ledger = Ledger(place, TOTAL, epoch=1)
    ledger.sync()
    ledger.append([done(0)])
    ledger.sync()
    assert facts(Ledger(place, TOTAL)) == facts(ledger)
    ledger.close()


def test_what_a_chunk_was_made_from_is_kept_while_it_is_done(ledger):
    seen = ("0011aabb", "00000000")
    ledger.append([Record(3, DONE, 1, Done(seen=seen)), done(4)])
    assert ledger.seen(3) == seen_digest(seen) != seen_digest(seen[::-1])
    assert ledger.seen(4) == ledger.seen(0) == seen_digest(()) == bytes(8)
    ledger.requeue([3], "stale")
    assert ledger.seen(3) == bytes(8)


@pytest.mark.parametrize(
    "fields",
    [
        *({"i": TOTAL}, {"i": -1}, {"s": "lost"}, {"a": -1}, {"a": None}, {"m": "x"}),
        *({"o": [["k"]]}, {"o": 7}, {"t": [1]}, {"x": 3}, {"r": 7}, {"sums": 7}),
    ],
)
def test_a_sound_line_that_is_no_record_counts_as_damaged_and_changes_nothing(tmp_path, fields):
    text = json.dumps({"i": 0, "s": "done", "a": 1} | fields).encode()
    (tmp_path / "000001.jsonl").write_bytes(b"%08x %s\n" % (zlib.crc32(text), text))
    found, empty = facts(Ledger(tmp_path, TOTAL)), facts(Ledger(tmp_path / "none", TOTAL))
    assert (found.pop("damaged"), empty.pop("damaged")) == (1, 0)
    assert found == empty


def test_several_threads_may_append(tmp_path):
    ledger, start = Ledger(tmp_path, 400, epoch=1), threading.Barrier(4)

    def append(part):
        start.wait()
        for chunk in part:
            ledger.append([done(chunk)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, [range(first, 400, 4) for first in range(4)]))
    ledger.close()
    assert ledger.is_complete()
    assert facts(Ledger(tmp_path, 400)) == facts(ledger)


def test_a_hundred_thousand_records(tmp_path):
    total = 100_000
    order = list(range(total))
    random.Random(0).shuffle(order)
    journal = Journal(LocalPlace(tmp_path), 1)
    journal.append([failed(chunk) for chunk in order[:1000]])
    journal.append([done(chunk, digest=f"{chunk:032x}") for chunk in order[: total - 500]])
    journal.close()
    ledger = Ledger(tmp_path, total)
    assert ledger.counts() == {PENDING: 500, DONE: total - 500, FAILED: 0, SKIPPED: 0}
    assert ledger.lacking().tolist() == sorted(order[-500:])
    assert ledger.damaged_lines == 0
    assert ledger.stored_bytes == 10 * (total - 500)
    arrays = [value for value in vars(ledger._book).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) == 28 * total


def test_statistics_are_of_the_chunks_that_are_done(ledger):
    def counted(chunk, **values):
        return Record(chunk, DONE, 1, Done(statistics=values))

    assert ledger.statistics() == {}
    ledger.append([counted(0, changed=3, largest=0.5), counted(1, changed=4, largest=0.25), done(2)])
    assert ledger.statistics() == {"changed": (7, 4), "largest": (0.75, 0.5)}
    ledger.append([counted(0, changed=1, largest=0.0), failed(1)])
    assert ledger.statistics() == {"changed": (1, 1), "largest": (0, 0)}
    ledger.append([counted(0, changed=2)])
    assert ledger.statistics() == {"changed": (2, 2)}, "of the last attempt alone"
