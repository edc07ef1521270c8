"""A cluster of processes that speak TLS only: workers that join late and that die, and strangers who are refused."""

import threading
from contextlib import ExitStack, closing

import numpy as np
import pytest
import zarr
from clusters import certificates, ended, tls_scheduler, tls_worker
from distributed import Client
from fakes import FakeWork, release, tries, value_of
from waiting import wait_until

from pipeline.errors import InputError
from pipeline.run.cluster import connect, slots
from pipeline.run.cluster.versions import take_census
from pipeline.run.cluster_spec import ClusterSpec, Tls
from pipeline.run.dispatch import Dispatcher
from pipeline.run.ledger import Ledger

pytestmark = pytest.mark.slow

CHUNKS = 25


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def tls(folder):
    return certificates(folder / "tls")


@pytest.fixture(scope="module")
def address(folder, tls):
    with tls_scheduler(folder, folder / "tls") as address:
        yield address


def spec(address, tls):
    return ClusterSpec(1, 1, 1 << 30, address=address, tls=tls)


def test_workers_that_join_late_are_used_and_one_that_dies_loses_nothing(folder, address, tls, tmp_path):
    work = FakeWork(tmp_path / "out.zarr", (40, 40), (8, 8), name="tls", plan={0: ("hold", "")})
    work.create()
    ledger = Ledger(tmp_path / "journal", CHUNKS, epoch=1)
    outcomes = []
    with ExitStack() as stack:
        client = stack.enter_context(connect(spec(address, tls)))
        dispatcher = stack.enter_context(closing(Dispatcher(client, work, ledger, retries=0)))
        run = threading.Thread(target=lambda: outcomes.append(dispatcher.process(range(CHUNKS))))
        stack.callback(run.join)
        stack.callback(release, work.root)
        stack.callback(dispatcher.stop)
        run.start()  # before there is any worker
        first = stack.enter_context(ended(tls_worker(address, folder, folder / "tls")))
        wait_until(lambda: (tmp_path / "tries" / "0").exists(), 60)  # it has chunk 0 in hand, and keeps it
        second = stack.enter_context(ended(tls_worker(address, folder, folder / "tls")))
        wait_until(lambda: ledger.counts()["done"] == CHUNKS - 1, 60)
        assert slots(client) == 2
        first.kill()
        run.join(60)
        assert second.poll() is None
        assert len(take_census(client).workers) == 1
    assert [outcome.failed for outcome in outcomes] == [()]
    ledger.close()
    assert tries(work.root) == {c: 1 + (c == 0) for c in range(CHUNKS)}
    stored = zarr.open_array(str(work.root / "0"), mode="r")[:]
    assert all(np.all(stored[work.grid.core(c).slices] == value_of(c)) for c in range(CHUNKS))


def test_a_plain_client_is_refused(address):
    with pytest.raises(OSError, match=r"[Rr]eset|[Tt]imed out|closed"):
        Client(address.replace("tls://", "tcp://"), timeout="2s", set_as_default=False)


def test_a_client_that_another_authority_vouches_for_is_refused(address, tmp_path):
    strangers = certificates(tmp_path / "strangers")
    with (
        pytest.raises(InputError, match="no Dask scheduler answers there that shares our certificates"),
        connect(spec(address, strangers)),
    ):
        pass


def test_a_client_that_does_not_believe_the_scheduler_connects_to_nothing(address, tls, tmp_path):
    other = certificates(tmp_path / "other")
    with (
        pytest.raises(InputError, match="shares our certificates"),
        connect(spec(address, Tls(other.ca, tls.cert, tls.key))),
    ):
        pass


def test_everybodys_versions_are_told(folder, address, tls):
    with ended(tls_worker(address, folder, folder / "tls")), connect(spec(address, tls)) as client:
        wait_until(lambda: slots(client) == 1, 60)
        census = take_census(client)
    assert census.error == ""
    assert list(census.workers.values()) == [census.here]
    assert census.scheduler == {"distributed": census.here["distributed"], "python": census.here["python"]}
    assert census.address == address
