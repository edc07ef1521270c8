"""What an address may look like: one table of schemes, everything else is refused.

An address names one thing at one place. What would make it mean something else is refused wherever it stands:
chained addresses (``a::b``), credentials before the host, queries, fragments, empty parts and ``..``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError


@dataclass(frozen=True, slots=True)
class Scheme:
    """One kind of address.

    Attributes:
        form: how it is written, for messages.
        writable: whether something can be stored there.
    """

    form: str
    writable: bool = True


SCHEMES = {
    "file": Scheme("file:///absolute/path"),
    "s3": Scheme("s3://bucket/key"),
    "gs": Scheme("gs://bucket/key"),
    "az": Scheme("az://container/key"),
    "https": Scheme("https://host/path", writable=False),
    "http": Scheme("http://host/path", writable=False),
}
"""What may stand before ``://``; a path without it is a local one. Plain http only where the environment allows it."""

CHAIN = "::"
"""Between the parts of a chained address, and between an HDF5 file and a dataset in it."""

_FORBIDDEN = "?#@\\"
_SIGNS = "*?["


@dataclass(frozen=True, slots=True)
class Address:
    """An address in its parts.

    Attributes:
        scheme: a key of :data:`SCHEMES`.
        root: bucket, container, or host with its port; empty of a local path.
        key: what is below it, without slashes at its ends; of a local path, the path.
    """

    scheme: str
    root: str
    key: str

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return self.scheme == "file"

    @property
    def url(self) -> str:
        """The address as people write it."""
        return self.key if self.is_local else f"{self.scheme}://{self.root}/{self.key}"


def parse_address(url: str | Path, *, pattern: bool = False) -> Address:
    """Take an address apart. Nothing is looked up.

    Args:
        url: a path, or an address of one of the schemes.
        pattern: whether ``*``, ``?`` and ``[`` may stand in it.

    Raises:
        InputError: another scheme, a chained address, credentials, a query or a fragment in it, nothing below the host
            or bucket.
    """
    text = str(url)
    if CHAIN in text and ("://" in text or not Path(text).exists()):
        raise InputError(f"{hidden(text)}: chained addresses are not read; name the volume itself")
    scheme, mark, rest = text.partition("://")
    if not mark or isinstance(url, Path):
        return Address("file", "", text)
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise InputError(f"{hidden(text)}: addresses are a path or begin with one of {known}, not {scheme}://")
    if scheme == "file":
        if not rest.startswith("/"):
            raise InputError(f"{text}: a file address is file:///absolute/path")
        return Address("file", "", rest)
    return _remote(text, scheme, rest, pattern=pattern)


def has_pattern(url: str | Path) -> bool:
    """Whether an address has signs of a pattern (``*``, ``?``, ``[``) in it."""
    return any(sign in str(url) for sign in _SIGNS)


def _remote(text: str, scheme: str, rest: str, *, pattern: bool) -> Address:
    root, _, key = rest.partition("/")
    key = key.strip("/")
    parts = key.split("/")
    bad = _FORBIDDEN.replace("?", "") if pattern and SCHEMES[scheme].writable else _FORBIDDEN
    if not root or not key or any(part in ("", ".", "..") for part in parts) or any(c in rest for c in bad):
        raise InputError(
            f"{hidden(text)}: not an address of the form {SCHEMES[scheme].form}, without queries and fragments;"
            " credentials go into the environment"
        )
    return Address(scheme, root, key)


def hidden(text: str) -> str:
    """Return an address without what may be a secret in it: credentials, queries and fragments."""
    scheme, mark, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    if mark:
        host = host.rpartition("@")[2] if "@" in host else host
        path = path.partition("?")[0].partition("#")[0]
    return f"{scheme}{mark}{host}{slash}{path}" if mark else text
