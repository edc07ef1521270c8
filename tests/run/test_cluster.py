import dataclasses
import json
import os
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import dask
import numpy as np
import psutil
import pytest
import zarr
from fakes import FakeWork, tries, value_of
from waiting import wait_until

from pipeline.errors import EnvironmentFaultError
from pipeline.run.cluster import connect, slots
from pipeline.run.cluster_spec import CHUNKS_AT_ONCE, ClusterSpec
from pipeline.run.dispatch import Dispatcher
from pipeline.run.ledger import Ledger

pytestmark = pytest.mark.slow

GIB = 1 << 30
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def client():
    spec = ClusterSpec(workers=2, threads=3, memory_limit=GIB, gpus=("5", "GPU-fake"))
    with connect(spec) as client:
        yield client


def on_each(client, function):
    """Return what a function of the worker gives in each worker process, in the order of the workers' names."""
    found = client.run(lambda dask_worker: (dask_worker.name, function(dask_worker)))
    return [value for _, value in sorted(found.values())]


def runs_on(client):
    """Return the names of the runs whose work the workers hold."""
    return on_each(client, lambda worker: [name for name in worker.plugins if name.startswith("overtile-")])


def listening(process):
    """Return the addresses and ports at which a process waits for others."""
    return {c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}


def test_each_worker_is_a_process_with_its_threads_and_its_gpu(client):
    assert len(set(on_each(client, lambda _: os.getpid())) | {os.getpid()}) == 3
    environments = on_each(client, lambda _: dict(os.environ))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert [e[name] for e in environments] == ["3", "3"]
    assert [e["MALLOC_ARENA_MAX"] for e in environments] == ["1", "1"]
    assert [e["CUDA_VISIBLE_DEVICES"] for e in environments] == ["5", "GPU-fake"]
    assert on_each(client, lambda worker: worker.name) == ["worker-0", "worker-1"]


def test_each_worker_has_some_chunks_in_hand(client):
    assert slots(client) == 2 * CHUNKS_AT_ONCE
    assert on_each(client, lambda worker: worker.state.nthreads) == [CHUNKS_AT_ONCE] * 2


def test_each_worker_has_its_memory_limit_and_is_never_paused(client):
    def memory(worker):
        manager = worker.memory_manager
        return manager.memory_limit, manager.memory_target_fraction, manager.memory_pause_fraction

    assert on_each(client, memory) == [(GIB, False, False)] * 2
    assert dask.config.get("distributed.worker.memory.terminate") == 0.95
    assert dask.config.get("distributed.scheduler.allowed-failures") == 1


def test_workers_do_not_hear_a_terminals_interrupt(client):
    assert on_each(client, lambda _: signal.getsignal(signal.SIGINT)) == [signal.SIG_IGN] * 2


def test_nothing_listens_beyond_this_machine(client):
    assert client.scheduler.address.startswith("tcp://127.0.0.1:")
    assert all(address.startswith("tcp://127.0.0.1:") for address in client.nthreads())
    here = psutil.Process()
    processes = [here, *here.children(recursive=True)]
    found = set().union(*map(listening, processes))
    assert len(found) >= 3, "the scheduler and the workers"
    assert {place.ip for place in found} == {"127.0.0.1"}


def test_the_end_of_the_block_is_the_end_of_all_of_it(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    here, before, environment = psutil.Process(), dask.config.get("distributed.worker.memory"), dict(os.environ)
    already, ports = set(here.children(recursive=True)), len(listening(here))
    with connect(ClusterSpec(workers=1, threads=None, memory_limit=GIB)) as client:
        ((pid, variables),) = on_each(client, lambda _: (os.getpid(), dict(os.environ)))
    assert variables["OMP_NUM_THREADS"] == "1"
    assert variables.get("CUDA_VISIBLE_DEVICES") == environment.get("CUDA_VISIBLE_DEVICES")
    assert not psutil.pid_exists(pid)
    assert {c for c in here.children(recursive=True) if "spawn_main" in " ".join(c.cmdline())} <= already
    wait_until(lambda: len(listening(here)) <= ports)
    assert dask.config.get("distributed.worker.memory") == before
    assert dict(os.environ) == environment


def test_the_end_comes_after_an_error_too():
    def work():
        with connect(ClusterSpec(workers=1, threads=1, memory_limit=GIB)) as client:
            pids.extend(client.run(os.getpid).values())
            raise RuntimeError("inside")

    pids = []
    with pytest.raises(RuntimeError, match="inside"):
        work()
    assert len(pids) == 1
    assert not psutil.pid_exists(pids[0])


@contextmanager
def started(*arguments, **environment):
    """A process that is stopped at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=30)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A cluster that was there before: a scheduler and a worker, each a process of its own."""
    place = tmp_path_factory.mktemp("cluster")
    scheduler_file = place / "scheduler.json"
    scheduler = [
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        0,
        "--no-dashboard",
        "--no-show",
    ]
    worker = [
        "distributed.cli.dask_worker",
        "--host",
        "127.0.0.1",
        "--no-nanny",
        "--no-dashboard",
        "--nthreads",
        2,
    ]
    options = {"PYTHONPATH": str(SUPPORT), "DASK_TEMPORARY_DIRECTORY": str(place)}
    with started(*scheduler, "--scheduler-file", scheduler_file, **options) as first:
        wait_until(lambda: scheduler_file.exists() and scheduler_file.read_text().endswith("}"), 60)
        found = json.loads(scheduler_file.read_text())["address"]
        with started(*worker, "--scheduler-file", scheduler_file, **options) as second:
            yield found
            assert first.poll() is None, "the cluster was stopped, which is not ours to do"
            assert second.poll() is None, "the worker was stopped, which is not ours to do"


@pytest.fixture
def external(address):
    with connect(ClusterSpec(1, None, GIB, address=address)) as client:
        wait_until(lambda: slots(client) == 2, 60)
        yield client


def assert_whole(work):
    stored = zarr.open_array(str(work.root / "0"), mode="r")[:]
    assert all(np.all(stored[work.grid.core(c).slices] == value_of(c)) for c in range(len(work.grid)))


def make(tmp_path, name, **settings):
    work = FakeWork(tmp_path / "out.zarr", (40, 40), (8, 8), name=name, **settings)
    work.create()
    return work, Ledger(tmp_path / "journal", len(work.grid), epoch=1)


def test_a_cluster_by_its_address_does_the_work(external, tmp_path):
    work, ledger = make(tmp_path, "external")
    before = psutil.Process().children(recursive=True)
    with closing(Dispatcher(external, work, ledger, retries=0)) as dispatcher:
        outcome = dispatcher.process(range(len(work.grid)))
        assert [len(names) for names in runs_on(external)] == [1]
    ledger.close()
    assert outcome.failed == ()
    assert ledger.is_complete()
    assert_whole(work)
    assert psutil.Process().children(recursive=True) == before, "no process was started"
    assert runs_on(external) == [[]], "the work is taken off the workers"


def test_two_outputs_of_one_job_on_one_cluster_at_once_do_not_mix(external, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one, first = make(tmp_path / "one", "same")
    other, second = make(tmp_path / "other", "same")
    with (
        closing(Dispatcher(external, one, first, retries=0)) as a,
        closing(Dispatcher(external, other, second, retries=0)) as b,
    ):
        a.process(range(12))
        b.process(range(25))
        a.process(range(25))
    for work, ledger in ((one, first), (other, second)):
        ledger.close()
        assert ledger.is_complete()
        assert_whole(work)
        assert set(tries(work.root).values()) == {1}


def test_the_next_run_on_a_cluster_does_not_get_the_work_of_one_that_was_killed(external, tmp_path):
    broken, ledger = make(tmp_path, "killed", open_error="no such model")
    left = Dispatcher(external, broken, ledger, retries=0)
    with pytest.raises(EnvironmentFaultError, match="no such model"):
        left.process(range(25))
    with closing(
        Dispatcher(external, dataclasses.replace(broken, open_error=None), ledger, retries=0)
    ) as dispatcher:
        assert dispatcher.process(range(25)).failed == ()
    left.close()
    ledger.close()
    assert_whole(broken)


def test_closing_after_the_cluster_is_gone_is_no_error(tmp_path):
    work, ledger = make(tmp_path, "gone")
    with connect(ClusterSpec(workers=1, threads=1, memory_limit=GIB)) as client:
        dispatcher = Dispatcher(client, work, ledger, retries=0)
    dispatcher.close()
    ledger.close()


def test_units_that_begin_after_the_work_was_taken_off_stop_the_run_and_fail_no_chunk(external, tmp_path):
    work, ledger = make(tmp_path, "closed")
    dispatcher = Dispatcher(external, work, ledger, retries=0)
    external.unregister_worker_plugin(dispatcher._plugin)
    with pytest.raises(EnvironmentFaultError, match="taken off the workers"):
        dispatcher.process(range(25))
    ledger.close()
    assert ledger.counts()["pending"] == 25
