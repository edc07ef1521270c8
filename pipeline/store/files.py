"""One file to read, wherever it lies: on this machine, in an object store, behind https."""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Protocol

from pipeline.errors import InputError, StoreError
from pipeline.store.address import Address, has_pattern, parse_address
from pipeline.store.clients import connect, faults, obstore
from pipeline.store.place import Stat
from pipeline.store.remote import Range, RemoteFile

_FOLDER = re.compile(r"[*?\[]")


class File(Protocol):
    """One file. Small and without open handles: any number of threads may use it at once."""

    @property
    def url(self) -> str:
        """Its address, for :func:`open_file`."""
        ...

    @property
    def name(self) -> str:
        """The last part of its address."""
        ...

    @property
    def path(self) -> Path | None:
        """Where it is on this machine; None of a file elsewhere."""
        ...

    def stat(self) -> Stat:
        """Return its size and identity.

        Raises:
            FileNotFoundError: it is not there, or is a folder.
            PermissionError: it may not be read.
            StoreError: the store does not answer.
        """
        ...

    def open(self) -> BinaryIO:
        """Open it for reading, with a position that can be set; for one thread at a time.

        Raises:
            FileNotFoundError, PermissionError, StoreError: as :meth:`stat`; so does every read.
        """
        ...

    def ranges(self, wanted: Sequence[Range], stat: Stat | None = None) -> list[bytes]:
        """Read parts of the file, from any thread.

        Args:
            wanted: first byte and number of bytes of each part.
            stat: of the version that is meant; None for the one that is there now.

        Returns:
            the bytes of each part, in the order of ``wanted``.

        Raises:
            FileNotFoundError, PermissionError, StoreError: as :meth:`stat`.
            StoreError: another version of the file is there now, or the file ends before a part does.
        """
        ...


class LocalFile:
    """A file of this machine.

    Args:
        path: where.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"LocalFile({self.url!r})"

    @property
    def path(self) -> Path | None:
        """Where it is."""
        return self._path

    @property
    def url(self) -> str:
        """Its path."""
        return str(self._path)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._path.name

    def stat(self) -> Stat:
        """Return size and identity: size and time of the last change."""
        found = os.stat(self._path)
        if stat.S_ISDIR(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, "a folder, no file", self.url)
        return _local_stat(found)

    def open(self) -> BinaryIO:
        """Open it for reading."""
        return self._path.open("rb")

    def ranges(self, wanted: Sequence[Range], stat: Stat | None = None) -> list[bytes]:
        """Read parts of the file."""
        handle = os.open(self._path, os.O_RDONLY)
        try:
            if stat is not None and _local_stat(os.fstat(handle)) != stat:
                raise StoreError(f"{self.url}: it was changed while it was read; begin again")
            return [self._part(handle, start, count) for start, count in wanted]
        finally:
            os.close(handle)

    def _part(self, handle: int, start: int, count: int) -> bytes:
        data = os.pread(handle, count, start)
        while len(data) < count:  # a part of more than 2 GiB comes in several
            more = os.pread(handle, count - len(data), start + len(data))
            if not more:
                raise StoreError(f"{self.url}: it ends at byte {start + len(data)}, not at {start + count}")
            data += more
        return data


def open_file(url: str | Path) -> File:
    """Return the file of a path or address. Nothing is read; a web server's name is looked up.

    Raises:
        InputError: an address of another form, see :func:`pipeline.store.address.parse_address`; a store that is not
            set up; a web server that is not allowed.
    """
    address = parse_address(url)
    return LocalFile(Path(address.key)) if address.is_local else RemoteFile(address)


def list_files(url: str | Path) -> list[File]:
    """Return the files of a folder or prefix (not of those inside it), or that a pattern matches, by name.

    Args:
        url: a folder, or a pattern of ``*``, ``?``, ``[...]`` and ``**`` for any number of folders.

    Raises:
        InputError: an address behind https, where nothing can be listed.
        PermissionError, StoreError: the store refuses, or does not answer.
    """
    address = parse_address(url, pattern=True)
    if not address.is_local:
        return [RemoteFile(found) for found in _remote_files(address)]
    path = Path(address.key)
    if path.is_dir():
        found = list(path.iterdir())
    else:
        found = [Path(p) for p in glob.glob(str(path), recursive=True)] if has_pattern(path) else []
    return [LocalFile(p) for p in sorted(found) if p.is_file()]


def _remote_files(address: Address) -> list[Address]:
    """Return the addresses of what a prefix holds or a pattern matches."""
    if address.scheme in ("http", "https"):
        raise InputError(f"{address.url}: what lies behind https cannot be listed; name one file, or a Zarr")
    parts = address.key.split("/")
    fixed = next((i for i, part in enumerate(parts) if _FOLDER.search(part)), len(parts))
    prefix, rest = "/".join(parts[:fixed]), parts[fixed:]
    client = connect(address.scheme, address.root, "")
    with faults(address.url):
        if not rest or (len(rest) == 1 and rest[0] != "**"):
            listed = obstore.list_with_delimiter(client, prefix or None)["objects"]
        else:
            listed = [entry for page in obstore.list(client, prefix or None) for entry in page]
    keys = sorted(str(entry["path"]) for entry in listed)
    below = ((key, key[len(prefix) :].strip("/").split("/")) for key in keys)
    return [Address(address.scheme, address.root, key) for key, path in below if not rest or matches(path, rest)]


def matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern, of which ``**`` stands for any number of parts."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(matches(path[i:], pattern[1:]) for i in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and matches(path[1:], pattern[1:])


def _local_stat(found: os.stat_result) -> Stat:
    return Stat(found.st_size, f"{found.st_size}-{found.st_mtime_ns}")
