"""Deadlines and the replacement of workers, on a client and a clock that the tests move."""

import pytest

from pipeline.errors import EnvironmentFaultError
from pipeline.run import watch as module
from pipeline.run.watch import LEAST_DEADLINE, OPENING, SLOWEST, Watch


class FakeClient:
    """Two workers, and what became of those that were asked to restart."""

    def __init__(self):
        self.handlers, self.restarted, self.error = {}, [], None

    def subscribe_topic(self, topic, handler):
        self.handlers[topic] = handler

    def unsubscribe_topic(self, topic):
        del self.handlers[topic]

    def nthreads(self):
        return {"tcp://a": 3, "tcp://b": 3}

    def restart_workers(self, workers, *, timeout, raise_for_error):
        assert timeout > 0
        assert not raise_for_error
        self.restarted += workers
        if self.error is not None:
            raise self.error

    def tell(self, key, worker, opening=False):
        self.handlers["topic"]((0.0, (key, worker, opening)))


@pytest.fixture
def client():
    return FakeClient()


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_the_time_counts_from_when_a_worker_began(client, clock):
    watch = Watch(client, "topic", 10.0)
    clock[0] += 500
    assert watch.overdue("unit", 1) is None
    client.tell("unit", "tcp://a")
    clock[0] += 30
    assert watch.overdue("unit", 3) is None
    clock[0] += 1
    assert watch.overdue("unit", 3).worker == "tcp://a"
    assert watch.overdue("unit", 4) is None


def test_what_is_excused_does_not_count(client, clock):
    watch = Watch(client, "topic", 10.0)
    client.tell("unit", "tcp://a")
    clock[0] += 500
    assert watch.overdue("unit", 1, excused=490) is None
    assert watch.overdue("unit", 1, excused=489) is not None


def test_a_unit_that_dask_gave_to_another_worker_begins_anew(client, clock):
    watch = Watch(client, "topic", 10.0)
    client.tell("unit", "tcp://a")
    clock[0] += 9
    client.tell("unit", "tcp://b")
    clock[0] += 9
    assert watch.overdue("unit", 1) is None
    assert watch.begun("unit").worker == "tcp://b"


def test_who_had_begun_a_unit_before_is_told_once(client):
    watch = Watch(client, "topic", 10.0)
    client.tell("unit", "tcp://a", opening=True)
    client.tell("unit", "tcp://a")
    assert watch.moved("unit") is None
    client.tell("unit", "tcp://b", opening=True)
    client.tell("unit", "tcp://b")
    assert watch.moved("unit") == "tcp://a"
    assert watch.moved("unit") is None
    client.tell("unit", "tcp://c")
    watch.forget("unit")
    assert watch.moved("unit") is None


def test_opening_the_work_has_time_of_its_own(client, clock):
    watch = Watch(client, "topic", 10.0)
    client.tell("unit", "tcp://a", opening=True)
    clock[0] += OPENING
    assert watch.overdue("unit", 1) is None
    clock[0] += 1
    assert watch.overdue("unit", 1) is not None
    client.tell("unit", "tcp://a")
    assert watch.overdue("unit", 1) is None


def test_without_a_deadline_the_slowest_chunk_gives_it(client):
    watch = Watch(client, "topic", None)
    assert watch.limit() == LEAST_DEADLINE
    for seconds in (5.0, 100.0, 20.0):
        watch.note(seconds)
    assert watch.limit() == SLOWEST * 100


def test_what_has_ended_is_forgotten(client):
    watch = Watch(client, "topic", 1.0)
    client.tell("unit", "tcp://a")
    watch.forget("unit")
    watch.forget("unit")
    assert watch.begun("unit") is None


def test_closing_listens_no_more(client):
    Watch(client, "topic", 1.0).close()
    assert client.handlers == {}


def test_a_worker_is_replaced_once_for_all_its_units(client, clock):
    watch = Watch(client, "topic", 1.0)
    client.tell("one", "tcp://a")
    client.tell("other", "tcp://a")
    assert watch.replace(watch.begun("one"))
    assert watch.replace(watch.begun("other"))
    assert client.restarted == ["tcp://a"]
    clock[0] += 1
    client.tell("later", "tcp://a")
    assert watch.replace(watch.begun("later")), "a new worker may have the address of an old one"
    assert client.restarted == ["tcp://a", "tcp://a"]


def test_a_worker_that_is_gone_already_needs_no_replacing(client):
    watch = Watch(client, "topic", 1.0)
    client.tell("unit", "tcp://a")
    client.error = KeyError("tcp://a")
    assert watch.replace(watch.begun("unit"))
    assert watch.usable() is None


def test_a_scheduler_that_does_not_answer_is_told_and_the_run_goes_on(client, caplog):
    watch = Watch(client, "topic", 1.0)
    client.tell("unit", "tcp://a")
    client.error = OSError("no answer")
    assert watch.replace(watch.begun("unit"))
    assert "could not be replaced: no answer" in caplog.text


def test_workers_without_a_nanny_are_shunned_until_none_is_left(client, clock, caplog):
    watch = Watch(client, "topic", 1.0)
    client.error = ValueError("Restarting workers requires a nanny to be used.")
    client.tell("one", "tcp://a")
    client.tell("two", "tcp://b")
    assert watch.shunned_at < clock[0]
    assert not watch.replace(watch.begun("one"))
    assert not watch.replace(watch.begun("one"))
    assert watch.shunned_at == clock[0]
    assert watch.usable() == ["tcp://b"]
    assert not watch.replace(watch.begun("two"))
    with pytest.raises(EnvironmentFaultError, match=r"all 2 worker\(s\) are stuck, and none has a nanny"):
        watch.usable()
    assert "has no nanny" in caplog.text


def test_a_unit_whose_worker_has_left_waits_for_another_and_is_not_overdue(client, clock):
    watch = Watch(client, "topic", 10.0)
    client.tell("unit", "tcp://gone")
    clock[0] += 31
    assert watch.overdue("unit", 3) is None
    assert watch.begun("unit") is None
    client.tell("unit", "tcp://b")
    clock[0] += 31
    assert watch.overdue("unit", 3).worker == "tcp://b"


def test_a_scheduler_that_does_not_answer_excuses_nobody(client, clock):
    def silent():
        raise OSError("closed")

    watch, client.nthreads = Watch(client, "topic", 10.0), silent
    client.tell("unit", "tcp://gone")
    clock[0] += 31
    assert watch.overdue("unit", 3).worker == "tcp://gone"
