"""What is known of one chunk after one attempt: the unit of the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.volume import Stored

PENDING, DONE, FAILED, SKIPPED = "pending", "done", "failed", "skipped"
STATES = (PENDING, DONE, FAILED, SKIPPED)
"""The states of a chunk; the place in this tuple is the code that arrays of states hold."""

PHASES = ("read", "wait", "compute", "write")
"""Where a chunk's seconds go: reading, waiting for the network to be free, the network, writing."""


@dataclass(frozen=True, slots=True)
class Done:
    """What processing one chunk gave.

    Attributes:
        stored: the objects that were written.
        seconds: per phase, in the order of :data:`PHASES`.
        statistics: numbers of the chunk by name; None where the work has none.
        seen: short hexadecimal digests of the identities of the stored input objects that the chunk was made from,
            in the order of their keys; empty where they are not known.
    """

    stored: tuple[Stored, ...] = ()
    seconds: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    statistics: dict[str, float] | None = None
    seen: tuple[str, ...] = ()


SEEN_BYTES = 8
"""Length of the digest that the ledger keeps of what a chunk was made from."""


def stored_digest(stored: Iterable[tuple[str, str, int]]) -> bytes:
    """Return the digest over everything that a chunk stored (16 bytes): keys, their digests and sizes, in order."""
    text = "".join([f"{key} {digest} {size}\n" for key, digest, size in stored])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def seen_digest(seen: Sequence[str]) -> bytes:
    """Return the digest of :attr:`Done.seen` (8 bytes); zeros where nothing is known."""
    return seen_text_digest(" ".join(seen))


def seen_text_digest(text: str) -> bytes:
    """Return :func:`seen_digest` of what a record's JSON holds: the same digests, in one text."""
    return hashlib.blake2b(text.encode(), digest_size=SEEN_BYTES).digest() if text else bytes(SEEN_BYTES)


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the ledger: the outcome of one attempt at one chunk.

    Attributes:
        chunk: number of the chunk in its grid.
        state: ``done``, ``failed`` or ``skipped``; ``pending`` where the chunk was made to wait again.
        attempt: how many attempts there have been, this one included.
        done: what it gave, if it is done.
        error: what went wrong, if it failed.
        kind: name of the error's class, if it failed.
        worker: name of the worker.
        memory: peak resident memory of the worker process so far, in bytes.
    """

    chunk: int
    state: str
    attempt: int
    done: Done = field(default_factory=Done)
    error: str | None = None
    kind: str | None = None
    worker: str = ""
    memory: int = 0

    @property
    def digest(self) -> bytes:
        """Digest over everything that the chunk stored (16 bytes)."""
        return stored_digest((s.key, s.digest, s.size) for s in self.done.stored)

    def to_json(self) -> dict[str, Any]:
        """Return the record as short JSON; what is empty is left out."""
        document: dict[str, Any] = {"i": self.chunk, "s": self.state, "a": self.attempt}
        if self.done.stored:
            document["o"] = [[s.key, s.digest, s.size] for s in self.done.stored]
        if any(self.done.seconds):
            document["t"] = [round(s, 4) for s in self.done.seconds]
        optional = {
            "x": self.done.statistics,
            "r": " ".join(self.done.seen),
            "e": self.error,
            "k": self.kind,
            "w": self.worker,
            "m": self.memory,
        }
        return document | {key: value for key, value in optional.items() if value}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Record:
        """Return the record that :meth:`to_json` wrote."""
        read, wait, compute, write = map(float, document.get("t", (0.0,) * len(PHASES)))
        stored = tuple(Stored(str(k), str(d), int(n)) for k, d, n in document.get("o", ()))
        return cls(
            int(document["i"]),
            str(document["s"]),
            int(document["a"]),
            Done(stored, (read, wait, compute, write), document.get("x"), tuple(document.get("r", "").split())),
            document.get("e"),
            document.get("k"),
            document.get("w", ""),
            int(document.get("m", 0)),
        )


@dataclass(frozen=True, slots=True)
class Skips:
    """One line of the ledger for many chunks: they are skipped, and why.

    Attributes:
        ranges: of their numbers, each ``(first, behind the last)``, not empty.
        reason: why nothing is to be done to them.
    """

    ranges: tuple[tuple[int, int], ...]
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the line as JSON."""
        return {"skip": [list(pair) for pair in self.ranges], "e": self.reason}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Skips:
        """Return the line that :meth:`to_json` wrote."""
        ranges = tuple((int(first), int(stop)) for first, stop in document["skip"])
        return cls(ranges, str(document["e"]))


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over every attempt so far, those included whose records a compaction left out.

    Attributes:
        seconds: over all successful attempts, by the names of :data:`PHASES`.
        memory: largest peak resident memory of a worker, in bytes.
        stored_bytes: bytes written by all successful attempts.
        damaged_lines: lines of the journal that could not be read.
    """

    seconds: dict[str, float]
    memory: int
    stored_bytes: int
    damaged_lines: int

    def to_json(self) -> dict[str, Any]:
        """Return the sums as JSON; floats come back as they were."""
        return {"sums": [[self.seconds[p] for p in PHASES], self.memory, self.stored_bytes, self.damaged_lines]}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Sums:
        """Return the sums that :meth:`to_json` wrote."""
        seconds, memory, stored_bytes, damaged_lines = document["sums"]
        by_phase = dict(zip(PHASES, map(float, seconds), strict=True))
        return cls(by_phase, int(memory), int(stored_bytes), int(damaged_lines))
