"""Who has begun what, how long it may take, and how a worker that hangs is replaced.

Workers tell when they begin a unit, so that the time that it waits in a queue does not count. One that does not come
back in time is killed and started anew by its nanny (SIGKILL, which ends a stopped process too). Where a worker has no
nanny, on a cluster that is not ours, nothing more is given to it.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from distributed import Client

from pipeline.errors import EnvironmentFaultError
from pipeline.run.worker import Begun

log = logging.getLogger("overtile")

LEAST_DEADLINE = 600.0
"""Seconds that a chunk may always take where no deadline was given."""

SLOWEST = 20.0
"""Where no deadline was given, a chunk may take this many times what the slowest one took."""

OPENING = 600.0
"""Seconds that opening the work may take at least: the network is loaded, on a cold disk."""

RESTART = 60.0
"""Seconds in which a worker should be replaced."""


@dataclass(frozen=True, slots=True)
class Start:
    """When a worker began a unit.

    Attributes:
        worker: its address.
        opening: it opens the work first.
        at: when this was heard, by the monotonic clock.
    """

    worker: str
    opening: bool
    at: float


class Watch:
    """Watches one run's units on one cluster; shared by the callers' threads.

    Args:
        client: of the cluster.
        topic: what the workers tell it under.
        deadline: seconds that a chunk may take; None takes many times what the slowest one took.

    Attributes:
        shunned_at: when a worker was last given up that could not be replaced, by the monotonic clock.
    """

    def __init__(self, client: Client, topic: str, deadline: float | None) -> None:
        self._client = client
        self._topic = topic
        self._deadline = deadline
        self._slowest = 0.0
        self._starts: dict[str, Start] = {}
        self._moved: dict[str, str] = {}
        self._lock = threading.Lock()
        self._replaced: dict[str, float] = {}
        self._shunned: set[str] = set()
        self.shunned_at = float("-inf")
        client.subscribe_topic(topic, self._hear)

    def close(self) -> None:
        """Listen no more."""
        self._client.unsubscribe_topic(self._topic)

    def _hear(self, event: tuple[float, tuple[str, str, bool]]) -> None:
        begun = Begun(*event[1])
        before = self._starts.get(begun.key)
        if before is not None and before.worker != begun.worker:
            self._moved[begun.key] = before.worker
        self._starts[begun.key] = Start(begun.worker, begun.opening, time.monotonic())

    def begun(self, key: str) -> Start | None:
        """Return when and where a unit was begun last; None if it was not."""
        return self._starts.get(key)

    def moved(self, key: str) -> str | None:
        """Return, once, the worker that had begun a unit before another one did; None if there is none."""
        return self._moved.pop(key, None)

    def forget(self, key: str) -> None:
        """Forget a unit that has ended."""
        self._starts.pop(key, None)
        self._moved.pop(key, None)

    def note(self, slowest: float) -> None:
        """Take in the most seconds that a chunk took."""
        self._slowest = max(self._slowest, slowest)

    def limit(self) -> float:
        """Return the seconds that a chunk may take."""
        return self._deadline or max(LEAST_DEADLINE, SLOWEST * self._slowest)

    def overdue(self, key: str, chunks: int, *, excused: float = 0.0) -> Start | None:
        """Return where a unit hangs that has had more than its time; None otherwise.

        Args:
            key: of the unit.
            chunks: chunks in it.
            excused: seconds that do not count.
        """
        start = self._starts.get(key)
        if start is None:
            return None
        allowed = self.limit() * chunks
        if start.opening:
            allowed = max(allowed, OPENING)
        if time.monotonic() - start.at - excused <= allowed:
            return None
        if self._left(start.worker):
            self.forget(key)
            return None
        return start

    def _left(self, worker: str) -> bool:
        """Whether a worker has left the cluster: what it had begun waits for another one, which is no fault of it."""
        try:
            return worker not in self._client.nthreads()
        except OSError:  # the scheduler does not answer: what that means is found out elsewhere
            return False

    def replace(self, start: Start) -> bool:
        """Replace the worker that began a unit; False if it cannot be, and gets nothing more.

        A worker that was replaced since then is left alone.
        """
        with self._lock:
            if self._replaced.get(start.worker, float("-inf")) >= start.at:
                return start.worker not in self._shunned
            try:
                self._client.restart_workers([start.worker], timeout=RESTART, raise_for_error=False)
            except KeyError:  # it is gone already
                pass
            except OSError as error:
                log.warning("the worker %s could not be replaced: %s", start.worker, error)
            except ValueError:
                log.warning("the worker %s is stuck and has no nanny to replace it; restart it", start.worker)
                self._shunned.add(start.worker)
                self.shunned_at = time.monotonic()
            else:
                log.warning("the worker %s was replaced", start.worker)
            self._replaced[start.worker] = time.monotonic()
            return start.worker not in self._shunned

    def usable(self) -> list[str] | None:
        """Return the workers that units may be given to; None for all.

        Raises:
            EnvironmentFaultError: none is left.
        """
        if not self._shunned:
            return None
        left = [address for address in self._client.nthreads() if address not in self._shunned]
        if not left:
            raise EnvironmentFaultError(
                f"stopped: all {len(self._shunned)} worker(s) are stuck, and none has a nanny to replace it; restart"
                " them. What is done is kept; run again to resume"
            )
        return left
