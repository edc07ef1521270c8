"""Checks of where results go: room, the kind of file system, and whether a store keeps what it is given."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.errors import OvertileError
from pipeline.jobs.doctor.finding import FAILED, OK, Finding, judged
from pipeline.store import Place, open_place
from pipeline.store.address import SCHEMES, hidden, parse_address

GIB = 1 << 30

LITTLE, TOO_LITTLE = 10 * GIB, GIB
"""Bytes of room below which there is a warning, and below which a run cannot be expected to end."""

NETWORK = ("nfs", "cifs", "smb", "afs", "9p", "sshfs")
"""Beginnings of the names of network file systems that are known to keep attributes of files for a while."""

VOLATILE = {
    "tmpfs": "it is memory: what is there counts against it, and is gone after a restart",
    "ramfs": "it is memory: what is there counts against it, and is gone after a restart",
    "overlay": "it is a container's own layer: what is there is gone with the container; mount a volume",
}
"""File systems that do not keep results, and why."""


@dataclass(frozen=True, slots=True)
class Disk:
    """Where a path lies.

    Attributes:
        path: the first folder on the way up that exists.
        free: bytes of room.
        kind: of the file system: ext4, nfs4, tmpfs ...; empty where it is not known.
        writable: whether this user may write there.
    """

    path: str
    free: int
    kind: str
    writable: bool


def find_disk(path: str | Path) -> Disk:
    """Look at the disk that a path is on, or would be."""
    place = Path(path).expanduser().absolute()
    there = next(folder for folder in (place, *place.parents) if folder.is_dir())
    mounts = [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    return Disk(
        str(there), shutil.disk_usage(there).free, kind_of(there.resolve(), mounts), os.access(there, os.W_OK)
    )


def kind_of(path: Path, mounts: Sequence[tuple[str, str]]) -> str:
    """Return the file system of a path: of the nearest mount point above it; later ones hide earlier ones.

    Args:
        path: without links.
        mounts: mount points and their file systems.
    """
    above = [(len(Path(point).parts), number, kind) for number, (point, kind) in enumerate(mounts)
             if path.is_relative_to(point)]  # fmt: skip
    return max(above)[2] if above else ""


def check_disk(disk: Disk) -> Finding:
    """Check room, rights and file system of a folder for results."""
    found = f"{disk.path}: {disk.free / GIB:.1f} GiB free, {disk.kind or 'unknown file system'}"
    failed, warned = [], []
    if not disk.writable:
        failed.append("you may not write there; change its rights, or choose another folder")
    if disk.free < TOO_LITTLE:
        failed.append("there is no room for a result; make some")
    elif disk.free < LITTLE:
        warned.append("there is little room; `overtile plan` says how much a run writes")
    if disk.kind.startswith(NETWORK):
        warned.append(
            "a network file system: mount it hard, without nolock, with synchronous closing; check with --store that it"
            " has one winner where two processes create a file"
        )
    elif disk.kind in VOLATILE:
        warned.append(VOLATILE[disk.kind])
    return judged("disk", found, failed=failed, warned=warned)


def check_store(url: str) -> Finding:
    """Try a store as a run uses it: an object is created once, read, listed by its size and removed.

    Args:
        url: folder, or prefix of an object store; a web address is only read.
    """
    name = hidden(url)
    try:
        place = open_place(url)
        if not SCHEMES[parse_address(url).scheme].writable:
            place.stats(["zarr.json"])
            return Finding("store", OK, f"{name}: answers; it can be read only")
        wrong = _trial(place, f"overtile-doctor-{uuid.uuid4().hex}")
    except (OvertileError, OSError) as error:
        advice = "look at the address, the credentials (AWS_... and the like) and the rights"
        return Finding("store", FAILED, f"{name}: {error}", advice)
    advice = "runs are not safe there: choose another store" if wrong else ""
    return Finding("store", FAILED if wrong else OK, f"{name}: {wrong or 'creates, reads and removes'}", advice)


def _trial(place: Place, key: str) -> str:
    """Return what a store does wrong; nothing if it does all right."""
    try:
        if not place.create(key, b"one"):
            return "an object that was not there could not be created"
        if place.create(key, b"two"):
            return "of two that create an object, both win: two processes could write to one result"
        if place.get(key) != b"one":
            return "an object does not read as it was written"
        stat = place.stats([key])[0]
        if stat is None or stat.size != 3:
            return "an object's size is not what was written"
        return ""
    finally:
        place.delete(key)
