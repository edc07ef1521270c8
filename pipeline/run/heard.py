"""What is logged and warned of in a worker while it works on a chunk, on its way to the driver.

It comes back with the result of the unit, a few messages each, so that the workers need no server and a million chunks
cost nothing. In the worker it is printed as before.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

MOST = 8
"""Messages of a unit at most; each text counts once."""

LONGEST = 500
"""Characters of a message at most."""


@dataclass(frozen=True, slots=True)
class Message:
    """What was said.

    Attributes:
        chunk: number of the chunk that was worked on.
        attempt: number of the attempt.
        worker: name of the worker.
        level: of :mod:`logging`.
        text: one line.
    """

    chunk: int
    attempt: int
    worker: str
    level: int
    text: str


class Hearing:
    """Takes in what is said during a unit.

    Args:
        worker: name of the worker.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._texts: set[str] = set()
        self._messages: list[Message] = []
        self._left_out = 0

    @contextmanager
    def during(self, chunk: int, attempt: int) -> Iterator[None]:
        """Take in what is said in this block: by this thread, and by those that work for it in its context."""

        def take(level: int, text: str) -> None:
            line = " ".join(text.split())[:LONGEST]
            if line in self._texts:
                return
            if len(self._messages) == MOST:
                self._left_out += 1
                return
            self._texts.add(line)
            self._messages.append(Message(chunk, attempt, self._worker, level, line))

        token = _EAR.set(take)
        try:
            yield
        finally:
            _EAR.reset(token)

    def messages(self) -> tuple[Message, ...]:
        """Return what was said; the last line says how much was left out."""
        if not self._left_out:
            return tuple(self._messages)
        last = self._messages[-1]
        text = f"{self._left_out} more messages are in the worker's own log"
        return (*self._messages, Message(last.chunk, last.attempt, last.worker, logging.WARNING, text))


_EAR: ContextVar[Callable[[int, str], None] | None] = ContextVar("ear", default=None)


class _Ears(logging.Handler):
    """Passes on what is logged while somebody listens."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on; a worker never fails by what it says."""
        take = _EAR.get()
        if take is not None:
            try:
                take(record.levelno, f"{record.getMessage()} ({record.name})")
            except Exception:  # a message whose arguments do not fit it
                self.handleError(record)


def listen() -> None:
    """Hear in this process from now on what is logged, from warnings on, and what Python warns of."""
    root = logging.getLogger()
    if any(isinstance(handler, _Ears) for handler in root.handlers):
        return
    if not root.handlers and logging.lastResort is not None:
        root.addHandler(logging.lastResort)  # which Python leaves out as soon as there is another one
    root.addHandler(_Ears(logging.WARNING))
    _hear_warnings(warnings.showwarning)


def _hear_warnings(before: Callable[..., None]) -> None:
    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        take = _EAR.get()
        if take is not None:
            take(logging.WARNING, f"{category.__name__}: {message}")
        before(message, category, *where, **more)

    warnings.showwarning = show
