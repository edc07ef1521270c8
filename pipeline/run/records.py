"""What is known of one chunk after one attempt: the unit of the ledger."""

from __future__ import annotations

import hashlib
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
    """

    stored: tuple[Stored, ...] = ()
    seconds: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    statistics: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the ledger: the outcome of one attempt at one chunk.

    Attributes:
        chunk: number of the chunk in its grid.
        state: ``done``, ``failed`` or ``skipped``.
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
        total = hashlib.blake2b(digest_size=16)
        for stored in self.done.stored:
            total.update(f"{stored.key} {stored.digest} {stored.size}\n".encode())
        return total.digest()

    def to_json(self) -> dict[str, Any]:
        """Return the record as short JSON; what is empty is left out."""
        document: dict[str, Any] = {"i": self.chunk, "s": self.state, "a": self.attempt}
        if self.done.stored:
            document["o"] = [[s.key, s.digest, s.size] for s in self.done.stored]
        if any(self.done.seconds):
            document["t"] = [round(s, 4) for s in self.done.seconds]
        optional = {"x": self.done.statistics, "e": self.error, "k": self.kind, "w": self.worker, "m": self.memory}
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
            Done(stored, (read, wait, compute, write), document.get("x")),
            document.get("e"),
            document.get("k"),
            document.get("w", ""),
            int(document.get("m", 0)),
        )
