"""Hung workers of somebody else's cluster, which has no nannies that could replace them."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from distributed import Scheduler, SpecCluster
from fakes import FakeWork, release, tries
from waiting import wait_until

from pipeline.errors import EnvironmentFaultError
from pipeline.run.cluster import connect, slots
from pipeline.run.cluster_spec import ClusterSpec
from pipeline.run.dispatch import Dispatcher, Outcome
from pipeline.run.ledger import Ledger

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parents[1] / "support"
CHUNKS = 64


def worker(address, folder):
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--host", "127.0.0.1", "--no-nanny"]
    return subprocess.Popen(
        [*command, "--no-dashboard", "--nthreads", "1"],
        env=os.environ | {"PYTHONPATH": str(SUPPORT), "DASK_TEMPORARY_DIRECTORY": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture
def client(tmp_path):
    """A scheduler, and two workers without nannies, which stop at the end of a test."""
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
    with ExitStack() as stack:
        cluster = stack.enter_context(SpecCluster(workers={}, scheduler=scheduler))
        for _ in range(2):
            process = stack.enter_context(worker(cluster.scheduler_address, tmp_path))
            stack.callback(process.kill)
        client = stack.enter_context(connect(ClusterSpec(2, 1, 1 << 30, address=cluster.scheduler_address)))
        wait_until(lambda: slots(client) == 2, 60)
        yield client
        release(tmp_path / "out.zarr")


@pytest.fixture
def make(tmp_path):
    def build(plan):
        work = FakeWork(tmp_path / "out.zarr", (64, 60), (8, 8), name="foreign", plan=plan)
        work.create()
        return work, Ledger(tmp_path / "journal", CHUNKS, epoch=1)

    return build


def test_a_worker_that_cannot_be_replaced_gets_nothing_more(client, make):
    work, ledger = make({1: ("hold",)})
    outcome = Dispatcher(client, work, ledger, retries=1, deadline=1.0).process(range(CHUNKS))
    ledger.close()
    assert outcome == Outcome(CHUNKS, (1,))
    assert ledger.failures[1].kind == "DeadlineExceeded"
    assert "has no nanny and hangs on: restart it" in ledger.failures[1].error
    assert slots(client) == 2, "the worker is not ours to stop"


def test_when_all_workers_hang_the_run_stops(client, make):
    work, ledger = make({0: ("hold",), 1: ("hold",)})
    with pytest.raises(EnvironmentFaultError, match=r"all 2 worker\(s\) are stuck.*run again to resume"):
        Dispatcher(client, work, ledger, retries=1, deadline=1.0).process(range(CHUNKS))
    ledger.close()
    assert set(tries(work.root)) <= {0, 1}
    assert ledger.counts()["pending"] == CHUNKS - 2
