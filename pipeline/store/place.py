"""The interface of a place: objects by key, below one folder or prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from zarr.abc.store import Store


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of a stored object without reading it.

    Attributes:
        size: its length in bytes.
        identity: changes when the object is written again: an object store's etag; size and time of the last change
            of a file.
    """

    size: int
    identity: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing.

    Attributes:
        key: its key inside the place.
        stat: its size and identity.
    """

    key: str
    stat: Stat


class Appender(Protocol):
    """The writing end of something that only grows. Not for several threads at once."""

    def append(self, data: bytes) -> None:
        """Take bytes in; they are kept when :meth:`sync` has returned, and perhaps before."""
        ...

    def sync(self) -> None:
        """Make everything that was taken in durable."""
        ...

    def close(self) -> None:
        """Make everything durable, and take in nothing more."""
        ...


class Place(Protocol):
    """A folder, or a prefix of an object store. Keys are relative, with ``/`` between their parts.

    Every operation raises OSError (of the machine), :class:`pipeline.errors.StoreError` (the store did not answer) or
    PermissionError where it cannot be carried out. An object that cannot be reached is never taken for a missing one.
    """

    @property
    def url(self) -> str:
        """Where it is, as people write it."""
        ...

    def at(self, key: str) -> Place:
        """Return the place of a folder inside this one."""
        ...

    def beside(self, ending: str) -> Place:
        """Return the place whose name is this one's with ``ending`` behind it."""
        ...

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def tail(self, key: str, count: int) -> bytes:
        """Return the last ``count`` bytes of an object, or all of a shorter one.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def stats(self, keys: Sequence[str]) -> list[Stat | None]:
        """Return size and identity of each object; None for each that is not there."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Store an object, atomically and durably: others see the old bytes or the new ones."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Store an object unless there is one; of many processes that try, one wins.

        Args:
            key: where.
            data: with something unique to the caller in it, so that it recognises its own after a lost response.

        Returns:
            Whether this call made it.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        ...

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every object below a folder (``""``: all), in no particular order."""
        ...

    def appender(self, key: str) -> Appender:
        """Begin something that grows: a file of this key, or objects below it; there must be none yet."""
        ...

    def zarr_store(self, *, read_only: bool) -> Store:
        """Return the place as a Zarr store."""
        ...
