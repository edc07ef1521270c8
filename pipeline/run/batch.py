"""One caller's chunks on their way through the cluster."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import numpy.typing as npt
from distributed import Future, KilledWorker

from pipeline.run.agenda import Agenda
from pipeline.run.attempt import describe
from pipeline.run.faults import Cause
from pipeline.run.flight import DEADLINE_EXCEEDED, KILLED, Flight, ran_over
from pipeline.run.records import DONE, FAILED, Record
from pipeline.run.shared import Shared
from pipeline.run.watch import Start
from pipeline.run.worker import Unit, UnitResult, run_unit

LOOK = 0.5
"""Seconds between two looks at what is overdue, and at whether the run was stopped."""

CLOSED = ("closing", "closed")
"""States of a Dask client that answers no more."""

FETCH = (5.0, 60.0)
"""Seconds in which a worker should hand over what it says of a unit: as long as a chunk may take, but within these."""


class Batch:
    """Takes chunks through the cluster until each is done or failed.

    Args:
        shared: what it shares with other batches of the run.
        chunks: numbers of the chunks.
        retries: further tries, see :class:`pipeline.run.agenda.Agenda`.

    Attributes:
        tried: chunks that were tried.
    """

    def __init__(self, shared: Shared, chunks: npt.NDArray[np.intp], retries: int) -> None:
        self._shared = shared
        self._agenda = Agenda(chunks, retries)
        self._in_flight: dict[str, Flight] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._looked = time.monotonic()
        self._away = 0.0
        self._failed: set[int] = set()
        self.tried = 0

    def run(self) -> None:
        """Return when each chunk is done or failed, or the run was stopped.

        Raises:
            EnvironmentFaultError: the machine, the cluster or the store cannot go on.
        """
        try:
            self._together()
            while not self._shared.stopped.is_set() and (chunk := self._agenda.take_alone()) is not None:
                with self._shared.gate.alone():
                    self._by_itself(chunk)
                self._together()
        except BaseException:
            self._shared.stopped.set()
            raise
        finally:
            self._let_go()
        self._shared.check()

    def _let_go(self) -> None:
        """Take back what is in flight; what failed and would have been tried again is pending, not failed."""
        for key in list(self._in_flight):
            self._put_back(self._take_back(key))
        with contextlib.suppress(Exception):  # where the ledger cannot be written, that is what is raised already
            self._shared.ledger.requeue(self._agenda.unfinished(), "the run stopped before it was tried again")

    def _together(self) -> None:
        """Keep a bounded number of units in flight until none is left."""
        while True:
            self._hand_out()
            if self._in_flight:
                self._wait()
            elif self._shared.stopped.is_set():
                return
            elif self._agenda.waiting():
                self._shared.gate.wait_open()
            elif (pause := self._agenda.pause()) is not None:
                self._shared.stopped.wait(pause)
            elif not self._agenda.begin_last():
                return

    def _by_itself(self, chunk: int) -> None:
        """Try one chunk with nothing beside it, in little memory."""
        if not self._shared.stopped.is_set():
            self._submit([chunk], alone=True)
        while self._in_flight:
            self._wait()

    def _hand_out(self) -> None:
        window = self._shared.pace.window(self._shared.callers)
        while not self._shared.stopped.is_set() and len(self._in_flight) < window:
            waiting = self._agenda.waiting()
            if not waiting or not self._shared.gate.enter():
                return
            try:
                self._submit(self._agenda.take(self._shared.pace.unit(waiting)), alone=False)
            except BaseException:
                self._shared.gate.leave()
                raise

    def _submit(self, chunks: Sequence[int], *, alone: bool) -> None:
        attempts = self._shared.ledger.attempts
        unit = Unit(tuple((chunk, attempts(chunk) + 1) for chunk in chunks), lean=alone)
        workers = self._shared.watch.usable()
        future = self._shared.client.submit(run_unit, self._shared.plugin, unit, pure=False, workers=workers)
        self._in_flight[str(future.key)] = Flight(future, unit, alone, time.monotonic(), self._away)
        future.add_done_callback(lambda ended: self._ended.put(str(ended.key)))

    def _wait(self) -> None:
        """Take in the next unit that ends; look after the others meanwhile."""
        # What is due and was not handed out waits for room: for a unit that ends.
        pause = min(LOOK, self._agenda.pause() or LOOK)
        try:
            key = self._ended.get(timeout=pause)
        except queue.Empty:
            pass
        else:
            self._finish(key)
        gap = time.monotonic() - self._looked
        if gap >= LOOK:
            # A driver that was itself stopped or held up must not blame its workers.
            self._away += max(0.0, gap - 2 * LOOK)
            self._looked = time.monotonic()
            self._look_after()

    def _look_after(self) -> None:
        """Take back what was not begun and must not be; end what is overdue."""
        watch, stopped = self._shared.watch, self._shared.stopped.is_set()
        if self._shared.client.status in CLOSED:
            self._shared.lose("the connection to the Dask scheduler was closed")
            for key in list(self._in_flight):
                self._put_back(self._take_back(key))
            return
        for key, flight in list(self._in_flight.items()):
            self._tell_moved(key, flight)
            if watch.begun(key) is None:
                if stopped or flight.since < watch.shunned_at:
                    self._put_back(self._take_back(key))
                continue
            excused = self._away - flight.away
            start = watch.overdue(key, len(flight.chunks), excused=excused)
            if start is not None and not flight.future.done():
                self._hung(self._take_back(key), start)

    def _tell_moved(self, key: str, flight: Flight) -> None:
        if (worker := self._shared.watch.moved(key)) is not None:
            self._shared.voice.moved(worker, flight.unit.chunks)

    def _take_back(self, key: str) -> Flight:
        """Let go of a unit, whether it has ended or not."""
        flight = self._in_flight.pop(key)
        self._tell_moved(key, flight)
        self._shared.watch.forget(key)
        if not flight.alone:
            self._shared.gate.leave()
        with contextlib.suppress(Exception):  # the cluster is gone, and the unit with it
            flight.future.release() if flight.future.done() else flight.future.cancel()
        return flight

    def _finish(self, key: str) -> None:
        """Take in what became of a unit: records to the ledger, failures back into the agenda."""
        if key not in self._in_flight:
            return
        start, future = self._shared.watch.begun(key), self._in_flight[key].future
        try:
            result = self._fetch(future)
        except KilledWorker as error:
            self._died(self._take_back(key), error)
        except CancelledError as error:
            self._put_back(self._take_back(key))
            self._shared.lose(f"the Dask scheduler ended, or lost a unit ({describe(error)})")
        except TimeoutError:
            self._put_back(self._take_back(key))
            if start is not None:
                self._shared.watch.replace(start)
        except Exception as error:
            self._put_back(self._take_back(key))
            self._shared.lose(f"a worker could not run a unit: {describe(error)}")
        else:
            self._take(self._take_back(key), result, start)

    def _fetch(self, future: Future[Any]) -> UnitResult:
        """Fetch what a unit that has ended gave; a client that is closed meanwhile never answers.

        Raises:
            TimeoutError: it does not come.
            CancelledError: the client was closed.
        """
        until = time.monotonic() + min(FETCH[1], max(FETCH[0], self._shared.watch.limit()))
        while True:
            asked = time.monotonic()
            try:
                result: UnitResult = future.result(timeout=min(LOOK, max(0.0, until - asked)))
                return result
            except TimeoutError:
                if self._shared.client.status in CLOSED:
                    raise CancelledError("the connection to the Dask scheduler was closed") from None
                now = time.monotonic()
                if now >= until or now - asked < LOOK / 2:  # the latter: it is the answer that is a TimeoutError
                    raise

    def _take(self, flight: Flight, result: UnitResult, start: Start | None) -> None:
        self._shared.pace.note(result.records)
        self._shared.watch.note(result.slowest)
        self._shared.voice.heard(result.messages)
        if result.fault:
            self._shared.fail(result.fault)
        # What a faulty machine says of a chunk is no failure of the chunk.
        records = [r for r in result.records if result.causes.get(r.chunk) is not Cause.ENVIRONMENT]
        self._record(records, result.causes)
        self._put_back(flight, except_for=[r.chunk for r in records])
        if flight.alone and [r.state for r in records] == [DONE]:
            self._shared.voice.done_alone(records[0])
        if result.lost:
            self._shared.watch.replace(Start(result.lost, False, start.at if start else flight.since))
        self._shared.on_progress()

    def _put_back(self, flight: Flight, except_for: Sequence[int] = ()) -> None:
        """Let what was not tried be tried later, as it would have been."""
        untried = [chunk for chunk in flight.chunks if chunk not in except_for]
        if flight.alone:
            self._agenda.suspect(untried)
        else:
            self._agenda.put_back(untried)

    def _record(self, records: Sequence[Record], causes: Mapping[int, Cause]) -> None:
        """Take records in; a failure without a cause is final."""
        self._shared.ledger.append(records)
        for record in records:
            self.tried += record.chunk not in self._failed
            if record.state == DONE:
                self._shared.chunk_done()
                continue
            self._failed.add(record.chunk)
            cause = causes.get(record.chunk)
            again = None if cause is None else self._agenda.again(record.chunk, cause)
            self._shared.voice.failed(record, again)
            if cause is Cause.STORE and again is None:
                self._shared.failed_by_store(record.chunk, record.error or "")

    def _died(self, flight: Flight, error: KilledWorker) -> None:
        """Blame a chunk only when it was alone; otherwise its unit is suspect."""
        if flight.alone:
            self._fail(flight, KILLED, type(error).__name__)
        else:
            self._shared.voice.died(flight.unit.chunks)
            self._agenda.suspect(flight.chunks)

    def _hung(self, flight: Flight, start: Start) -> None:
        """End what takes too long; blame a chunk only when it was alone, or its worker cannot be replaced."""
        watch = self._shared.watch
        limit, replaced = watch.limit(), watch.replace(start)
        if flight.alone or (len(flight.chunks) == 1 and not replaced):
            self._fail(flight, ran_over(limit, alone=flight.alone, replaced=replaced), DEADLINE_EXCEEDED)
        else:
            self._shared.voice.overran(flight.unit.chunks, limit)
            self._agenda.suspect(flight.chunks)

    def _fail(self, flight: Flight, error: str, kind: str) -> None:
        ((chunk, attempt),) = flight.unit.chunks
        self._record([Record(chunk, FAILED, attempt, error=error, kind=kind)], {})
        self._shared.on_progress()
