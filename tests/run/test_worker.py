"""What a worker makes of a unit of chunks, without a cluster around it."""

import errno
import logging
from types import SimpleNamespace

import pytest
from ears import ears

from pipeline.errors import NonFiniteError, StoreError
from pipeline.run import worker as module
from pipeline.run.attempt import describe, peak_memory
from pipeline.run.faults import Cause
from pipeline.run.heard import Message
from pipeline.run.records import DONE, FAILED, Done
from pipeline.run.worker import Begun, Unit, UnitResult, WorkPlugin, run_unit

ADDRESS = "tcp://127.0.0.1:4321"


class Scripted:
    """Work whose chunks raise what they are told to, and notes how it was called."""

    name = "scripted"

    def __init__(self, errors=(), opening=None):
        self.errors, self.opening, self.calls, self.say = dict(errors), opening, [], lambda chunk: None

    def open(self, worker_threads):
        if self.opening is not None:
            raise self.opening
        self.calls.append(("open", worker_threads))
        return self

    def process(self, chunk, *, lean=False):
        self.calls.append((chunk, lean))
        self.say(chunk)
        if chunk in self.errors:
            raise self.errors[chunk]
        return Done(seconds=(0.0, 0.0, 1.0, 0.0))


class FakeWorker:
    """What a unit knows of its Dask worker."""

    def __init__(self, plugin):
        self.address, self.told = ADDRESS, []
        self.plugins = {plugin.name: plugin}

    def get_current_task(self):
        return "unit-1"

    def log_event(self, topic, message):
        self.told.append((topic, message))


@pytest.fixture
def start(monkeypatch):
    def build(work):
        plugin = WorkPlugin(work)
        monkeypatch.setattr(module, "keep_freed_memory", lambda: None)
        monkeypatch.setattr(module, "listen", lambda: None)
        monkeypatch.setattr(module.zarr.config, "set", lambda settings: None)
        plugin.setup(SimpleNamespace(name="worker-0", state=SimpleNamespace(nthreads=3)))
        worker = FakeWorker(plugin)
        monkeypatch.setattr(module, "get_worker", lambda: worker)
        return plugin, worker

    return build


def unit(*chunks, lean=False):
    return Unit(tuple((chunk, 1) for chunk in chunks), lean)


def test_a_unit_gives_one_record_a_chunk_and_opens_the_work_once(start):
    work = Scripted()
    plugin, _ = start(work)
    result = run_unit(plugin.name, unit(3, 4))
    run_unit(plugin.name, unit(5))
    assert [(r.chunk, r.state, r.attempt, r.worker) for r in result.records] == [
        (3, DONE, 1, "worker-0"),
        (4, DONE, 1, "worker-0"),
    ]
    assert min(r.memory for r in result.records) > 1 << 20
    assert (result.causes, result.fault, result.lost) == ({}, None, None)
    assert work.calls == [("open", 3), (3, False), (4, False), (5, False)]


def test_the_driver_is_told_when_a_unit_begins_and_that_the_work_is_opened_first(start):
    plugin, worker = start(Scripted())
    run_unit(plugin.name, unit(1))
    run_unit(plugin.name, unit(2))
    assert [message for _, message in worker.told] == [
        Begun("unit-1", ADDRESS, opening=True),
        Begun("unit-1", ADDRESS, opening=False),
        Begun("unit-1", ADDRESS, opening=False),
    ]
    assert {topic for topic, _ in worker.told} == {plugin.name}


def test_lean_units_are_processed_lean(start):
    work = Scripted()
    plugin, _ = start(work)
    run_unit(plugin.name, unit(7, lean=True))
    assert work.calls[1:] == [(7, True)]


def test_a_failed_chunk_is_a_record_with_its_cause_and_the_others_go_on(start):
    errors = {1: StoreError("503"), 2: NonFiniteError("NaN"), 3: MemoryError(), 4: ValueError("odd")}
    plugin, _ = start(Scripted(errors))
    result = run_unit(plugin.name, unit(0, 1, 2, 3, 4, 5))
    assert [r.state for r in result.records] == [DONE, FAILED, FAILED, FAILED, FAILED, DONE]
    assert result.causes == {1: Cause.STORE, 2: Cause.INPUT, 3: Cause.MEMORY, 4: Cause.UNEXPECTED}
    assert [r.kind for r in result.records] == [
        None,
        "StoreError",
        "NonFiniteError",
        "MemoryError",
        "ValueError",
        None,
    ]
    assert result.records[1].error == "503"
    assert result.records[4].error.startswith("ValueError: odd (at test_worker.py:")


def test_an_error_of_the_machine_ends_the_unit(start):
    plugin, _ = start(Scripted({1: OSError(errno.ENOSPC, "No space left on device")}))
    result = run_unit(plugin.name, unit(0, 1, 2))
    assert [r.chunk for r in result.records] == [0, 1]
    assert result.causes == {1: Cause.ENVIRONMENT}
    assert "No space left on device" in result.fault


def test_a_process_whose_gpu_has_given_up_does_nothing_more(start):
    work = Scripted({1: RuntimeError("CUDA error: an illegal memory access was encountered")})
    plugin, _ = start(work)
    result = run_unit(plugin.name, unit(0, 1, 2))
    assert [r.chunk for r in result.records] == [0, 1]
    assert (result.causes, result.lost, result.fault) == ({1: Cause.DEVICE}, ADDRESS, None)
    assert run_unit(plugin.name, unit(2)) == UnitResult((), lost=ADDRESS)
    assert (2, False) not in work.calls


def test_work_that_cannot_be_opened_is_a_fault(start):
    plugin, _ = start(Scripted(opening=OSError(errno.ENOENT, "no such model")))
    result = run_unit(plugin.name, unit(0))
    assert result.records == ()
    assert "a worker could not open the work: FileNotFoundError" in result.fault


def test_work_that_was_taken_off_is_a_fault(start):
    plugin, worker = start(Scripted())
    worker.plugins.clear()
    assert run_unit(plugin.name, unit(0)) == UnitResult((), fault="the work was taken off the workers")


def test_two_plugins_of_one_work_have_two_names():
    assert WorkPlugin(Scripted()).name != WorkPlugin(Scripted()).name


def test_errors_as_one_line():
    assert describe(StoreError("our own sentence")) == "our own sentence"
    assert describe(KeyError()) == "KeyError: KeyError"
    assert len(describe(ValueError("x" * 5000))) == 2000


def test_peak_memory_is_that_of_this_process():
    assert 1 << 20 < peak_memory() < 1 << 40


def test_a_run_that_has_ended_begins_no_further_chunk_of_a_unit(start):
    work = Scripted()
    plugin, _ = start(work)
    work.say = lambda chunk: plugin.teardown(None) if chunk == 4 else None
    result = run_unit(plugin.name, unit(3, 4, 5, 6))
    assert [(r.chunk, r.state) for r in result.records] == [(3, DONE), (4, DONE)]
    assert (result.fault, result.lost) == (None, None)


@ears()
def test_what_is_said_meanwhile_comes_back_with_the_chunk_and_the_attempt(start):
    work = Scripted({4: ValueError("no")})
    plugin, _ = start(work)
    work.say = lambda chunk: logging.getLogger("reader").warning("odd tag in %d", chunk) if chunk != 3 else None
    result = run_unit(plugin.name, Unit(((3, 1), (4, 2), (5, 1))))
    assert result.messages == (
        Message(4, 2, "worker-0", logging.WARNING, "odd tag in 4 (reader)"),
        Message(5, 1, "worker-0", logging.WARNING, "odd tag in 5 (reader)"),
    )
