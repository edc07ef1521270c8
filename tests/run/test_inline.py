import threading

import pytest
from waiting import wait_until

from pipeline.errors import EnvironmentFaultError, InputError, MissingChunkError, StoreError, VolumeError
from pipeline.run import agenda
from pipeline.run.inline import Inline
from pipeline.run.journal import replay
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, FAILED, PENDING, Done
from pipeline.store import LocalPlace
from pipeline.volume import Stored


class Works:
    """A processor whose chunks do as the test says: ``plan[chunk]`` are the errors of its attempts, in order."""

    def __init__(self, plan=None):
        self.plan = {chunk: list(errors) for chunk, errors in (plan or {}).items()}
        self.tried, self.lean = [], []
        self.running, self.most = 0, 0
        self.lock = threading.Lock()

    def process(self, chunk, *, lean=False):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.tried.append(chunk)
            self.lean += [chunk] * lean
        try:
            if self.plan.get(chunk):
                raise self.plan[chunk].pop(0)
            return Done((Stored(f"c/{chunk}", f"{chunk:032x}", 1),))
        finally:
            with self.lock:
                self.running -= 1


@pytest.fixture
def ledger(tmp_path):
    with_ = Ledger(LocalPlace(tmp_path / "journal"), 20, epoch=1)
    yield with_
    with_.close()


@pytest.fixture
def no_wait(monkeypatch):
    monkeypatch.setattr(agenda, "FIRST_WAIT", 0.001)


def test_all_that_is_lacking_is_done_once(ledger):
    works, told = Works(), {}
    assert Inline(works, ledger, at_once=3, on_done=told.__setitem__).process(range(5, 15)) == 10
    assert sorted(works.tried) == list(range(5, 15))
    assert 1 <= works.most <= 3
    assert {chunk: done.stored[0].key for chunk, done in told.items()} == {c: f"c/{c}" for c in range(5, 15)}
    assert Inline(works, ledger, at_once=1).process() == 10
    assert sorted(works.tried) == list(range(20))
    assert Inline(works, ledger, at_once=1).process() == 0
    assert ledger.is_complete()


@pytest.mark.parametrize(
    ("errors", "lean"),
    [
        ([StoreError("a"), StoreError("b")], []),
        ([MissingChunkError("a")], []),
        ([ValueError("a")], [7]),
        ([MemoryError("a")], [7]),
        ([StoreError("a"), ValueError("a")], [7]),
    ],
)
def test_what_may_pass_is_tried_again(ledger, no_wait, errors, lean):
    works = Works({7: errors})
    Inline(works, ledger, at_once=2, retries=2).process()
    assert works.tried.count(7) == len(errors) + 1
    assert works.lean == lean
    assert ledger.is_complete()
    assert ledger.attempts(7) == len(errors) + 1


@pytest.mark.parametrize(
    ("errors", "retries", "raised", "state"),
    [
        ([VolumeError("no class")], 2, VolumeError, FAILED),
        ([MissingChunkError("gone")] * 2, 2, MissingChunkError, FAILED),
        ([MissingChunkError("gone")], 0, MissingChunkError, FAILED),
        ([ValueError("a")] * 2, 2, ValueError, FAILED),
        ([StoreError("silent")] * 3, 2, EnvironmentFaultError, PENDING),
        ([OSError(28, "No space left on device")], 2, EnvironmentFaultError, PENDING),
    ],
)
def test_what_fails_finally_stops_the_run(ledger, no_wait, errors, retries, raised, state):
    works = Works({0: errors})
    with pytest.raises(raised, match=str(errors[0].args[-1])):
        Inline(works, ledger, at_once=1, retries=retries).process()
    assert ledger.state(0) == state
    lacking = 20 - ledger.counts()[DONE]
    assert Inline(Works(), ledger, at_once=1).process() == lacking


def test_an_input_error_that_comes_of_the_store_is_the_stores(ledger, no_wait):
    error = VolumeError("cannot be read")
    error.__cause__ = StoreError("silent")
    works = Works({3: [error]})
    Inline(works, ledger, at_once=2).process()
    assert ledger.is_complete()


def test_nothing_new_begins_after_a_refusal_and_what_is_at_work_is_kept(ledger):
    begun = threading.Event()

    class Waits(Works):
        def process(self, chunk, *, lean=False):
            if chunk == 0:
                begun.wait()
                raise InputError("refused")
            begun.set()
            wait_until(lambda: ledger.state(0) == FAILED)
            return super().process(chunk)

    works = Waits()
    with pytest.raises(InputError, match="refused"):
        Inline(works, ledger, at_once=2).process()
    assert works.tried == [1]
    assert [ledger.state(c) for c in (0, 1, 2)] == [FAILED, DONE, PENDING]


def test_an_interrupt_keeps_what_is_at_work_and_begins_nothing_new(ledger, tmp_path):
    interrupts = [KeyboardInterrupt()]

    def interrupt(chunk, done):
        if interrupts:
            raise interrupts.pop()

    works = Works({1: [MissingChunkError("gone")]})
    with pytest.raises(KeyboardInterrupt):
        Inline(works, ledger, at_once=3, on_done=interrupt).process()
    assert len(works.tried) <= 3
    assert ledger.counts()[FAILED] == 0
    done = {record.chunk for record in replay(LocalPlace(tmp_path / "journal")) if record and record.state == DONE}
    assert done == {c for c in range(20) if ledger.state(c) == DONE} != set()


def test_a_ledger_that_cannot_be_written_ends_it(ledger, monkeypatch):
    def full(records):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger, "append", full)
    works = Works()
    with pytest.raises(OSError, match="No space left"):
        Inline(works, ledger, at_once=2).process()
    assert len(works.tried) <= 3
