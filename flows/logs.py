"""Brings what the pipeline logs into the log of the flow or task run that it happens in."""

from __future__ import annotations

import logging

from prefect.exceptions import MissingContextError
from prefect.context import get_run_context
from prefect.logging.handlers import APILogHandler

log = logging.getLogger("overtile")


class RunLog(APILogHandler):
    """Sends records to the run that they come from; outside of a run it does nothing.

    The console needs no handler: Prefect's own, at the root, prints what is passed up to it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, if the calling thread belongs to a run."""
        try:
            get_run_context()
        except MissingContextError:
            return
        super().emit(record)


def forward_logs() -> None:
    """See to it that the logger ``overtile`` reaches the runs' logs, from INFO on unless it has a level of its own.

    May be called by every flow: there is one handler a process, and none where ``PREFECT_LOGGING_EXTRA_LOGGERS``
    has put Prefect's own there already.
    """
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
    if not any(isinstance(handler, APILogHandler) for handler in log.handlers):
        log.addHandler(RunLog())
