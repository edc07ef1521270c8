"""Dispatch: what the ledger lacks, as units of neighbouring chunks, a bounded number at a time, to Dask.

Dask never learns of more units than the workers can have in hand twice over, so a million chunks cost it no more
than a hundred. A chunk that fails is tried again; a unit whose worker died is suspect, and its chunks are tried
one by one with nothing beside them, so that no innocent chunk is blamed. The driver alone writes the ledger.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from distributed import Client, Future, KilledWorker, as_completed

from pipeline.errors import EnvironmentFaultError
from pipeline.run.cluster import slots
from pipeline.run.gate import Gate
from pipeline.run.ledger import Ledger
from pipeline.run.records import FAILED, Record
from pipeline.run.work import Work
from pipeline.run.worker import UnitResult, WorkPlugin, run_unit

log = logging.getLogger("overtile")

UNIT_SECONDS = 5.0
"""Work that a unit should hold: long beside Dask's cost of a few milliseconds, short to lose or to cancel."""

UNIT_CHUNKS = 256
"""Chunks that a unit may hold at most."""

Attempts = tuple[tuple[int, int], ...]
"""Chunks of a unit, each with the number of the attempt."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the chunks of one call.

    Attributes:
        processed: chunks that the ledger lacked and that were tried.
        failed: those of them that are failed now.
    """

    processed: int
    failed: tuple[int, ...]


class Dispatcher:
    """Runs one work's chunks on one cluster; may be called from several threads, one range of chunks each."""

    def __init__(
        self,
        client: Client,
        work: Work,
        ledger: Ledger,
        *,
        retries: int,
        callers: int = 1,
        on_progress: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._retries = retries
        self._callers = callers
        self._on_progress = on_progress or (lambda: None)
        self._gate = Gate()
        self._pace = _Pace(client)
        self._stopped = threading.Event()
        plugin = WorkPlugin(work)
        self._plugin = plugin.name
        client.register_plugin(plugin)

    def close(self) -> None:
        """Take the work off the workers, which may belong to somebody else's cluster and live on."""
        self.stop()
        try:
            self._client.unregister_worker_plugin(self._plugin)
        except Exception as error:  # the cluster is going or gone, and the work with it
            log.debug("the work stays on the workers: %s", error)

    def stop(self) -> None:
        """Hand out no more units; calls in progress end when what is in flight has ended."""
        self._stopped.set()

    def process(self, chunks: range) -> Outcome:
        """Process what the ledger lacks of a range of chunks; return when each is done or failed.

        Raises:
            EnvironmentFaultError: the machine cannot go on; the run can be resumed.
        """
        return self.process_listed([int(c) for c in self._ledger.lacking(chunks)])

    def process_listed(self, chunks: list[int]) -> Outcome:
        """Process the given chunks, each once, whatever their state."""
        chunks = list(dict.fromkeys(chunks))
        batch = _Batch(self, chunks)
        batch.run()
        failed = tuple(c for c in chunks if self._ledger.state(c) == FAILED)
        return Outcome(len(chunks), failed)


class _Pace:
    """How many units to have in flight, and how many chunks to put in one: measured while the run goes on."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._slots = max(1, slots(client))
        self._looked = time.monotonic()
        self._seconds = 0.0
        self._chunks = 0

    def slots(self) -> int:
        with self._lock:
            if time.monotonic() - self._looked > 10:
                self._slots = max(1, slots(self._client))
                self._looked = time.monotonic()
            return self._slots

    def note(self, records: tuple[Record, ...]) -> None:
        with self._lock:
            self._chunks += len(records)
            self._seconds += sum(sum(r.done.seconds) for r in records)

    def unit(self, left: int) -> int:
        """Return how many chunks the next unit should hold, when ``left`` wait for one."""
        if self._chunks == 0:
            return 1
        wanted = UNIT_SECONDS / max(self._seconds / self._chunks, 1e-6)
        fair = left / (2 * self.slots())
        return max(1, min(int(wanted), int(fair), UNIT_CHUNKS))


class _Batch:
    """One caller's chunks on their way through the cluster."""

    def __init__(self, owner: Dispatcher, chunks: list[int]) -> None:
        self._owner = owner
        self._waiting = deque((c, owner._ledger.attempts(c) + 1) for c in chunks)
        self._tries = dict.fromkeys(chunks, 0)
        self._suspects: deque[tuple[int, int]] = deque()
        self._in_flight: dict[object, Attempts] = {}
        self._fault: str | None = None

    def run(self) -> None:
        try:
            self._together()
            while self._suspects and not self._owner._stopped.is_set():
                with self._owner._gate.alone():
                    chunk = self._suspects.popleft()
                    self._finish(self._submit((chunk,)), (chunk,), alone=True)
                self._together()
        finally:
            for _ in range(len(self._in_flight)):
                self._owner._gate.leave()
        if self._fault:
            raise EnvironmentFaultError(f"stopped: {self._fault}. What is done is kept; run again to resume")

    def _together(self) -> None:
        """Keep a bounded number of units in flight until none is left."""
        completed = as_completed(loop=self._owner._client.loop)
        while True:
            window = max(2, -(-2 * self._owner._pace.slots() // self._owner._callers))
            while self._waiting and len(self._in_flight) < window and not self._owner._stopped.is_set():
                if not self._owner._gate.enter():
                    break
                unit = self._next_unit()
                future = self._submit(unit)
                self._in_flight[future.key] = unit
                completed.add(future)
            if self._in_flight:
                future = next(completed)
                self._finish(future, self._in_flight.pop(future.key), alone=False)
                self._owner._gate.leave()
            elif self._waiting and not self._owner._stopped.is_set():
                self._owner._gate.wait_open()
            else:
                return

    def _next_unit(self) -> Attempts:
        size = self._owner._pace.unit(len(self._waiting))
        return tuple(self._waiting.popleft() for _ in range(min(size, len(self._waiting))))

    def _submit(self, unit: Attempts) -> Future[UnitResult]:
        return self._owner._client.submit(run_unit, self._owner._plugin, unit, pure=False, key=None)

    def _finish(self, future: Future[UnitResult], unit: Attempts, *, alone: bool) -> None:
        """Take in what became of a unit: records to the ledger, failures back into the queue."""
        try:
            result = future.result()
        except KilledWorker as error:
            self._worker_died(unit, error, alone=alone)
            result = UnitResult(())
        finally:
            future.release()
        self._owner._pace.note(result.records)
        if result.fault:
            self._fault = self._fault or result.fault
            self._owner.stop()
        # What a faulty machine says of a chunk is no failure of the chunk.
        self._take([r for r in result.records if not (r.state == FAILED and result.fault)])
        self._owner._on_progress()

    def _take(self, records: list[Record]) -> None:
        self._owner._ledger.append(records)
        for record in records:
            self._tries[record.chunk] += 1
            if record.state == FAILED:
                again = self._tries[record.chunk] <= self._owner._retries
                log.warning(
                    "chunk %d, attempt %d failed%s: %s",
                    record.chunk,
                    record.attempt,
                    ", trying again" if again else "",
                    record.error,
                )
                if again:
                    self._waiting.append((record.chunk, record.attempt + 1))

    def _worker_died(self, unit: Attempts, error: KilledWorker, *, alone: bool) -> None:
        """Blame a chunk only when it was alone; otherwise its unit is suspect."""
        if not alone:
            log.warning("a worker died with %d chunk(s) in hand; they are tried alone", len(unit))
            self._suspects.extend(unit)
            return
        text = "the worker process died while it worked on this chunk alone (out of memory, or a crash in the network)"
        chunk, attempt = unit[0]
        self._tries[chunk] = self._owner._retries  # it has killed workers enough
        self._take([Record(chunk, FAILED, attempt, error=text, kind=type(error).__name__)])
