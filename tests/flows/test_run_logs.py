import logging
import uuid

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from waiting import wait_until

from flows.logs import RunLog, forward_logs, log


def test_there_is_one_handler_however_often_flows_begin():
    for _ in range(3):
        forward_logs()
    assert sum(isinstance(handler, APILogHandler) for handler in log.handlers) == 1


def test_outside_of_a_run_nothing_is_sent():
    RunLog().handle(logging.makeLogRecord({"msg": "into the void"}))


@pytest.mark.slow
def test_a_run_gets_the_lines_of_the_pipeline_up_to_a_limit(server):
    logger = logging.getLogger("overtile.test")
    logger.addHandler(RunLog(limit=5))
    logger.propagate = False

    @flow
    def chatty() -> str:
        for number in range(20):
            logger.warning("chunk %d, attempt 1 failed", number)
        return flow_run.get_id()

    ours = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[uuid.UUID(chatty())]))
    with get_client(sync_client=True) as client:
        lines = wait_until(lambda: [x.message for x in client.read_logs(log_filter=ours) if x.name == logger.name])
    assert lines[:4] == [f"chunk {number}, attempt 1 failed" for number in range(4)]
    assert lines[4:] == ["5 lines of this run are enough, no more are sent; `overtile status` knows all failures"]
