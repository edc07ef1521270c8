"""The ledger: what has happened to each chunk of a run, as arrays in memory over the journal on disk.

A chunk costs 19 bytes here, so a million chunks fit in 19 MB, and 8 more for each number that its work counts; only
failures keep their whole record.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.run.journal import Journal, replay
from pipeline.run.records import DONE, FAILED, PENDING, PHASES, SKIPPED, STATES, Record

_CODE = {state: code for code, state in enumerate(STATES)}


class Ledger:
    """The state of every chunk of a run; the journal is its memory.

    Attributes:
        total: number of chunks.
        failures: last record of each chunk that is failed.
        seconds: sum over all successful attempts, per phase.
        memory: largest peak resident memory of a worker, in bytes.
        stored_bytes: bytes written by all successful attempts.
        damaged_lines: lines of the journal that were torn or damaged.
    """

    def __init__(self, folder: Path, total: int) -> None:
        self.total = total
        self.failures: dict[int, Record] = {}
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.memory = 0
        self.stored_bytes = 0
        self.damaged_lines = 0
        self._folder = folder
        self._states = np.zeros(total, dtype=np.uint8)
        self._attempts = np.zeros(total, dtype=np.uint16)
        self._digests = np.zeros((total, 16), dtype=np.uint8)
        self._statistics: dict[str, npt.NDArray[np.float64]] = {}
        self._journal: Journal | None = None
        self._lock = threading.Lock()
        for record in replay(folder):
            if record is None or not 0 <= record.chunk < total or record.state not in _CODE:
                self.damaged_lines += 1
            else:
                self._note(record)

    @property
    def epoch(self) -> int:
        """Number of this process's journal file; 0 while nothing was written."""
        return self._journal.epoch if self._journal else 0

    def append(self, records: Sequence[Record]) -> None:
        """Take records in, in memory and on disk."""
        with self._lock:
            if self._journal is None:
                self._journal = Journal(self._folder)
            self._journal.append(list(records))
            for record in records:
                self._note(record)

    def close(self) -> None:
        """Force the journal to the disk; the ledger can still be read."""
        with self._lock:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def state(self, chunk: int) -> str:
        """Return the state of a chunk."""
        return STATES[self._states[chunk]]

    def states(self) -> npt.NDArray[np.uint8]:
        """Return the codes of all states (places in :data:`STATES`), as a copy."""
        return self._states.copy()

    def attempts(self, chunk: int) -> int:
        """Return how many attempts there have been at a chunk."""
        return int(self._attempts[chunk])

    def lacking(self, chunks: range | None = None) -> npt.NDArray[np.intp]:
        """Return the numbers of the chunks (of a range) that are neither done nor skipped, in order."""
        chunks = range(self.total) if chunks is None else chunks
        part = self._states[chunks.start : chunks.stop]
        return np.flatnonzero((part == _CODE[PENDING]) | (part == _CODE[FAILED])) + chunks.start

    def counts(self) -> dict[str, int]:
        """Return how many chunks are in each state."""
        found = np.bincount(self._states, minlength=len(STATES))
        return {state: int(found[code]) for state, code in _CODE.items()}

    def is_complete(self) -> bool:
        """Whether every chunk is done, or skipped with a reason."""
        counts = self.counts()
        return counts[DONE] + counts[SKIPPED] == self.total

    def statistics(self) -> dict[str, tuple[float, float]]:
        """Return the sum and the largest value of each statistic over the chunks that are done."""
        done = self._states == _CODE[DONE]
        return {
            key: (float(values.sum(where=done)), float(values.max(where=done, initial=0.0)))
            for key, values in self._statistics.items()
        }

    def root_digest(self) -> str:
        """Return the digest over every chunk's state and digest, in order: equal for equal results."""
        total = hashlib.blake2b(digest_size=32)
        total.update(self._states.tobytes())
        total.update(self._digests.tobytes())
        return total.hexdigest()

    def requeue(self, chunks: Iterable[int], reason: str) -> None:
        """Make chunks pending again, whatever they were."""
        records = [Record(c, PENDING, self.attempts(c), error=reason) for c in chunks]
        if records:
            self.append(records)

    def summary(self) -> dict[str, Any]:
        """Return counts, failures in order and sums, JSON-ready."""
        return {
            "total": self.total,
            **self.counts(),
            "seconds": {phase: round(s, 3) for phase, s in self.seconds.items()},
            "peak_memory": self.memory,
            "stored_bytes": self.stored_bytes,
        }

    def _note(self, record: Record) -> None:
        chunk = record.chunk
        if self._states[chunk] == _CODE[DONE] and record.state != DONE:
            self._digests[chunk] = 0
        self._states[chunk] = _CODE[record.state]
        self._attempts[chunk] = min(record.attempt, np.iinfo(np.uint16).max)
        self.memory = max(self.memory, record.memory)
        self.failures.pop(chunk, None)
        if record.state == FAILED:
            self.failures[chunk] = record
        elif record.state == DONE:
            self._digests[chunk] = np.frombuffer(record.digest, dtype=np.uint8)
            self.stored_bytes += sum(s.size for s in record.done.stored)
            for key, value in (record.done.statistics or {}).items():
                if key not in self._statistics:
                    self._statistics[key] = np.zeros(self.total)
                self._statistics[key][chunk] = value
            for phase, seconds in zip(PHASES, record.done.seconds, strict=True):
                self.seconds[phase] += seconds
