import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from fakes import FakeWork, tries, value_of, ways

from pipeline.errors import EnvironmentFaultError, InputError
from pipeline.geometry import Grid
from pipeline.run.cluster import connect, slots
from pipeline.run.cluster_spec import CHUNKS_AT_ONCE, ClusterSpec
from pipeline.run.dispatch import Dispatcher, Outcome
from pipeline.run.ledger import Ledger

pytestmark = pytest.mark.slow

GIB = 1 << 30


@pytest.fixture(scope="module")
def client():
    with connect(ClusterSpec(workers=2, threads=1, memory_limit=2 * GIB)) as client:
        yield client


@pytest.fixture
def make(tmp_path):
    ledgers = []

    def build(name, **kwargs):
        work = FakeWork(tmp_path / "out.zarr", (64, 60), (8, 8), name=name, **kwargs)
        work.create()
        ledgers.append(Ledger(tmp_path / "journal", len(work.grid), epoch=len(ledgers) + 1))
        return work, ledgers[-1]

    yield build
    for ledger in ledgers:
        ledger.close()


def assert_whole(work, except_for=()):
    stored = zarr.open_array(str(work.root / "0"), mode="r")[:]
    for chunk in set(range(len(work.grid))) - set(except_for):
        assert (stored[work.grid.core(chunk).slices] == value_of(chunk)).all()


def test_every_chunk_once_and_the_work_opened_once_a_process(client, make):
    work, ledger = make("all")
    outcome = Dispatcher(client, work, ledger, retries=2).process(range(len(work.grid)))
    assert outcome.processed == len(work.grid) == 64
    assert outcome.failed == ()
    assert ledger.is_complete()
    assert set(tries(work.root).values()) == {1}
    assert 1 <= len(list((work.root.parent / "opened").iterdir())) <= 2
    assert_whole(work)
    assert slots(client) == 2 * CHUNKS_AT_ONCE


def test_a_failing_chunk_is_tried_once_more_alone_and_does_not_stop_the_others(client, make):
    work, ledger = make("retry", plan={5: ("raise", ""), 9: ("raise",)})
    outcome = Dispatcher(client, work, ledger, retries=2).process(range(64))
    assert outcome == Outcome(64, (9,))
    assert ledger.counts()["done"] == 63
    assert (ways(work.root, 5), ways(work.root, 9)) == ("xl", "xl")
    assert ledger.attempts(5) == 2
    assert (ledger.failures[9].attempt, ledger.failures[9].kind) == (2, "ValueError")
    assert "planned failure of chunk 9" in ledger.failures[9].error
    assert_whole(work, except_for=[9])
    ledger.close()
    again = Ledger(work.root.parent / "journal", 64)
    assert list(again.lacking()) == [9]
    assert again.attempts(9) == 2


def test_only_what_the_ledger_lacks_is_processed(client, make):
    work, ledger = make("resume")
    dispatcher = Dispatcher(client, work, ledger, retries=0)
    dispatcher.process(range(20, 40))
    assert sorted(tries(work.root)) == list(range(20, 40))
    dispatcher.process(range(64))
    assert set(tries(work.root).values()) == {1}
    assert dispatcher.process(range(64)).processed == 0


def test_listed_chunks_are_processed_once_whatever_their_state(client, make):
    work, ledger = make("listed")
    dispatcher = Dispatcher(client, work, ledger, retries=0)
    dispatcher.process(range(4))
    outcome = dispatcher.process_listed([3, 9, 3, 9, 9])
    assert (outcome.processed, outcome.failed) == (2, ())
    assert tries(work.root) == {0: 1, 1: 1, 2: 1, 3: 2, 9: 1}
    assert ledger.attempts(3) == 2


def test_a_chunk_that_kills_its_worker_is_found_and_its_neighbours_are_not_blamed(client, make):
    work, ledger = make("poison", plan={11: ("kill",)})
    outcome = Dispatcher(client, work, ledger, retries=1).process(range(64))
    assert outcome.failed == (11,)
    assert ledger.counts()["done"] == 63
    assert "died" in ledger.failures[11].error
    assert_whole(work, except_for=[11])


def test_several_callers_share_a_dispatcher_and_suspects_run_alone(client, make):
    work, ledger = make("callers", plan={3: ("kill",), 40: ("raise", "")})
    dispatcher = Dispatcher(client, work, ledger, retries=1, callers=4)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(dispatcher.process, Grid((64, 1), (1, 1)).regions(8)))
    assert [o.failed for o in outcomes] == [(3,), (), (), (), (), (), (), ()]
    assert ledger.counts()["done"] == 63
    assert_whole(work, except_for=[3])


def test_a_full_disk_stops_the_run_and_fails_no_chunk(client, make):
    work, ledger = make("full", plan={0: ("full", "")})
    with pytest.raises(EnvironmentFaultError, match="No space left on device"):
        Dispatcher(client, work, ledger, retries=2).process(range(64))
    assert ledger.counts()["failed"] == 0
    assert ledger.counts()["pending"] > 0
    Dispatcher(client, work, ledger, retries=2).process(range(64))
    assert ledger.is_complete()


def test_work_that_cannot_be_opened_stops_the_run(client, make):
    work, ledger = make("unopened", open_error="no such model")
    with pytest.raises(EnvironmentFaultError, match="no such model"):
        Dispatcher(client, work, ledger, retries=2).process(range(64))
    assert ledger.counts()["pending"] == 64


def test_stop_hands_out_no_more(client, make):
    work, ledger = make("stop")
    stopped = threading.Event()
    dispatcher = Dispatcher(
        client, work, ledger, retries=0, on_progress=lambda: (dispatcher.stop(), stopped.set())
    )
    dispatcher.process(range(64))
    assert stopped.is_set()
    assert 0 < ledger.counts()["done"] < 64


def test_an_address_without_a_scheduler_is_refused():
    with (
        pytest.raises(InputError, match="no Dask scheduler answers"),
        connect(ClusterSpec(1, 1, GIB, address="tcp://127.0.0.1:1")),
    ):
        pass


def test_progress_is_told(client, make):
    work, ledger = make("progress")
    seen = []
    Dispatcher(client, work, ledger, retries=0, on_progress=lambda: seen.append(ledger.counts()["done"])).process(
        range(64)
    )
    assert seen == sorted(seen)
    assert seen[-1] == 64
    assert np.diff(seen).max() < 64
