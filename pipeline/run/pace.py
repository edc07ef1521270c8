"""How many units to have in flight, and how many chunks to put in one: measured while the run goes on."""

from __future__ import annotations

import threading
import time

from distributed import Client

from pipeline.run.cluster import slots
from pipeline.run.records import Record

UNIT_SECONDS = 5.0
"""Work that a unit should hold: long beside Dask's cost of a few milliseconds, short to lose or to cancel."""

LOOK_AGAIN = 10.0
"""Seconds after which the cluster is asked for its size again."""


class Pace:
    """The pace of one run on one cluster; shared by the callers' threads.

    Args:
        client: of the cluster.
        most: chunks that a unit may hold.
    """

    def __init__(self, client: Client, *, most: int) -> None:
        self._client = client
        self._most = most
        self._lock = threading.Lock()
        self._slots = max(1, slots(client))
        self._looked = time.monotonic()
        self._seconds = 0.0
        self._chunks = 0

    def window(self, callers: int) -> int:
        """Return how many units one of so many callers may have in flight: twice what the workers can have in hand."""
        return max(2, -(-2 * self.slots() // callers))

    def slots(self) -> int:
        """Return how many units the cluster can have in hand."""
        with self._lock:
            if time.monotonic() - self._looked > LOOK_AGAIN:
                self._slots = max(1, slots(self._client))
                self._looked = time.monotonic()
            return self._slots

    def note(self, records: tuple[Record, ...]) -> None:
        """Take in how long chunks took."""
        with self._lock:
            self._chunks += len(records)
            self._seconds += sum(sum(r.done.seconds) for r in records)

    def unit(self, left: int) -> int:
        """Return how many chunks the next unit should hold, when ``left`` wait for one."""
        if self._chunks == 0:
            return 1
        wanted = UNIT_SECONDS / max(self._seconds / self._chunks, 1e-6)
        fair = left / (2 * self.slots())
        return max(1, min(int(wanted), int(fair), self._most))
