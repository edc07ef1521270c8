"""Chunks in threads of this process, on the same ledger as those on a cluster: for work that needs none.

Nothing is started but threads, so that a small run costs no more than its work. A chunk that fails is tried again as
on a cluster (see :mod:`pipeline.run.faults`); where it fails finally the run stops, because what is run here is of no
use with a hole in it::

    refused by an InputError     the run stops at once: the same settings would fail for ever
    machine or store             the run stops; the chunk is pending, as if it had not been tried
    anything else, finally       the run stops; the chunk is failed, and the ledger says why
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from pipeline.errors import EnvironmentFaultError, InputError
from pipeline.run.agenda import Agenda
from pipeline.run.attempt import Attempt, attempt
from pipeline.run.faults import Cause
from pipeline.run.ledger import Ledger
from pipeline.run.records import FAILED, Done, Record
from pipeline.run.work import Processor

log = logging.getLogger("overtile")


class Inline:
    """Takes what a ledger lacks through one processor, a bounded number of chunks at a time.

    Args:
        processor: the opened work.
        ledger: what has been done; it takes in what is.
        at_once: chunks in flight at most, so that memory is bounded.
        retries: further tries, see :class:`pipeline.run.agenda.Agenda`.
        on_done: told of each chunk that is done and what it gave, in the calling thread.
        label: what messages call a chunk, by its number.
    """

    def __init__(
        self,
        processor: Processor,
        ledger: Ledger,
        *,
        at_once: int,
        retries: int = 2,
        on_done: Callable[[int, Done], None] | None = None,
        label: Callable[[int], str] = str,
    ) -> None:
        assert at_once >= 1, at_once
        self._processor = processor
        self._ledger = ledger
        self._at_once = at_once
        self._retries = retries
        self._on_done = on_done or (lambda chunk, done: None)
        self._label = label
        self._agenda: Agenda
        self._in_flight: dict[Future[Attempt], int] = {}
        self._stopped = threading.Event()
        self._fatal: Exception | None = None

    def process(self, chunks: range | None = None) -> int:
        """Process what the ledger lacks (of a range of chunks); return how many it lacked.

        Raises:
            EnvironmentFaultError: the machine or the store cannot go on; the run can be resumed.
            InputError, ChunkError: what a chunk failed by finally. Any other error too: that is a fault of ours.
        """
        lacking = self._ledger.lacking(chunks)
        self._agenda = Agenda(lacking, self._retries)
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="chunks") as pool:
            try:
                self._run(pool)
            except BaseException:
                self._stopped.set()
                raise
            finally:
                self._let_go()
        if self._fatal is not None:
            raise self._fatal
        return len(lacking)

    def _run(self, pool: ThreadPoolExecutor) -> None:
        self._together(pool)
        while not self._stopped.is_set() and (chunk := self._agenda.take_alone()) is not None:
            self._begin(pool, chunk, lean=True)
            self._wait()
            self._together(pool)

    def _together(self, pool: ThreadPoolExecutor) -> None:
        """Keep a bounded number of chunks in flight until none is left."""
        while True:
            while not self._stopped.is_set() and len(self._in_flight) < self._at_once and self._agenda.waiting():
                (chunk,) = self._agenda.take(1)
                self._begin(pool, chunk)
            if self._in_flight:
                self._wait()
            elif self._stopped.is_set():
                return
            elif (pause := self._agenda.pause()) is not None:
                self._stopped.wait(pause)
            elif not self._agenda.waiting() and not self._agenda.begin_last():
                return

    def _begin(self, pool: ThreadPoolExecutor, chunk: int, *, lean: bool = False) -> None:
        record = Record(chunk, FAILED, self._ledger.attempts(chunk) + 1, worker="inline")
        self._in_flight[pool.submit(attempt, self._processor, record, lean=lean)] = chunk

    def _wait(self) -> None:
        """Take in what ended."""
        ended, _ = wait(self._in_flight, timeout=self._agenda.pause(), return_when=FIRST_COMPLETED)
        for future in ended:
            self._take_in(future)

    def _take_in(self, future: Future[Attempt]) -> None:
        chunk = self._in_flight.pop(future)
        tried = future.result()
        if tried.cause is Cause.ENVIRONMENT:
            self._agenda.put_back([chunk])
            self._stop(_fault(tried))
            return
        self._ledger.append([tried.record])
        if tried.error is None:
            self._on_done(chunk, tried.record.done)
        else:
            self._failed(chunk, tried)

    def _failed(self, chunk: int, tried: Attempt) -> None:
        """Try a chunk again, or stop the run."""
        assert tried.cause is not None
        refused = isinstance(tried.error, InputError) and tried.cause is Cause.UNEXPECTED
        again = None if refused else self._agenda.again(chunk, tried.cause)
        how = f", {again}" if again else ""
        log.warning("chunk %s failed%s: %s", self._label(chunk), how, tried.record.error)
        if again is not None:
            return
        if tried.cause is Cause.STORE:
            self._ledger.requeue([chunk], "the store did not answer")
            self._stop(_fault(tried))
        else:
            self._stop(tried.error)

    def _stop(self, error: Exception | None) -> None:
        self._fatal = self._fatal or error
        self._stopped.set()

    def _let_go(self) -> None:
        """Drop what has not begun and take in what has; what failed and would be tried again is pending."""
        for future in list(self._in_flight):
            if future.cancel():
                del self._in_flight[future]
        with contextlib.suppress(Exception):  # where the ledger cannot be written, that is what is raised already
            for future in list(self._in_flight):
                self._take_in(future)
            if self._stopped.is_set():
                self._ledger.requeue(self._agenda.unfinished(), "the run stopped before it was tried again")


def _fault(tried: Attempt) -> EnvironmentFaultError:
    stopped = EnvironmentFaultError(
        f"stopped: {tried.record.error}. What is done is kept; mend that and run again to resume"
    )
    stopped.__cause__ = tried.error
    return stopped
