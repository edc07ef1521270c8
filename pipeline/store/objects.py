"""A prefix of an S3-compatible object store as a place, through obstore (Rust's object_store).

Who may read and write, and where the service is, is said as for every other S3 client: by ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_REGION``, ``AWS_ENDPOINT_URL`` (with ``AWS_ALLOW_HTTP=true`` for
a service without TLS), ``AWS_SKIP_SIGNATURE=true`` for public buckets, or the machine's own role.

Connections that break and answers of 5xx are tried again by obstore, with backoff, for ``OVERTILE_STORE_PATIENCE``
seconds (60). What fails after that is a :class:`pipeline.errors.StoreError`: a fault of the store, never an absence.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from zarr.storage import ObjectStore

from pipeline.errors import InputError, StoreError
from pipeline.store.place import Entry, Stat

if TYPE_CHECKING:
    from obstore.store import S3Store

try:
    import obstore
    from obstore import exceptions, store
except ImportError:  # an extra: only those who use object stores need it
    obstore = None  # type: ignore[assignment]

PATIENCE = 60.0
"""Seconds that a request is tried again for, where the environment says nothing."""

AT_ONCE = 16
"""Requests for size and identity that are under way at once."""


class ObjectPlace:
    """A prefix of a bucket.

    Args:
        bucket: name of the bucket.
        prefix: keys are below it; without slashes at its ends.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._store = _connect(bucket, prefix)

    def __repr__(self) -> str:
        return f"ObjectPlace({self.url!r})"

    @property
    def url(self) -> str:
        """The prefix, as ``s3://bucket/prefix``."""
        return f"s3://{self._bucket}/{self._prefix}"

    def at(self, key: str) -> ObjectPlace:
        """Return a longer prefix."""
        return ObjectPlace(self._bucket, f"{self._prefix}/{key.strip('/')}")

    def beside(self, ending: str) -> ObjectPlace:
        """Return the prefix with an ending."""
        return ObjectPlace(self._bucket, self._prefix + ending)

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        with self._faults(key):
            return bytes(obstore.get(self._store, key).bytes())

    def versioned(self, key: str) -> tuple[bytes, str]:
        """Return an object's bytes and its etag."""
        with self._faults(key):
            found = obstore.get(self._store, key)
            return bytes(found.bytes()), str(found.meta["e_tag"])

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
            etag: of the version that is replaced.

        Returns:
            The new version's etag; None where another version, or none, is there.
        """
        with self._faults(key):
            try:
                made = obstore.put(self._store, key, data, mode={"e_tag": etag}, use_multipart=False)
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                try:
                    found, version = self.versioned(key)
                except FileNotFoundError:
                    return None
                return version if found == data else None
            except (exceptions.NotFoundError, FileNotFoundError):
                return None
            return str(made["e_tag"])

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
                yield Entry(str(found["path"]), _stat(found))

    def appender(self, key: str) -> ObjectAppender:
        """Begin a row of objects below ``key``."""
        return ObjectAppender(self, key)

    def zarr_store(self, *, read_only: bool) -> ObjectStore[S3Store]:
        """Return the prefix as a Zarr store."""
        return ObjectStore(self._store, read_only=read_only)

    def _stat(self, key: str) -> Stat | None:
        try:
            with self._faults(key):
                return _stat(obstore.head(self._store, key))
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _faults(self, key: str) -> Iterator[None]:
        """Turn what obstore raises into FileNotFoundError, PermissionError or StoreError."""
        try:
            yield
        except (exceptions.NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(errno.ENOENT, "no such object", f"{self.url}/{key}") from error
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise self._refused(key, error) from error
        except exceptions.BaseError as error:
            if (
                "status code: 403" in f"{error}" or "403 Forbidden" in f"{error}"
            ):  # a refused listing comes as this
                raise self._refused(key, error) from error
            raise StoreError(
                f"{self.url}/{key}: the store did not answer as it should ({_short(error)})"
            ) from error

    def _refused(self, key: str, error: BaseException) -> PermissionError:
        message = f"the store refuses ({_short(error)}); check the credentials and what they allow"
        return PermissionError(errno.EACCES, message, f"{self.url}/{key}")


class ObjectAppender:
    """A row of immutable objects ``KEY/00000001``, ...: one for everything between two syncs."""

    def __init__(self, place: ObjectPlace, key: str) -> None:
        self._place = place
        self._key = key
        self._count = 0
        self._waiting: list[bytes] = []

    def append(self, data: bytes) -> None:
        """Keep bytes until the next sync."""
        self._waiting.append(data)

    def sync(self) -> None:
        """Store what waits as the next object; what could not be stored waits on."""
        if self._waiting:
            self._place.put(f"{self._key}/{self._count + 1:08d}", b"".join(self._waiting))
            self._count += 1
            self._waiting.clear()

    def close(self) -> None:
        """Store what waits."""
        self.sync()


def _connect(bucket: str, prefix: str) -> S3Store:
    settings = (
        (name, value) for name, value in os.environ.items() if name.startswith(("AWS_", "OVERTILE_STORE_"))
    )
    return _connected(bucket, prefix, tuple(sorted(settings)))


@functools.lru_cache(maxsize=64)
def _connected(bucket: str, prefix: str, settings: tuple[tuple[str, str], ...]) -> S3Store:
    """Return a client; one for equal settings, as each has connections of its own."""
    if obstore is None:
        raise InputError(f"s3://{bucket}/{prefix}: object stores need the extra: pip install 'overtile[s3]'")
    said = dict(settings)
    plain = said.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes")  # client options hide the variable
    try:
        patience = float(said.get("OVERTILE_STORE_PATIENCE", PATIENCE))
        return store.S3Store(
            bucket,
            prefix=prefix or None,
            client_options={"timeout": timedelta(seconds=max(5.0, patience / 2)), "allow_http": plain},
            retry_config={"max_retries": 100, "retry_timeout": timedelta(seconds=patience)},
        )
    except Exception as error:  # whatever obstore makes of a bad setting
        raise InputError(f"s3://{bucket}/{prefix}: the object store is not set up ({_short(error)})") from error


def _stat(found: Any) -> Stat:
    return Stat(int(found["size"]), str(found["e_tag"] or found["last_modified"].isoformat()))


def _short(error: BaseException) -> str:
    """Return the first line of an error of obstore, which goes on with its whole history."""
    return f"{error}".strip().splitlines()[0][:300] if f"{error}".strip() else type(error).__name__
