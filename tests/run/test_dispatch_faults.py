"""What dispatch does when chunks fail for different reasons, hang, or take their worker with them."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes import FakeWork, broken_unit, release, tries, ways
from waiting import wait_until

from pipeline.errors import EnvironmentFaultError
from pipeline.run import agenda, batch
from pipeline.run.cluster import connect
from pipeline.run.cluster_spec import ClusterSpec
from pipeline.run.dispatch import Dispatcher, Outcome
from pipeline.run.ledger import Ledger

pytestmark = pytest.mark.slow

SPEC = ClusterSpec(workers=2, threads=1, memory_limit=2 << 30)
CHUNKS = 64


@pytest.fixture(scope="module")
def client():
    with connect(SPEC) as client:
        yield client


@pytest.fixture
def make(tmp_path):
    ledgers = []

    def build(plan):
        work = FakeWork(tmp_path / "out.zarr", (64, 60), (8, 8), name="faults", plan=plan)
        work.create()
        ledgers.append(Ledger(tmp_path / "journal", CHUNKS, epoch=1))
        return work, ledgers[-1]

    yield build
    release(tmp_path / "out.zarr")
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(agenda, "FIRST_WAIT", 0.02)


@pytest.mark.parametrize(
    ("act", "kind", "twice", "for_ever"),
    [
        ("memory", "MemoryError", "xl", "xl"),
        ("raise", "ValueError", "xl", "xl"),
        ("input", "NonFiniteError", "xx", "xx"),
        ("store", "StoreError", "xx", "xxxx"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_how_a_chunk_is_tried_again_depends_on_why_it_failed(client, make, act, kind, twice, for_ever):
    work, ledger = make({5: (act, ""), 9: (act,)})
    outcome = Dispatcher(client, work, ledger, retries=3).process(range(CHUNKS))
    assert outcome == Outcome(CHUNKS, (9,))
    assert (ways(work.root, 5), ways(work.root, 9)) == (twice, for_ever)
    assert (ledger.attempts(5), ledger.attempts(9)) == (len(twice), len(for_ever))
    assert ledger.failures[9].kind == kind
    others = {c: n for c, n in tries(work.root).items() if c not in (5, 9)}
    assert set(others.values()) == {1}


def test_without_retries_every_chunk_has_one_try(client, make):
    work, ledger = make({5: ("memory",), 6: ("raise",), 7: ("input",), 8: ("store",)})
    outcome = Dispatcher(client, work, ledger, retries=0).process(range(CHUNKS))
    assert outcome == Outcome(CHUNKS, (5, 6, 7, 8))
    assert set(tries(work.root).values()) == {1}


def test_what_fails_by_its_input_comes_again_after_the_others(client, make):
    work, ledger = make({0: ("input", "")})
    assert Dispatcher(client, work, ledger, retries=1).process(range(CHUNKS)).failed == ()
    times = {int(p.name): p.stat().st_mtime_ns for p in (work.root.parent / "tries").iterdir()}
    assert max(times, key=times.__getitem__) == 0


@pytest.mark.usefixtures("impatient")
def test_a_store_that_does_not_answer_stops_the_run_and_fails_no_chunk(client, make):
    work, ledger = make(dict.fromkeys(range(20, CHUNKS), ("store", "store", "")))
    with pytest.raises(
        EnvironmentFaultError, match=r"the store does not answer.*503 for chunk.*run again to resume"
    ):
        Dispatcher(client, work, ledger, retries=1).process(range(CHUNKS))
    assert ledger.counts()["failed"] == 0
    assert 40 <= ledger.counts()["pending"] <= 44
    Dispatcher(client, work, ledger, retries=3).process(range(CHUNKS))
    assert ledger.is_complete()


def test_a_process_whose_gpu_has_given_up_is_replaced(client, make):
    work, ledger = make({5: ("device", ""), 9: ("device",)})
    before = {info["pid"] for info in client.run(_pid).values()}
    outcome = Dispatcher(client, work, ledger, retries=2).process(range(CHUNKS))
    assert outcome == Outcome(CHUNKS, (9,))
    assert (ways(work.root, 5)[-1], ledger.failures[9].kind) == ("l", "RuntimeError")
    assert {c for c in range(CHUNKS) if ledger.attempts(c) > 1} == {5, 9}
    assert {info["pid"] for info in client.run(_pid).values()} != before


def _pid():
    import os

    return {"pid": os.getpid()}


def test_hung_and_frozen_workers_are_replaced_and_no_chunk_is_blamed(client, make, caplog):
    work, ledger = make({3: ("hold", ""), 40: ("freeze", "")})
    with caplog.at_level(logging.WARNING, logger="overtile"):
        outcome = Dispatcher(client, work, ledger, retries=1, deadline=1.0).process(range(CHUNKS))
    assert outcome == Outcome(CHUNKS, ())
    assert ledger.is_complete()
    assert max(ledger.attempts(c) for c in range(CHUNKS)) == 1, "an attempt that was cut off is charged to nobody"
    assert "was replaced" in caplog.text


def test_a_chunk_that_hangs_alone_too_has_failed(client, make):
    work, ledger = make({7: ("hold",)})
    outcome = Dispatcher(client, work, ledger, retries=1, deadline=1.0).process(range(CHUNKS))
    assert outcome == Outcome(CHUNKS, (7,))
    assert (ledger.failures[7].kind, ledger.failures[7].attempt) == ("DeadlineExceeded", 1)
    assert "not done after 1 s alone; its worker was replaced" in ledger.failures[7].error


def test_stopping_takes_back_what_has_not_begun(client, make):
    work, ledger = make(dict.fromkeys(range(CHUNKS), ("hold", "")))
    dispatcher = Dispatcher(client, work, ledger, retries=1)
    slots = sum(client.nthreads().values())
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(dispatcher.process, range(CHUNKS))
        wait_until(lambda: (work.root.parent / "tries").exists() and len(tries(work.root)) == slots)
        wait_until(lambda: sum(map(len, client.processing().values())) >= slots)
        dispatcher.stop()
        wait_until(lambda: sum(map(len, client.processing().values())) == slots)
        assert not call.done()
        release(work.root)
        outcome = call.result(30)
    assert outcome == Outcome(slots, ())
    assert len(tries(work.root)) == slots == ledger.counts()["done"]


def test_calls_end_with_the_cluster(make):
    work, ledger = make(dict.fromkeys(range(CHUNKS), ("hold", "")))
    with ThreadPoolExecutor(1) as pool:
        with connect(SPEC) as client:
            dispatcher = Dispatcher(client, work, ledger, retries=1)
            call = pool.submit(dispatcher.process, range(CHUNKS))
            wait_until(lambda: (work.root.parent / "tries").exists())
        with pytest.raises(EnvironmentFaultError, match="Dask scheduler"):
            call.result(20)
    assert ledger.counts()["pending"] == CHUNKS


def test_units_that_no_worker_can_run_stop_the_run(client, make, monkeypatch):
    work, ledger = make({})
    monkeypatch.setattr(batch, "run_unit", broken_unit)
    with pytest.raises(EnvironmentFaultError, match="a worker could not run a unit: ImportError: No module named"):
        Dispatcher(client, work, ledger, retries=1).process(range(CHUNKS))
    assert ledger.counts()["pending"] == CHUNKS


def test_a_fault_that_one_caller_meets_is_told_to_all(client, make):
    work, ledger = make({40: ("full",)} | dict.fromkeys(range(20), ("hold", "")))
    dispatcher = Dispatcher(client, work, ledger, retries=1, callers=2)
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(dispatcher.process, range(3))
        full = pool.submit(dispatcher.process, range(40, CHUNKS))
        with pytest.raises(EnvironmentFaultError, match="No space left"):
            full.result(30)
        release(work.root)
        with pytest.raises(EnvironmentFaultError, match="No space left"):
            held.result(30)


def test_closing_does_not_wait_for_a_frozen_worker(make, monkeypatch):
    monkeypatch.setattr("pipeline.run.dispatch.LEAVE", 0.5)
    work, ledger = make({0: ("freeze",)})
    with ThreadPoolExecutor(1) as pool:
        with connect(ClusterSpec(workers=1, threads=1, memory_limit=2 << 30)) as client:
            dispatcher = Dispatcher(client, work, ledger, retries=1)
            call = pool.submit(dispatcher.process, range(1))
            wait_until(lambda: (work.root.parent / "tries").exists())
            started = time.monotonic()
            dispatcher.close()
            assert time.monotonic() - started < 4
        assert call.result(20) == Outcome(0, ())
