"""Lightning without its talk: no lines about devices, no tips, and Ctrl+C as everywhere else."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities.exceptions import SIGTERMException

TERMINATED = 128 + signal.SIGTERM
"""Exit code of a process that SIGTERM has ended."""

_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's log lines and warnings below errors, and pass Ctrl+C on, while a trainer works.

    Lightning answers KeyboardInterrupt by ignoring further ones for good and leaving with exit code 1; here it is
    raised again, with the signal's handler as it was. And it answers SIGTERM by leaving with exit code 0.

    Raises:
        KeyboardInterrupt: Lightning was interrupted.
        SystemExit: the process was told to end, with the code that shells give that.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    handler = signal.getsignal(signal.SIGINT)
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    except SystemExit as left:
        if isinstance(left.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from left
        if isinstance(left, SIGTERMException):
            raise SystemExit(TERMINATED) from left
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
