"""Which chunk is tried when: fresh ones, those that wait a while, those that come last, and those that go alone."""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from pipeline.run.faults import Cause

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds before the second try after a store's failure, doubled each time up to the longest."""

SPREAD = 0.25
"""Each wait is longer or shorter by up to this share, so that chunks that failed together do not come together."""


class Agenda:
    """The chunks of one caller until each is done or failed; a million of them cost eight bytes each.

    Args:
        chunks: their numbers.
        retries: further tries after failures of a store; 0 allows no second try after any failure.
        clock: seconds of a monotonic clock.
        chance: draws a number from 0 to 1.
    """

    def __init__(
        self,
        chunks: npt.NDArray[np.intp],
        retries: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._fresh = chunks
        self._next = 0
        self._retries = retries
        self._clock = clock
        self._chance = chance
        self._ready: deque[int] = deque()
        self._later: list[tuple[float, int]] = []
        self._last: list[int] = []
        self._alone: deque[int] = deque()
        self._failures: Counter[tuple[int, Cause]] = Counter()

    def waiting(self) -> int:
        """Return how many chunks could be taken now."""
        while self._later and self._later[0][0] <= self._clock():
            self._ready.append(heapq.heappop(self._later)[1])
        return len(self._ready) + len(self._fresh) - self._next

    def take(self, most: int) -> list[int]:
        """Return the next chunks: those that are tried again before fresh ones."""
        taken = [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
        stop = min(len(self._fresh), self._next + most - len(taken))
        taken += self._fresh[self._next : stop].tolist()
        self._next = stop
        return taken

    def take_alone(self) -> int | None:
        """Return the next chunk that is tried with nothing beside it."""
        return self._alone.popleft() if self._alone else None

    def pause(self) -> float | None:
        """Return the seconds until a chunk can be taken that waits for its time; None where none does."""
        return max(0.0, self._later[0][0] - self._clock()) if self._later else None

    def begin_last(self) -> bool:
        """Let those that were put after the others be taken; False where there are none."""
        found = bool(self._last)
        self._ready.extend(self._last)
        self._last.clear()
        return found

    def put_back(self, chunks: Iterable[int]) -> None:
        """Let chunks be taken again that were not tried."""
        self._ready.extend(chunks)

    def suspect(self, chunks: Iterable[int]) -> None:
        """Let chunks be tried alone, one of which may have taken its worker with it; none of them has failed."""
        self._alone.extend(chunks)

    def unfinished(self) -> list[int]:
        """Return the chunks that have failed and would be tried again."""
        waiting = {*self._ready, *self._last, *self._alone, *(chunk for _, chunk in self._later)}
        return sorted(waiting & {chunk for chunk, _ in self._failures})

    def again(self, chunk: int, cause: Cause) -> str | None:
        """Settle whether a chunk that failed is tried again; return in words how, None if it is not."""
        self._failures[chunk, cause] += 1
        failures = self._failures[chunk, cause]
        if failures > (self._retries if cause is Cause.STORE else min(1, self._retries)):
            return None
        if cause is Cause.STORE:
            wait = self._wait(failures)
            heapq.heappush(self._later, (self._clock() + wait, chunk))
            return f"trying again in {wait:.1f} s"
        if cause is Cause.INPUT:
            self._last.append(chunk)
            return "trying again after the others"
        self._alone.append(chunk)
        return "trying again alone"

    def _wait(self, failures: int) -> float:
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (failures - 1))
        return wait * (1 + SPREAD * (2 * self._chance() - 1))
