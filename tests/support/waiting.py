"""Wait for something that another thread or process does: as short as it takes, and never for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(condition: Callable[[], Found], seconds: float = 30.0, *, every: float = 0.02) -> Found:
    """Return the first true value that ``condition`` gives, asked every so many seconds; fail after ``seconds``."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still not so after {seconds} s: {condition}"
        pause.wait(every)
    return found
