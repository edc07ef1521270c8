import contextlib
import hashlib
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import TOTAL, done, facts, failed, records
from places import MemoryPlace
from waiting import wait_until

import pipeline.run.ledger as ledger_module
from pipeline.errors import StoreError
from pipeline.run.index import INDEX
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE
from pipeline.store import LocalPlace

FIRST = [done(0), done(1), failed(2), done(3, digest="bb")]


def write(place, epoch, *given):
    with contextlib.closing(Ledger(place, TOTAL, epoch=epoch)) as ledger:
        ledger.append(given)
    return facts(ledger)


def without_index(place, total=TOTAL):
    plain = MemoryPlace({key: data for key, data in place.objects.items() if key != INDEX})
    return facts(Ledger(plain, total))


def lines_read(place, total=TOTAL):
    """Which journal objects a new ledger reads."""
    asked = []
    watched = MemoryPlace(place.objects, lambda operation, key: asked.append(key) if operation == "get" else None)
    return facts(Ledger(watched, total)), [key for key in asked if key != INDEX]


@settings(max_examples=60)
@given(st.lists(st.lists(records, min_size=1, max_size=5), min_size=1, max_size=4), st.lists(records, max_size=4))
def test_the_index_and_what_follows_say_what_the_whole_journal_says(epochs, unindexed):
    place = MemoryPlace()
    for epoch, group in enumerate(epochs, start=1):
        live = write(place, epoch, *group)
        found, read = lines_read(place)
        assert found == live == without_index(place)
        assert read == []
    open_ledger = Ledger(place, TOTAL, epoch=99)
    open_ledger.append(unindexed)
    open_ledger.sync()
    found, read = lines_read(place)
    assert found == facts(open_ledger) == without_index(place)
    assert read == ["000099.jsonl/00000001"] * bool(unindexed)
    open_ledger.close()


def test_a_file_that_grew_is_read_from_where_the_index_ends(tmp_path, monkeypatch):
    write(LocalPlace(tmp_path), 1, *FIRST)
    lines = (tmp_path / "000001.jsonl").read_bytes()
    (tmp_path / "000001.jsonl").write_bytes(b"x" * (lines.index(b"\n")) + lines[lines.index(b"\n") :])
    ledger = Ledger(LocalPlace(tmp_path), TOTAL)
    assert (ledger.state(0), ledger.damaged_lines) == (DONE, 0), "what the index knows is not read again"
    with (tmp_path / "000001.jsonl").open("ab") as file:
        file.write(lines.splitlines(keepends=True)[1])
    assert Ledger(LocalPlace(tmp_path), TOTAL).records == len(FIRST) + 1


def damaged_indexes():
    def flip(at):
        return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return {
        "empty": lambda data: b"",
        "short": lambda data: data[:20],
        "torn": lambda data: data[:-1],
        "longer": lambda data: data + b"\0",
        "digest": flip(0),
        "length": flip(23),
        "head": flip(30),
        "arrays": flip(-2),
        "another format": lambda data: resigned(data[16:].replace(b"overtile-index/2", b"overtile-index/0")),
        "nothing known": lambda data: resigned((2).to_bytes(8, "big") + b"{}"),
    }


def resigned(rest):
    return hashlib.blake2b(rest, digest_size=16).digest() + rest


@pytest.mark.parametrize("name", damaged_indexes())
def test_a_damaged_index_is_not_used(name):
    place = MemoryPlace()
    live = write(place, 1, *FIRST)
    place.objects[INDEX] = damaged_indexes()[name](place.objects[INDEX])
    found, read = lines_read(place)
    assert found == live
    assert read == ["000001.jsonl/00000001"]


@pytest.mark.parametrize("key", ["000001.jsonl/00000001", "000002.jsonl/00000001", "000003.jsonl/00000001"])
@pytest.mark.parametrize("change", ["gone", "shorter", "longer", "another before it"])
def test_an_index_is_not_used_where_the_journal_is_another(key, change):
    place = MemoryPlace()
    for epoch in (1, 2, 3):
        write(place, epoch, *FIRST)
    data = place.objects.pop(key)
    if change == "shorter":
        place.objects[key] = data[:-1]
    elif change == "longer":
        place.objects[key] = data + data
    elif change == "another before it":
        place.objects |= {key: data, "000000.jsonl/00000001": data}
    found, _ = lines_read(place)
    assert found == without_index(place)


def test_an_index_of_another_total_is_not_used():
    place = MemoryPlace()
    write(place, 1, *FIRST)
    found, read = lines_read(place, TOTAL + 1)
    assert found == without_index(place, TOTAL + 1)
    assert len(read) == 1


def test_an_index_that_cannot_be_read_is_no_missing_one():
    place = MemoryPlace()
    write(place, 1, *FIRST)

    def before(operation, key):
        if key == INDEX:
            raise StoreError("no answer")

    with pytest.raises(StoreError, match="no answer"):
        Ledger(MemoryPlace(place.objects, before), TOTAL)


def test_an_index_that_cannot_be_stored_costs_nothing_but_time():
    def before(operation, key):
        if (operation, key) == ("put", INDEX):
            raise StoreError("no answer")

    place = MemoryPlace(before=before)
    live = write(place, 1, *FIRST)
    assert INDEX not in place.objects
    assert facts(Ledger(place, TOTAL)) == live


def test_a_ledger_that_only_reads_or_writes_nothing_leaves_no_index():
    place = MemoryPlace()
    for epoch in (0, 1):
        Ledger(place, TOTAL, epoch=epoch).close()
    assert place.objects == {}


def test_while_it_is_written_a_journal_is_indexed_now_and_then(monkeypatch):
    monkeypatch.setattr(ledger_module, "INDEX_RECORDS", 3)
    stored, go_on = [], threading.Event()

    def before(operation, key):
        if (operation, key) == ("put", INDEX):
            assert go_on.wait(30)
            stored.append(key)

    place = MemoryPlace(before=before)
    ledger = Ledger(place, TOTAL, epoch=1)
    ledger.append(FIRST[:2])
    ledger.append(FIRST[2:])
    assert stored == [], "appending does not wait for it"
    ledger.append([done(5), done(6), done(4)])
    go_on.set()
    wait_until(lambda: INDEX in place.objects)
    ledger.append([failed(1)])
    ledger.sync()
    found, read = lines_read(place)
    assert found == facts(ledger) == without_index(place)
    assert read == ["000001.jsonl/00000002"], "of three: the first is in the index"
    ledger.append([failed(chunk) for chunk in range(TOTAL)])
    assert stored == [INDEX], "not more often than every half a minute"
    ledger.close()
    assert stored == [INDEX] * 2
    assert lines_read(place) == (facts(ledger), [])
