"""Clients of object stores and web servers, through obstore (Rust's object_store), and what their errors mean.

Who may read and write, and where the service is, is said in the environment alone, as for every other client of the
service; ``docs/stores.md`` lists the variables. Connections that break and answers of 5xx are tried again by obstore,
with backoff, for ``OVERTILE_STORE_PATIENCE`` seconds (60). What fails after that is a
:class:`pipeline.errors.StoreError`: a fault of the store, never an absence.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

from pipeline.errors import InputError, StoreError
from pipeline.store.hosts import check_host
from pipeline.store.place import Stat

try:
    import obstore
    from obstore import exceptions, store
except ImportError:  # an extra: only those who use object stores need it
    obstore = None  # type: ignore[assignment]

__all__ = ["Client", "connect", "exceptions", "faults", "is_set", "obstore", "stat_of", "web_key"]

PATIENCE = 60.0
"""Seconds that a request is tried again for, where the environment says nothing."""

Client: TypeAlias = Any
"""One of obstore's stores: obstore is an extra, so its types are not named here."""

_SETTINGS = ("AWS_", "GOOGLE_", "AZURE_", "OVERTILE_")
_YES = ("1", "true", "yes")

_GOOGLE = (
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_BEARER_TOKEN",
    "GOOGLE_SKIP_SIGNATURE",
)
_GOOGLE_FILE = Path(".config/gcloud/application_default_credentials.json")
_AZURE = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_USE_AZURE_CLI",
    "AZURE_SKIP_SIGNATURE",
    "AZURE_STORAGE_USE_EMULATOR",
)
_ROLE = "OVERTILE_MACHINE_ROLE"
"""Says that the machine has a role of its own in the cloud that it runs in, which only the network can tell."""


def connect(scheme: str, root: str, prefix: str) -> Client:
    """Return a client of everything below a prefix; one for equal settings, as each has connections of its own.

    Args:
        scheme: a key of :data:`pipeline.store.address.SCHEMES` but ``file``.
        root: bucket, container or host.
        prefix: keys are below it; empty for all.

    Raises:
        InputError: obstore is not installed, a setting or credential is missing or wrong, a host that is not allowed.
        StoreError: the host's name cannot be resolved.
    """
    settings = ((name, value) for name, value in os.environ.items() if name.startswith(_SETTINGS))
    return _connected(scheme, root, prefix, tuple(sorted(settings)))


@contextlib.contextmanager
def faults(url: str) -> Iterator[None]:
    """Turn what obstore raises into FileNotFoundError, PermissionError or StoreError.

    Args:
        url: what messages call the object.
    """
    try:
        yield
    except (exceptions.NotFoundError, FileNotFoundError) as error:
        raise FileNotFoundError(errno.ENOENT, "no such object", url) from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise _refused(url, error) from error
    except exceptions.BaseError as error:
        text = f"{error}"
        if any(f"status code: {code}" in text for code in (401, 403)) or "403 Forbidden" in text:
            raise _refused(url, error) from error  # a refused listing comes as this
        raise StoreError(f"{url}: the store did not answer as it should ({_short(error)})") from error


def stat_of(found: Any) -> Stat:
    """Return size and identity of an object, from what obstore says of it: the etag, else the time of its change."""
    return Stat(int(found["size"]), str(found["e_tag"] or f"{found['size']}-{found['last_modified'].isoformat()}"))


def is_set(name: str, settings: dict[str, str]) -> bool:
    """Whether a switch is on."""
    return settings.get(name, "").lower() in _YES


@functools.lru_cache(maxsize=64)
def _connected(scheme: str, root: str, prefix: str, settings: tuple[tuple[str, str], ...]) -> Client:
    url = f"{scheme}://{root}/{prefix}"
    if obstore is None:
        raise InputError(f"{url}: what is not on this machine needs the extra: pip install 'overtile[s3]'")
    said = dict(settings)
    if scheme in ("http", "https"):
        _check_web(scheme, root, url, said)
    _check_credentials(scheme, url, said)
    try:
        patience = float(said.get("OVERTILE_STORE_PATIENCE", PATIENCE))
        plain = is_set("AWS_ALLOW_HTTP", said) if scheme == "s3" else scheme == "http"
        options: dict[str, Any] = {
            # client options hide the variable of the same meaning
            "client_options": {"timeout": timedelta(seconds=max(5.0, patience / 2)), "allow_http": plain},
            "retry_config": {"max_retries": 100, "retry_timeout": timedelta(seconds=patience)},
        }
        if scheme in ("http", "https"):
            return store.HTTPStore(f"{url.rstrip('/')}", **options)
        kind = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[scheme]
        return kind(root, prefix=prefix or None, **options)
    except Exception as error:  # whatever obstore makes of a bad setting
        raise InputError(f"{url}: the object store is not set up ({_short(error)}); see docs/stores.md") from error


def _check_web(scheme: str, root: str, url: str, said: dict[str, str]) -> None:
    """Refuse plain http, and machines that are not on the open internet, unless the environment allows them."""
    if scheme == "http" and not is_set("OVERTILE_ALLOW_HTTP", said):
        raise InputError(
            f"{url}: plain http is not read, anyone on the way can change it; use https, or set"
            " OVERTILE_ALLOW_HTTP=1"
        )
    if not is_set("OVERTILE_ALLOW_PRIVATE", said):
        check_host(root, url)


def _check_credentials(scheme: str, url: str, said: dict[str, str]) -> None:
    """Refuse an address whose credentials only the network could provide, where nobody says that it does."""
    if scheme == "az" and not said.get("AZURE_STORAGE_ACCOUNT_NAME"):
        raise InputError(f"{url}: no storage account; set AZURE_STORAGE_ACCOUNT_NAME, see docs/stores.md")
    names = {"gs": _GOOGLE, "az": _AZURE}.get(scheme, ())
    known = not names or any(said.get(name) for name in (*names, _ROLE))
    if not known and not (scheme == "gs" and (Path.home() / _GOOGLE_FILE).is_file()):
        raise InputError(
            f"{url}: no credentials; set one of {', '.join(names)}, or {_ROLE}=1 on a machine that has a role of its"
            " own, see docs/stores.md"
        )


def web_key(key: str) -> str:
    """Return the key of a path that people wrote with ``%20``: obstore writes it so again."""
    return unquote(key)


def _refused(url: str, error: BaseException) -> PermissionError:
    message = f"the store refuses ({_short(error)}); check the credentials and what they allow"
    return PermissionError(errno.EACCES, message, url)


def _short(error: BaseException) -> str:
    """Return the first line of an error of obstore, which goes on with its whole history."""
    return f"{error}".strip().splitlines()[0][:300] if f"{error}".strip() else type(error).__name__
