"""Open handles of a library whose handles each serve one thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any


class Handles:
    """Open handles that no thread uses: each may be used by one thread at a time.

    Args:
        opening: opens one more.
    """

    def __init__(self, opening: Callable[[], Any]) -> None:
        self._opening = opening
        self._idle: SimpleQueue[Any] = SimpleQueue()

    @contextmanager
    def lend(self) -> Iterator[Any]:
        """Lend a handle; one that failed is closed."""
        handle = self._take() or self._opening()
        try:
            yield handle
        except BaseException:
            with suppress(Exception):  # what failed is worth more than how it closes
                handle.close()
            raise
        self._idle.put(handle)

    def close(self) -> None:
        """Close all of them."""
        while (handle := self._take()) is not None:
            handle.close()

    def __len__(self) -> int:
        return self._idle.qsize()

    def _take(self) -> Any:
        try:
            return self._idle.get_nowait()
        except Empty:
            return None
