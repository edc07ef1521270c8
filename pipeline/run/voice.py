"""What a run says of its chunks and workers, in the driver's log: with chunk and attempt, and never without end.

Lines carry the attributes ``chunk``, ``attempt`` and ``worker`` where they are known, for logs that keep more than
text.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from pipeline.run.heard import Message
from pipeline.run.records import Record

log = logging.getLogger("overtile")

TOLD = 10
"""Failures of chunks that are told one by one."""

HEARD = 50
"""Messages of workers that are told."""

ALIKE = 3
"""Times that the same message of workers is told, of whatever chunk."""

NAMED = 5
"""Chunks that are named where more are meant."""


class Voice:
    """Speaks for one run; may be called from several threads.

    Args:
        label: what messages call a chunk, by its number.
    """

    def __init__(self, label: Callable[[int], str] = str) -> None:
        self._label = label
        self._lock = threading.Lock()
        self._failures = 0
        self._messages: Counter[str] = Counter()
        self._heard = 0

    def failed(self, record: Record, again: str | None) -> None:
        """Tell of a chunk that failed, and how it is tried again; after a few, the ledger alone keeps them."""
        with self._lock:
            self._failures += 1
            told = self._failures
        if told == TOLD + 1:
            log.warning("more chunks fail; `overtile status` lists them all")
        level = logging.WARNING if told <= TOLD else logging.INFO
        how = f", {again}" if again else ""
        text = f"chunk {self._label(record.chunk)}, attempt {record.attempt} failed{how}: {record.error}"
        log.log(level, "%s", text, extra=self._where(record.chunk, record.attempt, record.worker))

    def done_alone(self, record: Record) -> None:
        """Tell that a chunk was done after all."""
        log.info(
            "chunk %s is done: alone, and in as little memory as gives the same bytes",
            self._label(record.chunk),
            extra=self._where(record.chunk, record.attempt, record.worker),
        )

    def heard(self, messages: Sequence[Message]) -> None:
        """Tell what workers said while they worked on chunks; after enough of it their own logs alone keep it."""
        for each in messages:
            line = self._line(each.text)
            if line > HEARD:
                log.warning("the workers say more; it is in their own logs")
            elif line:
                text = f"chunk {self._label(each.chunk)}, attempt {each.attempt}, on {each.worker}: {each.text}"
                log.log(each.level, "%s", text, extra=self._where(each.chunk, each.attempt, each.worker))

    def _line(self, text: str) -> int:
        """Return which line of the workers' a message becomes, counted from 1; 0 where it becomes none."""
        with self._lock:
            if self._heard > HEARD or self._messages[text] == ALIKE:
                return 0
            self._messages[text] += 1
            self._heard += 1
            return self._heard

    def died(self, chunks: Sequence[tuple[int, int]]) -> None:
        """Tell that a worker died with a unit in hand, whose chunks are suspect.

        Args:
            chunks: number of each chunk and of the attempt.
        """
        log.warning("a worker died in the middle of %s; they are tried alone", self._names(chunks))

    def moved(self, worker: str, chunks: Sequence[tuple[int, int]]) -> None:
        """Tell that a worker died or left with a unit in hand, which another one does now."""
        log.warning("the worker %s died or left; another one does %s", worker, self._names(chunks))

    def overran(self, chunks: Sequence[tuple[int, int]], limit: float) -> None:
        """Tell that a unit took too long."""
        log.warning("%s not done after %g s each; they are tried alone", self._names(chunks), limit)

    def _names(self, chunks: Sequence[tuple[int, int]]) -> str:
        named = ", ".join(f"{self._label(chunk)} (attempt {attempt})" for chunk, attempt in chunks[:NAMED])
        more = f" and {len(chunks) - NAMED} more" if len(chunks) > NAMED else ""
        return f"{len(chunks)} chunk(s): {named}{more}"

    def _where(self, chunk: int, attempt: int, worker: str | None) -> dict[str, object]:
        return {"chunk": self._label(chunk), "attempt": attempt, "worker": worker}
