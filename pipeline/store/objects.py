"""A prefix of an object store (S3, Google, Azure), or a folder behind https, as a place.

How to reach it is told by the environment, see :mod:`pipeline.store.clients`. What lies behind https is only read, and
cannot be listed: its objects are asked for one by one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import zarr.abc.store
from zarr.storage import ObjectStore

from pipeline.errors import InputError
from pipeline.store.address import SCHEMES
from pipeline.store.clients import connect, exceptions, faults, obstore, stat_of
from pipeline.store.place import Entry, Stat

AT_ONCE = 16
"""Requests for size and identity that are under way at once."""

_VERSIONS = {"gs": "version"}
"""What tells versions of an object apart in a conditional put, where it is not the etag."""


class ObjectPlace:
    """A prefix of a bucket.

    Args:
        bucket: name of the bucket, container or host.
        prefix: keys are below it; without slashes at its ends.
        scheme: kind of store.
    """

    can_list = True
    """Whether :meth:`entries` can tell what there is."""

    def __init__(self, bucket: str, prefix: str, *, scheme: str = "s3") -> None:
        self._scheme = scheme
        self._bucket = bucket
        self._prefix = prefix
        self._store = connect(scheme, bucket, prefix)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """The prefix, as ``s3://bucket/prefix``."""
        return f"{self._scheme}://{self._bucket}/{self._prefix}"

    def at(self, key: str) -> ObjectPlace:
        """Return a longer prefix."""
        return type(self)(self._bucket, f"{self._prefix}/{key.strip('/')}", scheme=self._scheme)

    def beside(self, ending: str) -> ObjectPlace:
        """Return the prefix with an ending."""
        return type(self)(self._bucket, self._prefix + ending, scheme=self._scheme)

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        with self._faults(key):
            return bytes(obstore.get(self._store, key).bytes())

    def versioned(self, key: str) -> tuple[bytes, str]:
        """Return an object's bytes and its version: the etag, in Google's store the generation."""
        with self._faults(key):
            found = obstore.get(self._store, key)
            return bytes(found.bytes()), self._version(found.meta)

    def tail(self, key: str, count: int) -> bytes:
        """Return the end of an object."""
        with self._faults(key):
            return bytes(obstore.get(self._store, key, options={"range": {"suffix": count}}).bytes())

    def stats(self, keys: Sequence[str]) -> list[Stat | None]:
        """Return size and identity of objects, asked for side by side."""
        if len(keys) < 2:
            return [self._stat(key) for key in keys]
        with ThreadPoolExecutor(min(AT_ONCE, len(keys))) as pool:
            return list(pool.map(self._stat, keys))

    def put(self, key: str, data: bytes) -> None:
        """Store an object in one request."""
        with self._faults(key):
            obstore.put(self._store, key, data, use_multipart=False)

    def create(self, key: str, data: bytes) -> bool:
        """Store an object unless there is one: a put with ``If-None-Match: *``."""
        with self._faults(key):
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                return self.get(key) == data  # its own, where the answer to a first try was lost
        return True

    def replace(self, key: str, data: bytes, etag: str) -> str | None:
        """Store an object in place of the version of this etag, if that is still there.

        Args:
            key: where.
            data: with something unique to the caller in it, as for :meth:`create`.
            etag: of the version that is replaced, as :meth:`versioned` told it.

        Returns:
            The new version's etag; None where another version, or none, is there.
        """
        mode: Any = {_VERSIONS.get(self._scheme, "e_tag"): etag}
        with self._faults(key):
            try:
                made = obstore.put(self._store, key, data, mode=mode, use_multipart=False)
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                try:
                    found, version = self.versioned(key)
                except FileNotFoundError:
                    return None
                return version if found == data else None
            except (exceptions.NotFoundError, FileNotFoundError):
                return None
            return self._version(made)

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._faults(key), contextlib.suppress(exceptions.NotFoundError, FileNotFoundError):
            obstore.delete(self._store, key)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every object below a prefix."""
        pages = obstore.list(self._store, prefix.strip("/") or None, chunk_size=1000)
        while True:
            with self._faults(prefix):
                page = next(pages, None)
            if page is None:
                return
            for found in page:
                yield Entry(str(found["path"]), stat_of(found))

    def appender(self, key: str) -> ObjectAppender:
        """Begin a row of objects below ``key``."""
        return ObjectAppender(self, key)

    def zarr_store(self, *, read_only: bool) -> zarr.abc.store.Store:
        """Return the prefix as a Zarr store."""
        return ObjectStore(self._store, read_only=read_only)

    def _version(self, found: Any) -> str:
        return str(found[_VERSIONS.get(self._scheme, "e_tag")])

    def _stat(self, key: str) -> Stat | None:
        try:
            with self._faults(key):
                return stat_of(obstore.head(self._store, key))
        except FileNotFoundError:
            return None

    def _faults(self, key: str) -> contextlib.AbstractContextManager[None]:
        return faults(f"{self.url}/{key}")


class WebPlace(ObjectPlace):
    """A folder behind https: read-only, and without listings."""

    can_list = False

    def put(self, key: str, data: bytes) -> None:
        """Refuse."""
        self._refuse()

    def create(self, key: str, data: bytes) -> bool:
        """Refuse."""
        self._refuse()

    def replace(self, key: str, data: bytes, etag: str) -> str | None:
        """Refuse."""
        self._refuse()

    def delete(self, key: str) -> None:
        """Refuse."""
        self._refuse()

    def appender(self, key: str) -> ObjectAppender:
        """Refuse."""
        self._refuse()

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Refuse: a web server does not tell what it has."""
        raise InputError(
            f"{self.url}: what lies behind https is only read, and cannot be listed; name one volume to read"
        )

    def zarr_store(self, *, read_only: bool) -> zarr.abc.store.Store:
        """Return the folder as a Zarr store for reading."""
        if not read_only:
            self._refuse()
        return super().zarr_store(read_only=True)

    def _refuse(self) -> NoReturn:
        writable = ", ".join(f"{name}://" for name, scheme in SCHEMES.items() if scheme.writable)
        raise InputError(f"{self.url}: https is only read; what is written goes to a path or to one of {writable}")


class ObjectAppender:
    """A row of immutable objects ``KEY/00000001``, ...: one for everything between two syncs.

    A request that failed may still be carried out by the store, and later than the ones after it. So an object is tried
    again with the bytes that it was first tried with, and what has come since goes into the next one.
    """

    def __init__(self, place: ObjectPlace, key: str) -> None:
        self._place = place
        self._key = key
        self._count = 0
        self._waiting: list[bytes] = []
        self._begun = b""

    def append(self, data: bytes) -> None:
        """Keep bytes until the next sync."""
        self._waiting.append(data)

    def sync(self) -> None:
        """Store what waits; what could not be stored waits on."""
        while self._begun or self._waiting:
            if not self._begun:
                self._begun = b"".join(self._waiting)
                self._waiting.clear()
            self._place.put(f"{self._key}/{self._count + 1:08d}", self._begun)
            self._count += 1
            self._begun = b""

    def close(self) -> None:
        """Store what waits."""
        self.sync()
