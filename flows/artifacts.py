"""What a flow shows while it works and at its end, as Prefect artifacts; no run depends on any of it.

Keys are stable (``segment-predict``, ``segment-failed-chunks`` ...), so that the runs of a flow stack as versions.
"""

from __future__ import annotations

import base64
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.board import Board, PrefectBoard
from flows.links import link_to
from flows.logs import forward_logs, log
from flows.rates import pace
from flows.redact import redact, redact_all
from pipeline.jobs.listener import Listener, Silent

INTERVAL = 1.0
"""Seconds between two updates of an artifact, at least."""

PICTURE_INTERVAL = 20.0
"""Seconds between two updates of a picture, at least."""

PATIENCE = 15.0
"""Seconds that the end of a job waits for a server that does not answer."""


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
    voxels: float = 0.0
    began: float | None = None
    first: int = 0

    def move(self, done: int, failed: int) -> None:
        """Take in how far the phase is; its speed counts from the first word of it, as a run may begin half done."""
        if self.began is None:
            self.began, self.first = time.monotonic(), done + failed
        self.done, self.failed, self.shown = done, failed, False

    def percent(self) -> float:
        return min(100.0, 100.0 * self.done / self.total) if self.total else 100.0

    def text(self, subject: str) -> str:
        failed = f", {self.failed:,} failed" if self.failed else ""
        parts = [f"{self.done:,} of {self.total:,} {self.unit}{failed}", *self._pace(), subject]
        return redact(" · ".join(parts))

    def _pace(self) -> list[str]:
        if self.began is None:
            return []
        worked = self.done + self.failed
        left = max(0, self.total - worked)
        return pace(worked - self.first, left, time.monotonic() - self.began, unit=self.unit, voxels=self.voxels)


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
        self._picture: Callable[[], tuple[str, str]] | None = None
        self._picture_id: UUID | None = None
        self._drawn = float("-inf")

    def follow(self, *, voxels: float, picture: Callable[[], tuple[str, str]]) -> None:
        """Show speeds in voxels too, and a picture of the work that is drawn anew now and then.

        Args:
            voxels: of a unit of work, on average.
            picture: gives a data URI and its legend; called from another thread.
        """
        with self._changed:
            self._bars[-1].voxels = voxels
            self._picture = picture
            self._drawn = float("-inf")
            self._changed.notify_all()

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
            self._bars[-1].move(done, failed)
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
            if content or last:
                self._draw(last=last)
            if last:
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closing, self._interval)

    def _news(self) -> list[_Bar]:
        return [bar for bar in self._bars if not bar.shown]

    def _put(self, bar: _Bar, percent: float, text: str) -> None:
        with self._spared():
            if bar.id is None:
                bar.id = self._board.create(bar.key, percent, text)
            else:
                self._board.update(bar.id, percent, text)

    def _draw(self, *, last: bool) -> None:
        if self._picture is None or not (last or time.monotonic() - self._drawn >= PICTURE_INTERVAL):
            return
        with self._spared():
            picture, legend = self._picture()
            key, text = f"{self._flow}-grid", redact(f"{legend} · {self._subject}")
            self._picture_id = self._board.draw(key, self._picture_id, picture, text)
        self._drawn = time.monotonic()

    @contextmanager
    def _spared(self) -> Iterator[None]:
        """Let no failure of showing reach the work."""
        try:
            yield
        except Exception as error:  # whatever a client makes of a server that is not well
            if not self._complained:
                log.warning("progress cannot be shown (%s: %s); the work goes on", type(error).__name__, error)
            self._complained = True


def show_markdown(key: str, text: str, description: str) -> None:
    """Show a text, if the server takes it."""
    _attempt(key, lambda: create_markdown_artifact(redact(text), key=key, description=redact(description)))


def show_table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Show a table, if the server takes it."""
    _attempt(key, lambda: create_table_artifact(redact_all(rows), key=key, description=redact(description)))


def show_picture(key: str, path: Path, description: str) -> None:
    """Show a small PNG, if the server takes it."""

    def create() -> None:
        picture = base64.b64encode(path.read_bytes()).decode()
        create_image_artifact(f"data:image/png;base64,{picture}", key=key, description=redact(description))

    _attempt(key, create)


def show_link(key: str, place: str, text: str) -> None:
    """Show where a file or an object is, if the server takes it: as a link, where a browser can follow one.

    Args:
        key: of the artifact.
        place: path, or address of an object.
        text: what is there.
    """
    link = link_to(place)
    if link is not None:
        _attempt(
            key, lambda: create_link_artifact(redact(link), link_text=text, key=key, description=redact(place))
        )
    else:
        show_markdown(key, f"{text}:\n\n```\n{place}\n```", place)


def _attempt(key: str, create: Callable[[], object]) -> None:
    try:
        create()
    except Exception as error:  # whatever a client makes of a server that is not well
        log.warning("the artifact %s cannot be shown (%s: %s)", key, type(error).__name__, error)
