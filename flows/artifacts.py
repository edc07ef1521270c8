"""What a flow shows while it works and at its end, as Prefect artifacts; no run depends on any of it.

Keys are stable (``segment-predict``, ``segment-failed-chunks`` ...), so that the runs of a flow stack as versions.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.logs import forward_logs, log
from pipeline.jobs.listener import Listener, Silent

INTERVAL = 1.0
"""Seconds between two updates of an artifact, at least."""

PATIENCE = 15.0
"""Seconds that the end of a job waits for a server that does not answer."""


class Board(Protocol):
    """Where progress is shown: the Prefect server, or a test."""

    def create(self, key: str, percent: float, description: str) -> UUID:
        """Show a new bar."""
        ...

    def update(self, bar: UUID, percent: float, description: str) -> None:
        """Move a bar."""
        ...


class PrefectBoard:
    """Shows progress as progress artifacts of the current flow run."""

    def create(self, key: str, percent: float, description: str) -> UUID:
        """Create the artifact."""
        bar = create_progress_artifact(percent, key=key, description=description)
        assert isinstance(bar, UUID)  # no coroutine: the flows are synchronous
        return bar

    def update(self, bar: UUID, percent: float, description: str) -> None:
        """Update the artifact."""
        update_progress_artifact(bar, percent, description=description)


@dataclass(slots=True)
class _Bar:
    """One phase of a job as it is, and whether that has been shown."""

    key: str
    total: int
    unit: str
    done: int = 0
    failed: int = 0
    shown: bool = False
    id: UUID | None = None

    def percent(self) -> float:
        return min(100.0, 100.0 * self.done / self.total) if self.total else 100.0

    def text(self, subject: str) -> str:
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self.done:,} of {self.total:,} {self.unit}{failed} · {subject}"


_WATCHER: ContextVar[Listener | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(by: Listener) -> Iterator[None]:
    """Tell ``by`` too of all that flows do in this block: a terminal, where a person runs them by hand."""
    token = _WATCHER.set(by)
    try:
        yield
    finally:
        _WATCHER.reset(token)


class FlowListener:
    """Tells Prefect of a job: a progress artifact for each phase, and notes in the run's log.

    The job only leaves word here, from as many threads as it likes. A thread of this object's own takes it to the
    server, each bar at most once an interval and once more at the end, so that a slow or lost server neither holds
    the job up nor stops it; the first failure is logged. To be used as a context manager, inside of the flow.
    """

    def __init__(self, flow: str, subject: str, *, board: Board | None = None, interval: float = INTERVAL) -> None:
        self._flow = flow
        self._subject = subject
        self._board = board or PrefectBoard()
        self._interval = interval
        self._changed = threading.Condition()
        self._bars: list[_Bar] = []
        self._closing = False
        self._complained = False
        self._watcher = _WATCHER.get() or Silent()

    def __enter__(self) -> Self:
        forward_logs()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._show,), name="artifacts", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(PATIENCE)

    def phase(self, name: str, total: int, unit: str) -> None:
        """Begin a new bar."""
        with self._changed:
            self._bars.append(_Bar(f"{self._flow}-{name}", total, unit))
            self._changed.notify_all()
            self._watcher.phase(f"{name} {Path(self._subject).name}", total, unit)

    def progress(self, done: int, failed: int = 0) -> None:
        """Move the newest bar."""
        with self._changed:
            bar = self._bars[-1]
            bar.done, bar.failed, bar.shown = done, failed, False
            self._changed.notify_all()
            self._watcher.progress(done, failed)

    def note(self, text: str) -> None:
        """Put a line in the run's log."""
        log.info("%s", text)
        self._watcher.note(text)

    def _show(self) -> None:
        """Show what has changed, again and again, until the job has ended."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._news())
                news, last = self._news(), self._closing
                content = [(bar, bar.percent(), bar.text(self._subject)) for bar in news]
                for bar in news:
                    bar.shown = True
            for bar, percent, text in content:
                self._put(bar, percent, text)
            if last:
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closing, self._interval)

    def _news(self) -> list[_Bar]:
        return [bar for bar in self._bars if not bar.shown]

    def _put(self, bar: _Bar, percent: float, text: str) -> None:
        try:
            if bar.id is None:
                bar.id = self._board.create(bar.key, percent, text)
            else:
                self._board.update(bar.id, percent, text)
        except Exception as error:  # whatever a client makes of a server that is not well
            if not self._complained:
                log.warning("progress cannot be shown (%s: %s); the work goes on", type(error).__name__, error)
            self._complained = True


def show_markdown(key: str, text: str) -> None:
    """Show a text, if the server takes it."""
    _attempt(key, lambda: create_markdown_artifact(text, key=key))


def show_table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Show a table, if the server takes it."""
    _attempt(key, lambda: create_table_artifact(rows, key=key, description=description))


def _attempt(key: str, create: Callable[[], object]) -> None:
    try:
        create()
    except Exception as error:  # whatever a client makes of a server that is not well
        log.warning("the artifact %s cannot be shown (%s: %s)", key, type(error).__name__, error)
