"""From what a user writes to a place."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import InputError
from pipeline.store.local import LocalPlace
from pipeline.store.objects import ObjectPlace
from pipeline.store.place import Place

SCHEMES = ("file", "s3")
"""What may stand before ``://``."""


def open_place(url: str | Path) -> Place:
    """Return the place of a path, ``file:///...`` or ``s3://bucket/prefix``. Nothing is read or written.

    Raises:
        InputError: another scheme, a chained address, credentials or a query in it, no bucket or no prefix.
    """
    scheme, rest = _split(url)
    if scheme == "file":
        return LocalPlace(rest)
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if not bucket or not prefix or "@" in bucket or any(c in rest for c in "?#") or "//" in prefix:
        raise InputError(
            f"{url}: not an address of the form s3://bucket/prefix; credentials go into the environment"
        )
    return ObjectPlace(bucket, prefix)


def absolute(url: str | Path) -> str:
    """Return an address that means the same in any process: a path is made absolute, an address is kept.

    Raises:
        InputError: as :func:`open_place`.
    """
    scheme, rest = _split(url)
    return str(Path(rest).resolve()) if scheme == "file" else f"{scheme}://{rest.rstrip('/')}"


def same_place(one: str | Path, other: str | Path) -> bool:
    """Whether two addresses are one place, or one lies inside the other."""
    a, b = absolute(one).rstrip("/") + "/", absolute(other).rstrip("/") + "/"
    return a.startswith(b) or b.startswith(a)


def _split(url: str | Path) -> tuple[str, str]:
    """Return the scheme and what follows it; a path has the scheme ``file``."""
    text = str(url)
    if "::" in text:
        raise InputError(f"{text}: chained addresses are not read; name the volume itself")
    scheme, mark, rest = text.partition("://")
    if not mark:
        return "file", text
    if scheme not in SCHEMES:
        raise InputError(
            f"{text}: addresses are {' or '.join(f'{s}://' for s in SCHEMES)} or a path, not {scheme}://"
        )
    if scheme == "file" and not rest.startswith("/"):
        raise InputError(f"{text}: a file address is file:///absolute/path")
    return scheme, rest
