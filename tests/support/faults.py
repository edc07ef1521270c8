"""Operations that fail as they are told: of places, and of the operating system below a folder.

A fault is given to the n-th operation of a block, for n = 1, 2, ... until the block has fewer: every point at which
something can go wrong is then gone through in turn.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

import pipeline.store.local
from pipeline.errors import StoreError
from pipeline.store import LocalPlace, ObjectPlace

Kind = Literal["full", "input-output", "no-answer", "refused", "lost", "crash", "crash-after", "short"]
"""What can happen to an operation.

It is not carried out, and raises ENOSPC ("full"), EIO ("input-output"), StoreError ("no-answer") or PermissionError
("refused"); it is carried out and raises StoreError ("lost"); the process dies before or after it ("crash",
"crash-after"); half of the bytes are written, then the disk is full ("short": of writes to files alone, others raise
ENOSPC).
"""

METHODS = ("get", "versioned", "tail", "stats", "put", "create", "replace", "delete", "entries", "appender")
"""Operations of places; what an appender does counts too."""


BACKGROUND = ("journal", "lease")
"""Threads whose operations come when the clock says so: not counted, and without effect in a process that is dead."""


class Crash(BaseException):
    """The process has died: nothing that it does from here on has any effect."""


class Faults:
    """Counts operations, and makes one of them fail.

    Args:
        nth: which, from 1; 0 for none.
        kind: how.

    Attributes:
        names: of the operations so far, in order.
        struck: whether the fault has happened.
    """

    def __init__(self, nth: int = 0, kind: Kind = "crash") -> None:
        self.names: list[str] = []
        self.struck = False
        self._nth = nth
        self._kind = kind
        self._lock = threading.Lock()

    @property
    def dead(self) -> bool:
        """Whether the process has died."""
        return self.struck and self._kind.startswith("crash")

    def step(self, name: str, do: Callable[[], Any]) -> Any:
        """Carry an operation out, or fail."""
        if threading.current_thread().name in BACKGROUND:
            return None if self.dead else do()
        with self._lock:
            if self.dead:
                raise Crash
            self.names.append(name)
            strikes = len(self.names) == self._nth
            self.struck |= strikes
        if not strikes:
            return do()
        if self._kind in ("lost", "crash-after"):
            close_file(do())
        raise error_of(self._kind, name)

    def cut(self, data: bytes) -> bytes:
        """Return how much of a write gets to the file before it fails: half, where the fault is of that kind."""
        return data[: len(data) // 2] if self._kind == "short" else b""


def close_file(made: Any) -> None:
    """Close the file of an appender that nobody gets to see: as the kernel does for the dead."""
    if hasattr(made, "_file"):
        made._file.close()


def error_of(kind: Kind, name: str) -> BaseException:
    if kind in ("full", "short"):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    if kind == "input-output":
        return OSError(errno.EIO, os.strerror(errno.EIO), name)
    if kind == "refused":
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    if kind in ("no-answer", "lost"):
        return StoreError(f"{name}: the store did not answer, as the test wished")
    return Crash(name)


@contextmanager
def failing_places(faults: Faults) -> Iterator[Faults]:
    """Have every operation of every place pass through ``faults``."""
    with pytest.MonkeyPatch.context() as patch:
        for place in (LocalPlace, ObjectPlace):
            for name in METHODS:
                if hasattr(place, name):
                    patch.setattr(place, name, through(faults, name, getattr(place, name)))
        yield faults


def through(faults: Faults, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method whose calls pass through ``faults``; an appender's and a listing's too."""

    def called(*arguments: Any, **keywords: Any) -> Any:
        found = faults.step(name, lambda: method(*arguments, **keywords))
        return FaultyAppender(found, faults) if name == "appender" else found

    return called


class FaultyAppender:
    """The writing end of something that only grows, and may fail to."""

    def __init__(self, appender: Any, faults: Faults) -> None:
        self._appender = appender
        self._faults = faults

    def append(self, data: bytes) -> None:
        self._faults.step("append", lambda: self._appender.append(data))

    def sync(self) -> None:
        self._faults.step("sync", self._appender.sync)

    def close(self) -> None:
        try:
            self._faults.step("close", self._appender.close)
        finally:
            close_file(self._appender)


@contextmanager
def failing_system(faults: Faults, root: Path) -> Iterator[Faults]:
    """Have what changes files below ``root`` pass through ``faults``: open to write, write, fsync, rename, link, ..."""
    real = pipeline.store.local.os

    def below(path: Any) -> bool:
        return not isinstance(path, int) and Path(path).is_relative_to(root)

    def passing(name: str, do: Callable[..., Any], *, always: bool = False) -> Callable[..., Any]:
        def called(*arguments: Any, **keywords: Any) -> Any:
            if not always and not below(arguments[0]):
                return do(*arguments, **keywords)
            return faults.step(name, lambda: do(*arguments, **keywords))

        return called

    def open_path(path: Path, mode: str = "r", buffering: int = -1, *rest: Any, **keywords: Any) -> Any:
        if not below(path) or set(mode) <= set("rbt"):
            return opened(path, mode, buffering, *rest, **keywords)
        file = faults.step("open", lambda: opened(path, mode, buffering, *rest, **keywords))
        return FaultyFile(file, faults) if "b" in mode and "+" not in mode else file

    opened, system = Path.open, dict(vars(real))
    system |= {name: passing(name, getattr(real, name)) for name in ("replace", "rename", "link", "unlink")}
    system["fsync"] = passing("fsync", real.fsync, always=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.store.local, "os", SimpleNamespace(**system))
        for name in ("mkdir", "unlink", "rmdir", "rename", "replace"):
            patch.setattr(Path, name, passing(name, getattr(Path, name)))
        patch.setattr(Path, "open", open_path)
        yield faults


class FaultyFile(io.RawIOBase):
    """A file that is written without a buffer of its own, and may fail to be."""

    def __init__(self, file: Any, faults: Faults) -> None:
        super().__init__()
        self._file = file
        self._faults = faults

    def write(self, data: Any) -> int:
        def whole() -> int:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
            self._file.flush()
            return len(data)

        try:
            return self._faults.step("write", whole)
        except OSError:
            self._file.write(self._faults.cut(bytes(data)))
            self._file.flush()
            raise

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._file.fileno())

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        self._file.close()
        super().close()
