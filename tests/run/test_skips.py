"""Chunks that are skipped: many in a line, each with its reason, and nothing that a crash can claim by mistake."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import TOTAL, done, facts, failed, records
from places import MemoryPlace

from pipeline.run.book import Book
from pipeline.run.compact import compact
from pipeline.run.index import INDEX
from pipeline.run.journal import frame, replay, unframe
from pipeline.run.ledger import Ledger
from pipeline.run.records import SKIPPED, Record, Skips
from pipeline.store import LocalPlace

masks = st.lists(st.booleans(), min_size=TOTAL, max_size=TOTAL).map(np.array)
steps = st.lists(records | st.tuples(masks, st.sampled_from(["no tissue", "no data"])), min_size=1, max_size=8)


def take(ledger, given_):
    for step in given_:
        if isinstance(step, Record):
            ledger.append([step])
        else:
            ledger.skip(*step)


def all_facts(ledger):
    return facts(ledger) | {"why": ledger.skipped(), "known": ledger.known()}


def test_done_chunks_stay_and_failed_ones_are_skipped():
    ledger = Ledger(MemoryPlace(), TOTAL, epoch=1)
    ledger.append([done(0), failed(1)])
    assert ledger.skip(np.array([True, True, True, True, False, False, True]), "mask: no tissue") == 4
    assert [ledger.state(c) for c in range(TOTAL)] == ["done", *[SKIPPED] * 3, *["pending"] * 2, SKIPPED]
    assert ledger.skipped() == {"mask: no tissue": 4}
    assert ledger.failures == {}
    assert ledger.lacking().tolist() == [4, 5]
    assert ledger.skip(np.ones(TOTAL, bool), "again") == 2
    assert ledger.skipped() == {"mask: no tissue": 4, "again": 2}
    assert ledger.is_complete()
    ledger.requeue([2], "because")
    assert ledger.skipped() == {"mask: no tissue": 3, "again": 2}
    ledger.close()


@settings(max_examples=60)
@given(st.lists(steps, min_size=1, max_size=3))
def test_what_is_read_again_is_what_was_said(epochs):
    place = MemoryPlace()
    for epoch, given_ in enumerate(epochs, start=1):
        with contextlib.closing(Ledger(place, TOTAL, epoch=epoch)) as ledger:
            take(ledger, given_)
        live = all_facts(ledger)
        assert all_facts(Ledger(place, TOTAL)) == live
        plain = MemoryPlace({key: data for key, data in place.objects.items() if key != INDEX})
        assert all_facts(Ledger(plain, TOTAL)) == live
    compact(place, TOTAL, len(epochs))
    again = all_facts(Ledger(place, TOTAL))
    assert again == live


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=4), st.text(max_size=9))
def test_a_line_says_what_was_framed(ranges, reason):
    skips = Skips(tuple(ranges), reason)
    assert unframe(frame(skips)) == skips


@pytest.mark.parametrize(
    "line",
    [
        {"skip": [[0, TOTAL + 1]], "e": "x"},
        {"skip": [[-1, 2]], "e": "x"},
        {"skip": [[3, 3]], "e": "x"},
        {"skip": [[1, 2], [0, 99]], "e": "x"},
        {"skip": [[1]], "e": "x"},
        {"skip": 3, "e": "x"},
        {"skip": [[1, 2]]},
    ],
)
def test_a_line_of_other_chunks_says_nothing(line):
    book = Book(TOTAL)
    assert not book.note(line)
    assert book.damaged_lines == 1
    assert book.counts()["pending"] == TOTAL


def test_records_of_chunks_are_replayed_and_ranges_are_not():
    place = MemoryPlace()
    with contextlib.closing(Ledger(place, TOTAL, epoch=1)) as ledger:
        ledger.append([done(0)])
        ledger.skip(np.arange(TOTAL) > 2, "mask")
    assert list(replay(place)) == [done(0)]


def test_more_reasons_than_a_byte_counts():
    book = Book(300)
    for chunk in range(300):
        assert book.note({"i": chunk, "s": SKIPPED, "a": 0, "e": f"reason {chunk}"})
    assert sum(book.skipped().values()) == 300
    assert len(book.skipped()) == 256


def test_a_million_chunks_cost_little(tmp_path):
    total = 1_000_000
    skipped = np.random.default_rng(0).random(total) < 0.5  # nowhere two neighbours for long: the worst case
    with contextlib.closing(Ledger(tmp_path, total, epoch=1)) as ledger:
        assert ledger.skip(skipped, "mask: no tissue") == skipped.sum()
    assert LocalPlace(tmp_path).stats(["000001.jsonl"])[0].size < 5_000_000
    assert np.array_equal(Ledger(tmp_path, total).states() == 3, skipped)
