"""Listening as a worker process does, for the time of a test's body (pytest changes what shows warnings before it)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.run.heard import listen


@contextmanager
def ears() -> Iterator[list[str]]:
    """Listen; gives the warnings that are shown. Also a decorator."""
    root, before, shown = logging.getLogger(), warnings.showwarning, list[str]()
    handlers = list(root.handlers)
    warnings.showwarning = lambda message, *rest, **more: shown.append(str(message))
    listen()
    try:
        yield shown
    finally:
        warnings.showwarning = before
        for handler in root.handlers[:]:
            if handler not in handlers:
                root.removeHandler(handler)
