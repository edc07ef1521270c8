"""The volumes of an archive: found in a folder, a prefix, by a pattern or in a manifest, each with its identity."""

from __future__ import annotations

import fnmatch
import glob
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pipeline.config import CollectionJob
from pipeline.errors import InputError, StoreError
from pipeline.jobs.manifest import is_manifest, read_manifest
from pipeline.store import LocalPlace, Place, absolute, open_file, open_place
from pipeline.store.address import has_pattern, parse_address

ZARR, RUN = ".zarr", ".run"
"""How the names of volumes, and of the folders of runs, end; nothing inside either is a volume of its own."""

DATASET = "::"


@dataclass(frozen=True, slots=True)
class Member:
    """One volume of a collection.

    Attributes:
        url: where it is; the same in every run.
        path: where it is below the collection's source, for naming.
        identity: changes when it is written again: size and time of a file, an object's etag, and a digest over
            those of all that a Zarr or folder holds; None where it cannot be reached.
        settings: those that are its own.
        error: why it cannot be reached.
    """

    url: str
    path: str
    identity: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def find_members(job: CollectionJob) -> list[Member]:
    """Return the volumes of a collection, by path.

    Raises:
        InputError: the source is not there, is a manifest that is no table, or an address of another form.
    """
    if is_manifest(job.input):
        return _of_manifest(job.input)
    found = _of_pattern(job) if has_pattern(job.input) else _of_place(job.input, job.accept)
    return sorted(found, key=lambda member: member.path)


def would_take(job: CollectionJob, url: str) -> bool:
    """Whether a volume of this address would belong to a collection that is no manifest."""
    if is_manifest(job.input):
        return False
    if not has_pattern(job.input):
        base = absolute(job.input).rstrip("/") + "/"
        return url.startswith(base) and _volume_key(url[len(base) :], job.accept) is not None
    address = parse_address(job.input, pattern=True)
    pattern = (
        os.path.abspath(address.key) if address.is_local else f"{address.scheme}://{address.root}/{address.key}"
    )
    return _matches(url.split("/"), pattern.split("/")) and url.lower().endswith(job.accept)


def identity_of(url: str) -> str:
    """Return the identity of one volume.

    Args:
        url: a file, a Zarr, a folder or a prefix; ``file.h5::/dataset`` is its file.

    Raises:
        FileNotFoundError: there is nothing.
        OSError, StoreError: it cannot be reached.
    """
    url = url.partition(DATASET)[0]
    address = parse_address(url)
    folder = Path(address.key).is_dir() if address.is_local else url.rstrip("/").endswith(ZARR)
    if not folder:
        return open_file(url).stat().identity
    found = _Listing()
    for entry in open_place(url).entries():
        found.add(entry.key, entry.stat.identity)
    if not found.count:
        raise FileNotFoundError(f"{url}: is not there, or empty")
    return found.identity


def is_settled(member: Member, seconds: float) -> bool:
    """Whether a volume on this machine has stayed as it is for so long; one elsewhere always counts as settled.

    Objects of a store appear whole. A Zarr whose upload goes on lacks chunks, and changes, so that the next run
    does those again.
    """
    address = parse_address(member.url.partition(DATASET)[0])
    if not address.is_local:
        return True
    path = Path(address.key)
    latest = max((os.stat(file).st_mtime for file in _files(path)), default=0.0)
    return time.time() - latest >= seconds


def name_of(path: str, suffixes: tuple[str, ...]) -> str:
    """Return the last part of a path without the longest suffix that it ends in."""
    name = path.partition(DATASET)[0].rstrip("/").rpartition("/")[2]
    fitting = [len(suffix) for suffix in suffixes if name.lower().endswith(suffix) and len(name) > len(suffix)]
    return name[: -max(fitting)] if fitting else name


class _Listing:
    """Takes objects in, in any order, and gives one digest of them all."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, key: str, identity: str) -> None:
        self.count += 1
        digest = blake2b(f"{key}\0{identity}".encode(), digest_size=8).digest()
        self._sum = (self._sum + int.from_bytes(digest, "big")) % 2**64

    @property
    def identity(self) -> str:
        return f"{self.count}-{self._sum:016x}"


def _of_manifest(url: str) -> list[Member]:
    """Return the rows of a manifest; paths that are not absolute are relative to it."""
    base = url.rpartition("/")[0] or "."
    found = []
    for path, settings in read_manifest(url):
        where = path if "://" in path or path.startswith("/") else f"{base}/{path}"
        found.append(_member(where, path.rpartition("://")[2].strip("/"), settings))
    return found


def _of_pattern(job: CollectionJob) -> Iterator[Member]:
    address = parse_address(job.input, pattern=True)
    parts = address.key.split("/")
    fixed = next(i for i, part in enumerate(parts) if has_pattern(part))
    base = "/".join(parts[:fixed])
    if address.is_local:
        for path in glob.glob(address.key, recursive=True):
            below = os.path.relpath(path, base or ".")
            if _volume_key(below, job.accept) == below:
                yield _member(path, below, {})
        return
    if not base:
        raise InputError(f"{job.input}: a pattern in a store needs a prefix before its first sign")
    root = f"{address.scheme}://{address.root}/{base}"
    for member in _of_place(root, job.accept):
        if _matches(member.path.split("/"), parts[fixed:]):
            yield member


def _of_place(source: str, accept: tuple[str, ...]) -> Iterator[Member]:
    """Yield all volumes below a folder or prefix, by one listing of it.

    Raises:
        InputError: there is no such folder, or it is a volume itself.
    """
    place = open_place(source)
    if isinstance(place, LocalPlace) and not place.root.is_dir():
        raise InputError(f"{source}: there is no such folder; a collection is a folder, a pattern or a manifest")
    if place.url.rstrip("/").endswith(ZARR):
        raise InputError(f"{source}: is one volume; name the folder that it lies in, or use `overtile segment`")
    for key, identity in _listed(place, accept).items():
        yield Member(absolute(f"{place.url}/{key}"), key, identity)


def _listed(place: Place, accept: tuple[str, ...]) -> dict[str, str]:
    """Return the keys of all volumes in a place, each with its identity."""
    files: dict[str, str] = {}
    folders: dict[str, _Listing] = {}
    for entry in place.entries():
        key = _volume_key(entry.key, accept)
        if key == entry.key:
            files[key] = entry.stat.identity
        elif key is not None:
            folders.setdefault(key, _Listing()).add(entry.key[len(key) + 1 :], entry.stat.identity)
    return files | {key: listing.identity for key, listing in folders.items()}


def _volume_key(key: str, accept: tuple[str, ...]) -> str | None:
    """Return the key of the volume that an object belongs to; None where it belongs to none."""
    parts = key.split("/")
    for number, part in enumerate(parts, start=1):
        if part.startswith(".") or part.endswith(RUN):
            return None
        if part.lower().endswith(ZARR):
            return "/".join(parts[:number]) if any(part.lower().endswith(suffix) for suffix in accept) else None
    return key if parts[-1].lower().endswith(accept) else None


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether a path fits a pattern part by part; ``**`` stands for any number of parts."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _member(url: str, path: str, settings: Mapping[str, Any]) -> Member:
    base, mark, dataset = url.partition(DATASET)
    where = absolute(base) + mark + dataset
    try:
        return Member(where, path, identity_of(where), settings)
    except (OSError, StoreError) as error:
        return Member(where, path, None, settings, f"{type(error).__name__}: {error}")


def _files(path: Path) -> Iterator[str]:
    if not path.is_dir():
        yield str(path)
        return
    for folder, _, names in os.walk(path):
        yield folder
        yield from (os.path.join(folder, name) for name in names)
