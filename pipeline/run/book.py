"""What the journal's lines add up to: the state of every chunk as arrays, and sums over all attempts.

A chunk costs 28 bytes, so a million chunks fit in 28 MB, and 8 more for each number that its work counts; only
failures keep their whole record.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.run.records import (
    DONE,
    FAILED,
    PENDING,
    PHASES,
    SEEN_BYTES,
    SKIPPED,
    STATES,
    Record,
    Skips,
    Sums,
    seen_text_digest,
    stored_digest,
)

CODE = {state: code for code, state in enumerate(STATES)}
"""Code of each state in arrays of states."""

_DONE, _FAILED, _SKIPPED = CODE[DONE], CODE[FAILED], CODE[SKIPPED]

_NO_SECONDS = (0.0,) * len(PHASES)

_ATTEMPTS_MOST = int(np.iinfo(np.uint16).max)

_REASONS_MOST = int(np.iinfo(np.uint8).max) + 1


class Book:
    """States and sums of the chunks of a run, from the records noted so far.

    Attributes:
        total: number of chunks.
        states: code of each chunk's state (places in :data:`pipeline.run.records.STATES`), uint8.
        attempts: attempts at each chunk, uint16; more than 65,535 are shown as that.
        digests: digest of what each chunk that is done has stored, (total, 16) uint8; zeros for others.
        seen: digest of what each chunk that is done was made from, (total, 8) uint8; zeros for others.
        why: of each chunk that is skipped, the place of its reason in ``reasons``, (total,) uint8; zeros for others.
        reasons: why chunks were skipped.
        values: each statistic of each chunk that is done, by name, (total,) float64; NaN where it has none.
        failures: last record of each chunk that is failed.
        memory: largest peak resident memory of a worker, in bytes.
        stored_bytes: bytes written by all successful attempts.
        damaged_lines: lines of the journal that were torn, damaged or of no chunk of this run.
        records: records noted, those that later ones replaced included.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.states = np.zeros(total, dtype=np.uint8)
        self.attempts = np.zeros(total, dtype=np.uint16)
        self.digests = np.zeros((total, 16), dtype=np.uint8)
        self.seen = np.zeros((total, SEEN_BYTES), dtype=np.uint8)
        self.why = np.zeros(total, dtype=np.uint8)
        self.reasons: list[str] = []
        self.values: dict[str, npt.NDArray[np.float64]] = {}
        self.failures: dict[int, Record] = {}
        self._seconds = [0.0] * len(PHASES)
        self.memory = 0
        self.stored_bytes = 0
        self.damaged_lines = 0
        self.records = 0
        self._counts = [total] + [0] * (len(STATES) - 1)
        # The same memory: one element of it is set four times faster.
        self._states, self._attempts = self.states.data, self.attempts.data
        self._digests, self._seen = self.digests.reshape(-1).data, self.seen.reshape(-1).data

    @property
    def seconds(self) -> dict[str, float]:
        """Sum over all successful attempts, per phase."""
        return dict(zip(PHASES, self._seconds, strict=True))

    def note(self, line: dict[str, Any] | None) -> bool:
        """Take in what a line of the journal says; the last word on a chunk counts.

        Args:
            line: a record, skips or sums as JSON; None where the line is damaged.

        Returns:
            Whether it said something; otherwise it is counted as damaged.
        """
        try:
            if line is None:
                raise ValueError
            if "sums" in line:
                self.set_sums(Sums.from_json(line))
                return True
            if "skip" in line:
                self._skip(Skips.from_json(line))
                return True
            chunk, code = int(line["i"]), CODE[line["s"]]
            attempts, memory = min(int(line["a"]), _ATTEMPTS_MOST), int(line.get("m", 0))
            if not 0 <= chunk < self.total or attempts < 0:
                raise ValueError
            outcome = _outcome(line) if code == _DONE else None
            failure = Record.from_json(line) if code == _FAILED else None
        except (ValueError, KeyError, TypeError, AttributeError):
            self.damaged_lines += 1
            return False
        self._replace(chunk, code)
        if code == _SKIPPED:
            self.why[chunk] = self._reason(str(line.get("e", "")))
        self._attempts[chunk] = attempts
        self.memory = max(self.memory, memory)
        self.records += 1
        if outcome is not None:
            self._add(chunk, outcome)
        if failure is not None:
            self.failures[chunk] = failure
        return True

    def skipped(self) -> dict[str, int]:
        """Return how many chunks are skipped for each reason."""
        counts = np.bincount(self.why[self.states == _SKIPPED], minlength=len(self.reasons)).tolist()
        return {reason: count for reason, count in zip(self.reasons, counts, strict=True) if count}

    def sums(self) -> Sums:
        """Return the sums over all attempts."""
        return Sums(self.seconds, self.memory, self.stored_bytes, self.damaged_lines)

    def set_sums(self, sums: Sums) -> None:
        """Set the sums to those of everything before, whatever they are."""
        self._seconds = [sums.seconds[phase] for phase in PHASES]
        self.memory, self.stored_bytes, self.damaged_lines = sums.memory, sums.stored_bytes, sums.damaged_lines

    def counts(self) -> dict[str, int]:
        """Return how many chunks are in each state."""
        return dict(zip(STATES, self._counts, strict=True))

    def count_again(self) -> None:
        """Count the states anew, after the array was filled from elsewhere."""
        self._counts = np.bincount(self.states, minlength=len(STATES)).tolist()

    def known(self) -> int:
        """Return how many chunks have a record."""
        return int(np.count_nonzero((self.states != CODE[PENDING]) | (self.attempts != 0)))

    def statistics(self) -> dict[str, tuple[float, float]]:
        """Return the sum and the largest value of each statistic over the chunks that are done and have it."""
        found = {}
        for key, values in self.values.items():
            has = ~np.isnan(values)
            if has.any():
                found[key] = float(values.sum(where=has)), float(values.max(where=has, initial=0.0))
        return found

    def root_digest(self) -> str:
        """Return the digest over every chunk's state and stored digest, in order: equal for equal results."""
        total = hashlib.blake2b(digest_size=32)
        total.update(self.states.data)
        total.update(self.digests.data)
        return total.hexdigest()

    def _skip(self, skips: Skips) -> None:
        """Take in that ranges of chunks are skipped; ValueError where they are no chunks of this run."""
        if any(not 0 <= first < stop <= self.total for first, stop in skips.ranges):
            raise ValueError
        why = self._reason(skips.reason)
        for first, stop in skips.ranges:
            for chunk in np.flatnonzero(self.states[first:stop]):
                self._replace(first + int(chunk), CODE[PENDING])
            self.states[first:stop] = _SKIPPED
            self.why[first:stop] = why
            self.attempts[first:stop] = 0
            self._counts[CODE[PENDING]] -= stop - first
            self._counts[_SKIPPED] += stop - first
            self.records += stop - first

    def _reason(self, reason: str) -> int:
        """Return the place of a reason; those beyond the 256th count as that one."""
        if reason not in self.reasons and len(self.reasons) < _REASONS_MOST:
            self.reasons.append(reason)
        return self.reasons.index(reason) if reason in self.reasons else _REASONS_MOST - 1

    def _replace(self, chunk: int, code: int) -> None:
        """Give a chunk another state, and forget what it had in the one before."""
        before = self._states[chunk]
        self._counts[before] -= 1
        self._counts[code] += 1
        self._states[chunk] = code
        if before == _DONE:
            self.digests[chunk] = 0
            self.seen[chunk] = 0
            for values in self.values.values():
                values[chunk] = np.nan
        elif before == _FAILED:
            del self.failures[chunk]
        elif before == _SKIPPED:
            self.why[chunk] = 0

    def _add(self, chunk: int, outcome: _Outcome) -> None:
        self._digests[16 * chunk : 16 * chunk + 16] = outcome.digest
        if outcome.seen is not None:
            self._seen[SEEN_BYTES * chunk : SEEN_BYTES * (chunk + 1)] = outcome.seen
        self.stored_bytes += outcome.size
        for number, seconds in enumerate(outcome.seconds):
            self._seconds[number] += seconds
        for key, value in outcome.statistics:
            if key not in self.values:
                self.values[key] = np.full(self.total, np.nan)
            self.values[key][chunk] = value


class _Outcome(NamedTuple):
    """What a chunk that is done adds."""

    digest: bytes
    size: int
    seconds: tuple[float, ...]
    statistics: list[tuple[str, float]]
    seen: bytes | None


def _outcome(line: dict[str, Any]) -> _Outcome:
    """Return what a record of a chunk that is done adds; not made into a Record, which would take twice as long."""
    stored, seen = line.get("o", ()), line.get("r")
    read, wait, compute, write = line.get("t", _NO_SECONDS)
    return _Outcome(
        stored_digest(stored),
        sum([int(size) for _, _, size in stored]),
        (float(read), float(wait), float(compute), float(write)),
        [(key, float(value)) for key, value in line["x"].items()] if "x" in line else [],
        seen_text_digest(seen) if seen else None,
    )
