"""A gate that lets many through at once, or one alone: suspects are retried with nothing beside them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Counts what is in flight; :meth:`alone` waits until nothing is and keeps the others out."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._in_flight = 0
        self._alone = False

    def enter(self) -> bool:
        """Count one more in flight, if the gate is open."""
        with self._changed:
            if self._alone:
                return False
            self._in_flight += 1
            return True

    def leave(self) -> None:
        """Count one less in flight."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def wait_open(self) -> None:
        """Wait until the gate is open."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the gate shut to others until the block ends; what is in flight is waited for first."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._in_flight == 0)
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
