"""The ledger: what has happened to each chunk of a run, in memory over the journal in its place."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import StoreError
from pipeline.run.book import CODE, Book
from pipeline.run.index import INDEX, Read, load, pack
from pipeline.run.journal import Journal, parse
from pipeline.run.parts import Survey, lines, part_name, survey
from pipeline.run.records import DONE, FAILED, PENDING, SKIPPED, STATES, Record, Skips
from pipeline.store import PARTIAL, LocalPlace, Place

INDEX_RECORDS, INDEX_SECONDS = 100_000, 30.0
"""A new index is written when this many records have come since the last one, and this long after it."""

RANGES_A_LINE = 1000
"""Ranges of skipped chunks in one line of the journal, about 16 kB: a torn line costs no more than these."""

_TRIES = 3
"""How often a journal is listed anew that another process compacts while it is read."""


class Ledger:
    """The state of every chunk of a run; the journal is its memory.

    Args:
        place: where the journal is; a path is a folder.
        total: number of chunks.
        epoch: number of this writer, from the run's lease; 0 for a ledger that is only read.
        check: called before each append; raises where the lease is lost.

    Attributes:
        total: number of chunks.
        epoch: number of this writer.

    Raises:
        StoreError, OSError: the journal cannot be read.
    """

    def __init__(
        self,
        place: Place | Path,
        total: int,
        *,
        epoch: int = 0,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._place: Place = LocalPlace(place) if isinstance(place, Path) else place
        self.total = total
        self.epoch = epoch
        self._check = check
        self._lock = threading.Lock()
        self._journal: Journal | None = None
        self._closed = False
        self._whole = True  # what is in memory is all that the journal has
        self._indexed = -INDEX_SECONDS
        self._indexing: threading.Thread | None = None
        self._book, self.survey, self._unindexed = _read(self._place, total)

    @property
    def failures(self) -> dict[int, Record]:
        """Last record of each chunk that is failed."""
        return self._book.failures

    @property
    def seconds(self) -> dict[str, float]:
        """Sum over all successful attempts, per phase."""
        return self._book.seconds

    @property
    def memory(self) -> int:
        """Largest peak resident memory of a worker, in bytes."""
        return self._book.memory

    @property
    def stored_bytes(self) -> int:
        """Bytes written by all successful attempts."""
        return self._book.stored_bytes

    @property
    def damaged_lines(self) -> int:
        """Lines of the journal that were torn, damaged or of no chunk of this run."""
        return self._book.damaged_lines

    @property
    def records(self) -> int:
        """Records in the journal, those that later ones replaced included."""
        return self._book.records

    def append(self, records: Sequence[Record]) -> None:
        """Take records in, in the journal and then in memory.

        Raises:
            StoreError, OSError: the journal could not be written. What it has taken in waits to be stored, see
                :class:`pipeline.run.journal.Journal`; in memory the records do not count.
        """
        if records:
            self._take_in(records)

    def _take_in(self, records: Sequence[Record | Skips]) -> None:
        """Take lines in, see :meth:`append`."""
        with self._lock:
            if self._check is not None:
                self._check()
            if self._journal is None:
                self._journal = self._begin()
            try:
                self._journal.append(records)
            except BaseException:
                self._whole = False
                raise
            for record in records:
                noted = self._book.note(record.to_json())
                assert noted, f"no record of one of {self.total} chunks: {record}"
            self._unindexed += len(records)
            if self._unindexed >= INDEX_RECORDS and time.monotonic() - self._indexed >= INDEX_SECONDS:
                self._index_beside()

    def skip(self, chunks: npt.NDArray[np.bool_], reason: str) -> int:
        """Skip chunks that nothing has been done to yet: the ledger then lacks them no more.

        They are written as ranges of neighbours, so a million of them cost as little as a few. All of them are
        durable when this returns.

        Args:
            chunks: whether each one is to be skipped, by its number; those that are done or skipped stay as they are.
            reason: why.

        Returns:
            How many chunks this skipped.

        Raises:
            StoreError, OSError: as for :meth:`append`.
        """
        states = self._book.states
        ranges = _ranges(chunks & ((states == CODE[PENDING]) | (states == CODE[FAILED])))
        for start in range(0, len(ranges), RANGES_A_LINE):
            some = ranges[start : start + RANGES_A_LINE].tolist()
            self._take_in([Skips(tuple((first, stop) for first, stop in some), reason)])
        self.sync()
        return int((ranges[:, 1] - ranges[:, 0]).sum())

    def skipped(self) -> dict[str, int]:
        """Return how many chunks are skipped for each reason."""
        return self._book.skipped()

    def sync(self) -> None:
        """Make everything that was taken in durable, and visible to other readers.

        Raises:
            StoreError, OSError: as for :meth:`append`.
        """
        with self._lock:
            if self._journal is not None:
                self._journal.sync()

    def close(self) -> None:
        """Make the journal durable and write the index; the ledger can still be read.

        Raises:
            StoreError, OSError: the journal could not be stored; closing may be tried again.
        """
        with self._lock:
            journal = self._journal
            if journal is None or self._closed:
                return
            journal.close()
            self._closed = True
            if self._indexing is not None:
                self._indexing.join()
            if self._whole and self._unindexed:
                self._store_index(pack(self._book, self._read_so_far(journal)))

    def state(self, chunk: int) -> str:
        """Return the state of a chunk."""
        return STATES[self._book.states[chunk]]

    def states(self) -> npt.NDArray[np.uint8]:
        """Return the codes of all states (places in :data:`STATES`), as a copy."""
        return self._book.states.copy()

    def attempts(self, chunk: int) -> int:
        """Return how many attempts there have been at a chunk."""
        return int(self._book.attempts[chunk])

    def seen(self, chunk: int) -> bytes:
        """Return :func:`pipeline.run.records.seen_digest` of what a chunk that is done was made from; else zeros."""
        return bytes(self._book.seen[chunk])

    def digest(self, chunk: int) -> bytes:
        """Return :func:`pipeline.run.records.stored_digest` of what a chunk that is done has stored; else zeros."""
        return bytes(self._book.digests[chunk])

    def lacking(self, chunks: range | None = None) -> npt.NDArray[np.intp]:
        """Return the numbers of the chunks (of a range) that are neither done nor skipped, in order."""
        chunks = range(self.total) if chunks is None else chunks
        part = self._book.states[chunks.start : chunks.stop]
        return np.flatnonzero((part == CODE[PENDING]) | (part == CODE[FAILED])) + chunks.start

    def counts(self) -> dict[str, int]:
        """Return how many chunks are in each state."""
        return self._book.counts()

    def known(self) -> int:
        """Return how many chunks have a record."""
        return self._book.known()

    def is_complete(self) -> bool:
        """Whether every chunk is done, or skipped with a reason."""
        counts = self.counts()
        return counts[DONE] + counts[SKIPPED] == self.total

    def statistics(self) -> dict[str, tuple[float, float]]:
        """Return the sum and the largest value of each statistic over the chunks that are done."""
        return self._book.statistics()

    def root_digest(self) -> str:
        """Return the digest over every chunk's state and digest, in order: equal for equal results."""
        return self._book.root_digest()

    def requeue(self, chunks: Iterable[int], reason: str) -> None:
        """Make chunks pending again, whatever they were."""
        records = [Record(c, PENDING, self.attempts(c), error=reason) for c in chunks]
        if records:
            self.append(records)

    def summary(self) -> dict[str, Any]:
        """Return counts and sums, JSON-ready."""
        return {
            "total": self.total,
            **self.counts(),
            "seconds": {phase: round(s, 3) for phase, s in self.seconds.items()},
            "peak_memory": self.memory,
            "stored_bytes": self.stored_bytes,
        }

    def _begin(self) -> Journal:
        last = max((part.epoch for part in self.survey.parts), default=0)
        assert self.epoch > last, f"epoch {self.epoch} writes after epoch {last}: is the lease held?"
        for key in self.survey.stale:
            if key.endswith(PARTIAL):
                self._place.delete(key)
        return Journal(self._place, self.epoch)

    def _read_so_far(self, journal: Journal) -> Read:
        return [*((part.name, part.size) for part in self.survey.parts), (part_name(self.epoch), journal.size)]

    def _index_beside(self) -> None:
        """Take a copy now, and store it in a thread."""
        if self._journal is None or not self._whole or (self._indexing is not None and self._indexing.is_alive()):
            return
        self._journal.sync()
        data = pack(self._book, self._read_so_far(self._journal))
        self._unindexed, self._indexed = 0, time.monotonic()
        self._indexing = threading.Thread(target=self._store_index, args=(data,), name="index", daemon=True)
        self._indexing.start()

    def _store_index(self, data: bytes) -> None:
        with contextlib.suppress(OSError, StoreError):  # only time is lost: the journal has everything
            self._place.put(INDEX, data)


def _ranges(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the runs of neighbours that are chosen: first, and behind the last, ``(n, 2)``."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
    return edges.reshape(-1, 2)


def _read(place: Place, total: int) -> tuple[Book, Survey, int]:
    """Return what a journal adds up to, its parts, and how many records of it no index knew."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(FileNotFoundError):
            return _add_up(place, total, survey(place))
    return _add_up(place, total, survey(place))


def _add_up(place: Place, total: int, found: Survey) -> tuple[Book, Survey, int]:
    book, first, skip = load(place, total, found.parts) or (Book(total), 0, 0)
    known = book.records
    for line in lines(place, found.parts[first:], skip):
        book.note(parse(line))
    return book, found, book.records - known
