"""Brings what the pipeline logs into the log of the flow or task run that it happens in."""

from __future__ import annotations

import logging
from collections import Counter

from prefect.context import get_run_context
from prefect.exceptions import MissingContextError
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run

from flows.redact import Redaction, redact_logs

log = logging.getLogger("overtile")

LINES = 1000
"""Lines of a flow run at most: a million chunks that fail must not become a million rows of the server's."""


class RunLog(APILogHandler):
    """Sends records to the run that they come from; outside of a run it does nothing.

    The console needs no handler: Prefect's own, at the root, prints what is passed up to it.
    """

    def __init__(self, limit: int = LINES) -> None:
        super().__init__()
        self.addFilter(Redaction())
        self._limit = limit
        self._lines: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, if the calling thread belongs to a run that has not said too much yet."""
        try:
            get_run_context()
        except MissingContextError:
            return
        run = str(flow_run.get_id())
        self._lines[run] += 1
        if self._lines[run] == self._limit:
            text = f"{self._limit} lines of this run are enough, no more are sent; `overtile status` knows all failures"
            record = logging.makeLogRecord(record.__dict__ | {"msg": text, "args": ()})
        if self._lines[run] <= self._limit:
            super().emit(record)


def forward_logs() -> None:
    """See to it that the logger ``overtile`` reaches the runs' logs, from Prefect's own level on.

    May be called by every flow: there is one handler a process, and none where ``PREFECT_LOGGING_EXTRA_LOGGERS``
    has put Prefect's own there already. Secrets are hidden in all of it, and in what Prefect says of the runs.
    """
    redact_logs()
    if log.level == logging.NOTSET:
        log.setLevel(logging.getLogger("prefect").getEffectiveLevel())
    handlers = [handler for handler in log.handlers if isinstance(handler, APILogHandler)]
    if not handlers:
        log.addHandler(RunLog())
    for handler in handlers:
        if not any(isinstance(each, Redaction) for each in handler.filters):
            handler.addFilter(Redaction())
