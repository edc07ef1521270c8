"""What a batch makes of units that end in odd ways, on a client that answers as it is told."""

import logging
import threading
from collections import deque
from concurrent.futures import CancelledError
from types import SimpleNamespace

import numpy as np
import pytest
from distributed import KilledWorker

from pipeline.errors import EnvironmentFaultError, StoreError
from pipeline.run import batch as module
from pipeline.run.batch import Batch
from pipeline.run.faults import Cause
from pipeline.run.gate import Gate
from pipeline.run.heard import Message
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, FAILED, PENDING, Record
from pipeline.run.shared import Shared
from pipeline.run.watch import Start
from pipeline.run.worker import UnitResult


class FakeFuture:
    """Ends at once, in an exception or with a result; never, where it is None."""

    def __init__(self, key, outcome):
        self.key, self.outcome, self.cancelled = key, outcome, False

    def add_done_callback(self, callback):
        if self.outcome is not None:
            callback(self)

    def result(self, timeout):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def done(self):
        return self.outcome is not None

    def release(self):
        pass

    def cancel(self):
        self.cancelled = True


class FakeClient:
    """Answers units with what is scripted, and then with success."""

    status = "running"

    def __init__(self, *script):
        self.script, self.futures, self.units = deque(script), [], []

    def submit(self, function, plugin, unit, *, pure, workers):
        assert not pure
        self.units.append(([chunk for chunk, _ in unit.chunks], unit.lean))
        answer = self.script.popleft() if self.script else done
        outcome = answer(unit) if callable(answer) else answer
        self.futures.append(FakeFuture(f"unit-{len(self.futures)}", outcome))
        return self.futures[-1]


class FakeWatch:
    """Nothing is overdue; notes which workers are replaced."""

    shunned_at = float("-inf")

    def __init__(self):
        self.replaced, self.started, self.left = [], None, {}

    def usable(self):
        return None

    def begun(self, key):
        return Start("tcp://begun", False, 1.0)

    def moved(self, key):
        return self.left.pop(key, None)

    def forget(self, key):
        pass

    def note(self, slowest):
        pass

    def limit(self):
        return 600.0

    def overdue(self, key, chunks, *, excused):
        return None

    def replace(self, start):
        self.replaced.append(start.worker)
        return True


def done(unit):
    return UnitResult(tuple(Record(chunk, DONE, attempt) for chunk, attempt in unit.chunks))


def only_first(unit):
    return UnitResult(done(unit).records[:1], lost="tcp://lost")


def failing(cause):
    def answer(unit):
        records = tuple(Record(c, FAILED, a, error="odd", kind="OddError") for c, a in unit.chunks)
        return UnitResult(records, dict.fromkeys((c for c, _ in unit.chunks), cause))

    return answer


def killed():
    return KilledWorker("unit", SimpleNamespace(address="tcp://dead"), 1)


@pytest.fixture
def make(tmp_path):
    ledgers = []

    def build(*script, chunks=3, retries=2):
        pace = SimpleNamespace(window=lambda callers: 1, unit=lambda left: left, note=lambda records: None)
        ledgers.append(Ledger(tmp_path / "journal", chunks, epoch=1))
        shared = Shared(FakeClient(*script), ledgers[-1], "plugin", Gate(), pace, FakeWatch(), 1, lambda: None)
        return shared, Batch(shared, np.arange(chunks), retries)

    yield build
    for ledger in ledgers:
        ledger.close()


def test_a_result_that_cannot_be_fetched_is_tried_elsewhere_and_charged_to_nobody(make):
    shared, batch = make(TimeoutError())
    batch.run()
    assert shared.watch.replaced == ["tcp://begun"]
    assert shared.client.units == [([0, 1, 2], False), ([0, 1, 2], False)]
    assert shared.ledger.is_complete()
    assert [shared.ledger.attempts(c) for c in range(3)] == [1, 1, 1]
    assert batch.tried == 3


def test_what_a_lost_process_did_not_try_is_tried_elsewhere(make):
    shared, batch = make(only_first)
    batch.run()
    assert shared.watch.replaced == ["tcp://lost"]
    assert shared.client.units == [([0, 1, 2], False), ([1, 2], False)]
    assert shared.ledger.is_complete()


def test_the_chunks_of_a_unit_that_killed_workers_are_tried_alone(make):
    shared, batch = make(killed(), killed())
    batch.run()
    assert shared.client.units == [([0, 1, 2], False), ([0], True), ([1], True), ([2], True)]
    assert (shared.ledger.failures[0].kind, list(shared.ledger.failures)) == ("KilledWorker", [0])
    assert "died while it worked on this chunk alone" in shared.ledger.failures[0].error


def test_an_alone_chunk_whose_process_was_lost_before_it_began_is_tried_alone_again(make):
    shared, batch = make(killed(), UnitResult((), lost="tcp://lost"))
    batch.run()
    assert shared.client.units == [([0, 1, 2], False), ([0], True), ([1], True), ([2], True), ([0], True)]
    assert shared.ledger.is_complete()


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (CancelledError("gone"), "the Dask scheduler ended, or lost a unit"),
        (ImportError("no pipeline"), "a worker could not run a unit: ImportError: no pipeline"),
        (UnitResult((), fault="disk full"), "stopped: disk full"),
    ],
)
def test_faults_stop_the_run_and_leave_chunks_pending(make, outcome, told):
    shared, batch = make(outcome)
    with pytest.raises(EnvironmentFaultError, match=told):
        batch.run()
    assert shared.ledger.counts()["pending"] == 3
    assert shared.gate.enter(), "the gate is left as it was found"
    with shared.gate._changed:
        assert shared.gate._in_flight == 1


def test_what_a_faulty_machine_says_of_a_chunk_is_no_failure_but_what_was_before_is(make):
    def answer(unit):
        (a, _), (b, _), (c, _) = unit.chunks
        records = (Record(a, DONE, 1), Record(b, FAILED, 1, error="NaN"), Record(c, FAILED, 1, error="full"))
        return UnitResult(records, {b: Cause.INPUT, c: Cause.ENVIRONMENT}, fault="full")

    shared, batch = make(answer, retries=0)
    with pytest.raises(EnvironmentFaultError, match="full"):
        batch.run()
    assert [shared.ledger.state(c) for c in range(3)] == [DONE, FAILED, PENDING]


def test_what_would_have_been_tried_again_when_the_run_stops_is_pending(make):
    shared, batch = make(failing(Cause.UNEXPECTED))
    shared.on_progress = shared.stopped.set
    batch.run()
    assert shared.ledger.counts()["pending"] == 3
    assert [shared.ledger.attempts(c) for c in range(3)] == [1, 1, 1]


def overdue_in(shared, monkeypatch, looks):
    """Let units be overdue after some looks at them; return what was excused at each look."""
    excuses = []

    def overdue(key, chunks, *, excused):
        excuses.append(excused)
        return Start("tcp://hung", False, 1.0) if len(excuses) > looks else None

    monkeypatch.setattr(shared.watch, "overdue", overdue)
    return excuses


def test_overdue_units_are_suspect_and_a_chunk_that_is_overdue_alone_has_failed(make, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.01)
    shared, batch = make(None, None, chunks=2)
    overdue_in(shared, monkeypatch, 2)
    batch.run()
    assert shared.client.units == [([0, 1], False), ([0], True), ([1], True)]
    assert shared.ledger.failures[0].kind == "DeadlineExceeded"
    assert "not done after 600 s alone; its worker was replaced" in shared.ledger.failures[0].error
    assert [f.cancelled for f in shared.client.futures] == [True, True, False]


def test_a_unit_that_has_ended_meanwhile_is_not_overdue(make, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.01)
    shared, batch = make(None)
    overdue_in(shared, monkeypatch, 0)
    ended = iter([True, True, False])
    monkeypatch.setattr(FakeFuture, "done", lambda future: next(ended))
    shared.on_progress = shared.stopped.set
    batch.run()
    assert next(ended, None) is None


def test_a_driver_that_was_held_up_itself_excuses_its_workers(make, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.01)
    shared, batch = make(None)
    now, real = [0.0], module.time.monotonic
    monkeypatch.setattr(module.time, "monotonic", lambda: real() + now[0])
    excuses = overdue_in(shared, monkeypatch, 2)
    monkeypatch.setattr(
        shared.watch, "begun", lambda key: now.__setitem__(0, 3600.0) or Start("tcp://a", False, 1.0)
    )
    batch.run()
    assert excuses[0] < 1
    assert 3590 < excuses[1] < 3610


def test_units_that_nobody_has_begun_are_cancelled_on_a_stop(make, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.01)
    shared, batch = make(None)
    monkeypatch.setattr(shared.watch, "begun", lambda key: shared.stopped.set())
    batch.run()
    assert [future.cancelled for future in shared.client.futures] == [True]
    assert batch.tried == 0


def test_a_closed_connection_ends_the_call(make, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.01)
    shared, batch = make(None)
    shared.client.status = "closed"
    with pytest.raises(EnvironmentFaultError, match="connection to the Dask scheduler was closed"):
        batch.run()


def test_a_result_that_is_fetched_while_the_connection_is_closed_is_not_waited_for(make, monkeypatch):
    """The client's loop is gone then, and no answer comes: a cancelled run would stay until it is killed."""
    monkeypatch.setattr(module, "LOOK", 0.01)
    shared, batch = make(done)
    asked = []

    def result(future, timeout):
        asked.append(timeout)
        shared.stopped.set()
        shared.client.status = "closed"
        threading.Event().wait(timeout)
        raise TimeoutError

    monkeypatch.setattr(FakeFuture, "result", result)
    batch.run()
    assert asked == [0.01]
    assert batch.tried == 0
    assert list(shared.ledger.lacking()) == [0, 1, 2]


def test_a_ledger_that_cannot_be_written_ends_the_call_and_stops_the_others(make, monkeypatch):
    shared, batch = make()

    def refuse(records):
        raise StoreError("503")

    monkeypatch.setattr(shared.ledger, "append", refuse)
    with pytest.raises(StoreError, match="503"):
        batch.run()
    assert shared.stopped.is_set()


def test_a_client_that_takes_no_units_leaves_the_gate_open(make, monkeypatch):
    shared, batch = make()

    def refuse(*arguments, **settings):
        raise RuntimeError("closed")

    monkeypatch.setattr(shared.client, "submit", refuse)
    with pytest.raises(RuntimeError, match="closed"):
        batch.run()
    assert shared.gate._in_flight == 0


def test_a_unit_that_another_worker_does_now_and_what_workers_say_is_told(make, caplog):
    said = Message(0, 1, "worker-0", logging.WARNING, "odd tag")
    shared, batch = make(lambda unit: UnitResult(done(unit).records, messages=(said,)))
    shared.watch.left["unit-0"] = "tcp://gone"
    batch.run()
    assert "the worker tcp://gone died or left; another one does" in caplog.text
    assert "chunk 0, attempt 1, on worker-0: odd tag" in caplog.text
