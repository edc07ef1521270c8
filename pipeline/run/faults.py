"""What went wrong with a chunk, in the words that decide whether and how it is tried again.

::

    environment   disk full, no permission ...      the run stops and can be resumed; no chunk's failure
    store         an object store or a connection   again after a while, several times
    memory        no memory for it                  once more, alone and lean
    input         known of its input or numbers     once more after the others: as good as certain to fail again
    device        the GPU has given up              once more, alone, in another process: this one is lost
    unexpected    anything else                     once more, alone, after the others

An error is judged by itself and, where that says nothing, by those that it came from. Torch and obstore are known
by their names only: this runs without them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import StrEnum

from pipeline.errors import ENVIRONMENT, ChunkError, StoreError


class Cause(StrEnum):
    """Why an attempt at a chunk failed."""

    ENVIRONMENT = "environment"
    STORE = "store"
    MEMORY = "memory"
    INPUT = "input"
    DEVICE = "device"
    UNEXPECTED = "unexpected"


_NO_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "defaultcpuallocator",
    "out of memory",
    "status_alloc_failed",
)
"""What torch's RuntimeErrors say where an allocation failed (in lower case)."""

_DEVICE_LOST = ("cuda error", "cudnn error", "cublas error", "nccl error")
"""What torch's RuntimeErrors say after which nothing on the device works any more in this process."""

_OBSTORE = {
    "PermissionDeniedError": Cause.ENVIRONMENT,
    "UnauthenticatedError": Cause.ENVIRONMENT,
    "GenericError": Cause.STORE,
    "JoinError": Cause.STORE,
    "BaseError": Cause.STORE,
}
"""Exceptions of obstore by name, where one comes through as it is; its others are answers, not faults."""


def classify(error: BaseException) -> Cause:
    """Return the cause of an error that a chunk's work raised.

    Args:
        error: with its ``__cause__`` and ``__context__``; the outermost error that says something counts.
    """
    for link in chain(error):
        cause = _cause(link)
        if cause is not None:
            return cause
    return Cause.UNEXPECTED


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came from, outermost first, each once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ if link.__cause__ or link.__suppress_context__ else link.__context__


def _cause(error: BaseException) -> Cause | None:
    if _is_memory(error):
        return Cause.MEMORY
    if isinstance(error, ChunkError):
        return Cause.INPUT
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno in ENVIRONMENT):
        return Cause.ENVIRONMENT
    if isinstance(error, StoreError | ConnectionError | TimeoutError):
        return Cause.STORE
    if type(error).__module__.startswith("obstore"):
        return _OBSTORE.get(type(error).__name__)
    if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _DEVICE_LOST):
        return Cause.DEVICE
    return None


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if any(c.__name__ == "OutOfMemoryError" and c.__module__.startswith("torch") for c in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)
