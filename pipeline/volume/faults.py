"""What went wrong with a read: the store did not answer, the machine failed, or the bytes do not decode."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from pipeline.errors import OvertileError, StoreError

_REFUSALS = ("PermissionDeniedError", "UnauthenticatedError")
_REFUSED = "status code: 403"
"""What obstore says of a listing that is refused; the class of that error says nothing."""


@contextlib.contextmanager
def store_faults(where: str) -> Iterator[None]:
    """Turn what obstore raises through Zarr into StoreError or PermissionError; all else passes.

    Args:
        where: what messages call the place.
    """
    try:
        yield
    except Exception as error:
        kind = type(error)
        if kind.__module__.partition(".")[0] != "obstore":
            raise
        short = f"{error}".strip().partition("\n")[0][:300] or kind.__name__
        if kind.__name__ in _REFUSALS or _REFUSED in short:
            message = f"the store refuses ({short}); check the credentials and what they allow"
            raise PermissionError(errno.EACCES, message, where) from error
        raise StoreError(f"{where}: the store did not answer as it should ({short})") from error


def lies_in_the_bytes(error: Exception) -> bool:
    """Whether a failed read is the fault of the stored bytes.

    Not so for what is raised on purpose (a store that does not answer), nor for errors of the machine: OSError with
    a number. A codec's own OSError (``gzip.BadGzipFile``) has none. A codec that believes a damaged header asks for
    absurd amounts of memory, so MemoryError counts: it is judged by reading each stored chunk alone.
    """
    return not isinstance(error, OvertileError) and not (isinstance(error, OSError) and error.errno is not None)
