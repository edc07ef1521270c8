import contextlib
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import TOTAL, done, facts, failed, records
from places import Dies, MemoryPlace

import pipeline.run.compact as compact_module
import pipeline.run.journal as journal_module
from pipeline.errors import StoreError
from pipeline.run.compact import compact, worth_compacting
from pipeline.run.journal import frame, replay
from pipeline.run.ledger import Ledger
from pipeline.run.parts import last_epoch, survey
from pipeline.run.records import DONE, Record
from pipeline.store import LocalPlace

EPOCHS = [
    [done(0), failed(1), done(2), failed(3, attempt=2)],
    [done(1, attempt=2), failed(3, attempt=3, error="again"), done(2, digest="bb", attempt=2)],
    [
        Record(0, "pending", 1, error="stored bytes are gone"),
        Record(4, "skipped", 1),
        failed(5),
        done(3, attempt=4),
    ],
]


def write(place, epochs, first=1):
    for epoch, group in enumerate(epochs, start=first):
        with contextlib.closing(Ledger(place, TOTAL, epoch=epoch)) as ledger:
            ledger.append(group)
    return facts(Ledger(place, TOTAL))


def objects(place):
    return sorted(key for key in place.objects if key != "index")


groups = st.lists(st.lists(records, min_size=1, max_size=6), min_size=1, max_size=4)


@settings(max_examples=60)
@given(groups, groups, st.integers(1, 200))
def test_a_ledger_is_the_same_before_and_after(earlier, later, piece):
    place = MemoryPlace()
    before = write(place, earlier)
    compact_with(piece, place, len(earlier))
    assert facts(Ledger(place, TOTAL)) == before
    assert {part.compact for part in survey(place).parts} == {True}
    everything = MemoryPlace()
    expected = write(everything, [*earlier, *later])
    assert write(place, later, first=len(earlier) + 1) == expected
    compact_with(piece, place, 99)
    assert facts(Ledger(place, TOTAL)) == expected, "a compaction of a compaction and what followed"
    assert last_epoch(place) == 99
    kept = [record for record in replay(place) if record is not None]
    assert len(kept) == len({record.chunk for record in kept})


def compact_with(piece, place, epoch):
    size, compact_module.PIECE = compact_module.PIECE, piece
    try:
        compact(place, TOTAL, epoch)
    finally:
        compact_module.PIECE = size


@settings(max_examples=20)
@given(groups)
def test_it_is_the_same_in_a_folder(epochs):
    with tempfile.TemporaryDirectory() as folder:
        place = LocalPlace(Path(folder))
        before = write(place, epochs)
        compact(place, TOTAL, len(epochs))
        assert facts(Ledger(place, TOTAL)) == before
        assert [entry.key for entry in place.entries()] == [f"compact-{len(epochs):06d}.jsonl/00000001-end"]


@pytest.mark.parametrize("piece", [8 << 20, 1])
def test_whatever_operation_is_the_last_the_journal_adds_up_to_the_same(piece, monkeypatch):
    monkeypatch.setattr(compact_module, "PIECE", piece)
    whole = MemoryPlace()
    before = write(whole, EPOCHS)
    for n in itertools.count():
        dies = Dies(n)
        place = MemoryPlace(dict(whole.objects), dies)
        with contextlib.suppress(StoreError):
            compact(place, TOTAL, 3)
        left = MemoryPlace(place.objects)
        assert facts(Ledger(left, TOTAL)) == before, f"stopped before operation {n}"
        compact(left, TOTAL, 4)
        assert facts(Ledger(left, TOTAL)) == before, f"stopped before operation {n}, then compacted"
        assert not survey(left).stale
        assert write(left, [[done(6)]], first=5)["states"][:6] == before["states"][:6]
        if not dies.died:
            break
    assert n > 8


@pytest.mark.parametrize("line", ["torn", "damaged", "of no chunk"])
def test_damaged_lines_are_left_out_and_stay_counted(line):
    place = MemoryPlace()
    write(place, EPOCHS)
    sound = frame(done(6))
    content = {"torn": sound[:-3], "damaged": b"0" + sound[1:], "of no chunk": frame(done(TOTAL))}[line]
    place.objects["000004.jsonl/00000001"] = frame(failed(6)) + content
    before = facts(Ledger(place, TOTAL))
    assert before["damaged"] == 1
    compact(place, TOTAL, 4)
    assert facts(Ledger(place, TOTAL)) == before
    assert None not in replay(place)


def test_only_what_is_asked_for_is_compacted():
    place = MemoryPlace()
    before = write(place, EPOCHS)
    compact(place, TOTAL, 2)
    assert objects(place) == ["000003.jsonl/00000001", "compact-000002.jsonl/00000001-end"]
    assert facts(Ledger(place, TOTAL)) == before


def test_what_was_compacted_is_left_as_it_is_and_nothing_is_nothing():
    place = MemoryPlace()
    compact(place, TOTAL, 3)
    assert place.objects == {}
    before = write(place, EPOCHS)
    compact(place, TOTAL, 3)
    kept = dict(place.objects)
    compact(place, TOTAL, 3)
    assert place.objects == kept
    assert facts(Ledger(place, TOTAL)) == before


def test_a_lost_piece_is_a_damaged_line(monkeypatch):
    monkeypatch.setattr(compact_module, "PIECE", 1)
    place = MemoryPlace()
    before = write(place, EPOCHS)
    compact(place, TOTAL, 3)
    first = objects(place)[0]
    del place.objects[first]
    assert [one is None for one in replay(place)] == [True, *[False] * 5]
    assert sum(state == DONE for state in map(Ledger(place, TOTAL).state, range(TOTAL))) < sum(
        state == 1 for state in before["states"]
    )


def test_late_lines_of_a_writer_that_was_taken_for_dead_do_not_count():
    place = MemoryPlace()
    before = write(place, EPOCHS)
    compact(place, TOTAL, 3)
    place.objects["000002.jsonl/00000002"] = frame(failed(2))
    assert facts(Ledger(place, TOTAL)) == before
    assert survey(place).stale == ("000002.jsonl/00000002",)


def test_a_reader_that_meets_a_compaction_lists_anew(tmp_path):
    place = MemoryPlace()
    before = write(place, EPOCHS)
    del place.objects["index"]
    met = []

    def compacted_meanwhile(operation, key):
        if operation == "get" and key.startswith("000001") and not met:
            met.append(key)
            compact(MemoryPlace(place.objects), TOTAL, 3)

    assert facts(Ledger(MemoryPlace(place.objects, compacted_meanwhile), TOTAL)) == before
    assert met == ["000001.jsonl/00000001"]


def test_a_journal_whose_objects_go_on_vanishing_is_an_error():
    class Vanishing(MemoryPlace):
        def get(self, key):
            raise FileNotFoundError(key)

    place = Vanishing({"000001.jsonl/00000001": frame(done(0))})
    with pytest.raises(FileNotFoundError, match="000001"):
        Ledger(place, TOTAL)


def test_it_is_worth_it_for_many_objects_or_for_mostly_replaced_records(monkeypatch):
    def worth(*epochs):
        place = MemoryPlace()
        write(place, epochs)
        return worth_compacting(Ledger(place, TOTAL))

    monkeypatch.setattr(compact_module, "OBJECTS_MOST", 3)
    monkeypatch.setattr(compact_module, "RECORDS_LEAST", 6)
    assert not worth()
    assert not worth(*[[done(0)]] * 3)
    assert worth(*[[done(0)]] * 4), "objects"
    assert not worth([done(0)] * 6)
    assert worth([done(0)] * 7), "replaced"
    assert not worth([done(chunk) for chunk in range(TOTAL)] * 2), "half is not most"
    assert worth([done(chunk) for chunk in range(TOTAL)] * 2 + [failed(1)])


def test_afterwards_it_is_not_worth_it_any_more(monkeypatch):
    monkeypatch.setattr(journal_module, "GROUP_RECORDS", 1)
    place = MemoryPlace()
    for epoch in (1, 2, 3):
        with contextlib.closing(Ledger(place, 70, epoch=epoch)) as ledger:
            for chunk in range(70):
                ledger.append([failed(chunk, attempt=epoch)])
    before = Ledger(place, 70)
    assert worth_compacting(before)
    compact(place, 70, 3)
    after = Ledger(place, 70)
    assert facts(after) == facts(before)
    assert (after.records, worth_compacting(after), len(place.objects)) == (70, False, 1)
