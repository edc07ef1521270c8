"""When a store counts as not answering, and how a fault reaches every caller."""

from types import SimpleNamespace

import pytest

from pipeline.errors import EnvironmentFaultError
from pipeline.run.gate import Gate
from pipeline.run.shared import STORE_FAILURES, Shared


class FakeLedger:
    def __init__(self):
        self.requeued = []

    def requeue(self, chunks, reason):
        self.requeued += chunks


@pytest.fixture
def shared():
    nothing = SimpleNamespace()
    return Shared(nothing, FakeLedger(), "plugin", Gate(), nothing, nothing, 1, lambda: None)


def test_failures_with_successes_between_them_are_the_chunks_own(shared):
    for chunk in range(10 * STORE_FAILURES):
        shared.failed_by_store(chunk, "503")
        if chunk % (STORE_FAILURES - 1) == STORE_FAILURES - 2:
            shared.chunk_done()
    assert not shared.stopped.is_set()
    assert shared.ledger.requeued == []
    shared.check()


def test_failures_in_a_row_are_the_stores_and_leave_their_chunks_pending(shared):
    shared.failed_by_store(99, "503")
    shared.chunk_done()
    for chunk in range(STORE_FAILURES):
        assert not shared.stopped.is_set()
        shared.failed_by_store(chunk, f"503 for {chunk}")
    assert shared.stopped.is_set()
    shared.failed_by_store(50, "503, too")
    assert shared.ledger.requeued == [*range(STORE_FAILURES), 50]
    with pytest.raises(EnvironmentFaultError, match="5 chunks in a row failed by it, the last: 503 for 4"):
        shared.check()


def test_the_first_fault_is_told(shared):
    shared.fail("disk full")
    shared.fail("another")
    with pytest.raises(EnvironmentFaultError, match=r"stopped: disk full\. What is done is kept"):
        shared.check()


def test_losing_the_cluster_is_a_fault_only_before_a_stop(shared):
    shared.stopped.set()
    shared.lose("the cluster ended")
    shared.check()
    shared.stopped.clear()
    shared.lose("the cluster ended")
    with pytest.raises(EnvironmentFaultError, match="the cluster ended"):
        shared.check()
