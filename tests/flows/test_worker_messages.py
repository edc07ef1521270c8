"""What happens to chunks on real workers is read in the flow run's log, with chunk and attempt."""

import re
import uuid
from contextlib import closing

import pytest
from fakes import FakeWork
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.runtime import flow_run
from waiting import wait_until

from flows.logs import forward_logs
from pipeline.run.cluster import connect
from pipeline.run.cluster_spec import ClusterSpec
from pipeline.run.dispatch import Dispatcher
from pipeline.run.ledger import Ledger

pytestmark = pytest.mark.slow

CHUNKS = 25
PLAN = {2: ("warn",), 5: ("raise",), 9: ("kill", "kill", "")}
"""One warns whenever it is tried, one always fails, and one kills its worker twice.

Which chunks a worker has in one unit depends on its speed, and what was said in a unit goes under with its worker.
"""


@flow
def talking(work: FakeWork, ledger: Ledger) -> str:
    forward_logs()
    with (
        connect(ClusterSpec(1, 1, 1 << 30)) as client,
        closing(Dispatcher(client, work, ledger, retries=2, label=lambda chunk: f"0/{chunk}")) as dispatcher,
    ):
        dispatcher.process(range(CHUNKS))
    return flow_run.get_id()


def test_a_warning_a_failure_a_retry_and_a_death_are_in_the_log_of_the_run(server, tmp_path):
    work = FakeWork(tmp_path / "out.zarr", (40, 40), (8, 8), name="talking", plan=PLAN)
    work.create()
    ledger = Ledger(tmp_path / "journal", CHUNKS, epoch=1)
    ours = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[uuid.UUID(talking(work, ledger))]))
    assert (ledger.counts()["done"], list(ledger.failures)) == (CHUNKS - 1, [5])
    ledger.close()

    with get_client(sync_client=True) as client:

        def lines():
            found = [x.message for x in client.read_logs(log_filter=ours) if x.name == "overtile"]
            return found if any("attempt 2 failed" in line for line in found) else []

        found = wait_until(lines, 60)
    warned = re.compile(r"chunk 0/2, attempt \d, on [\w-]+: UserWarning: odd tag in chunk 2")
    assert any(warned.fullmatch(line) for line in found)
    failures = [line for line in found if line.startswith("chunk 0/5")]
    assert failures[0].startswith("chunk 0/5, attempt 1 failed, trying again alone: ValueError: planned failure")
    assert failures[1].startswith("chunk 0/5, attempt 2 failed: ValueError: planned failure")
    assert any(line.startswith("a worker died in the middle of ") and "(attempt 1)" in line for line in found)
