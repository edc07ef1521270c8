"""What all callers of one dispatcher share: the cluster, the ledger, and whether the run goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from distributed import Client

from pipeline.errors import EnvironmentFaultError
from pipeline.run.gate import Gate
from pipeline.run.ledger import Ledger
from pipeline.run.pace import Pace
from pipeline.run.voice import Voice
from pipeline.run.watch import Watch

STORE_FAILURES = 5
"""Chunks that fail by the store in a row before it counts as not answering."""


@dataclass(slots=True)
class Shared:
    """What the callers of one dispatcher share.

    Attributes:
        client: of the cluster.
        ledger: of the run.
        plugin: name of the run's plugin on the workers.
        gate: keeps others away from what is tried alone.
        pace: size and number of units.
        watch: knows what is begun.
        callers: threads that call at a time.
        on_progress: called when chunks have come in.
        voice: says what happens to chunks.
        stopped: no more units are handed out.
    """

    client: Client
    ledger: Ledger
    plugin: str
    gate: Gate
    pace: Pace
    watch: Watch
    callers: int
    on_progress: Callable[[], None]
    voice: Voice = field(default_factory=Voice)
    stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _fault: str | None = None
    _by_store: list[int] = field(default_factory=list)
    _store_down: bool = False

    def fail(self, fault: str) -> None:
        """Stop the run: the machine, the cluster or the store cannot go on."""
        with self._lock:
            self._fault = self._fault or fault
        self.stopped.set()

    def lose(self, what: str) -> None:
        """Stop the run as the cluster was lost; after a stop that is how it ends, and no fault."""
        if not self.stopped.is_set():
            self.fail(what)

    def check(self) -> None:
        """Raise EnvironmentFaultError if the run was stopped by a fault, whoever met it."""
        if self._fault:
            raise EnvironmentFaultError(f"stopped: {self._fault}. What is done is kept; run again to resume")

    def chunk_done(self) -> None:
        """Take in that a chunk was done: the store answers."""
        if self._by_store:
            with self._lock:
                self._by_store.clear()

    def failed_by_store(self, chunk: int, error: str) -> None:
        """Take in that a chunk failed finally by the store; after a few in a row that is no fault of theirs."""
        with self._lock:
            self._by_store.append(chunk)
            self._store_down = self._store_down or len(self._by_store) >= STORE_FAILURES
            if not self._store_down:
                return
            chunks, self._by_store = self._by_store, []
        self.ledger.requeue(chunks, "the store did not answer")
        self.fail(f"the store does not answer; {STORE_FAILURES} chunks in a row failed by it, the last: {error}")
