"""Folders appear whole or not at all: they are filled under another name, and get their own when nothing is lacking."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputError
from pipeline.store import fsync

ENDING = ".unfinished"
"""What stands behind the name of a folder that is being filled."""


@contextlib.contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which then gets the name ``target`` durably, in one step.

    What an export left that was killed is removed first. Where filling fails, nothing is left. One process at a time
    fills it: the folder is locked, and the lock goes with its process.

    Args:
        target: must not exist; the folder around it must.

    Raises:
        InputError: something is there, the folder around it is not, or another process is filling it.
    """
    check_new(target)
    folder = target.with_name(target.name + ENDING)
    folder.mkdir(exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _take(lock, folder, target)
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        try:
            yield folder
            os.sync()  # one flush for thousands of files, instead of one each
            folder.rename(target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        fsync(target.parent)
    finally:
        os.close(lock)


def check_new(target: Path) -> None:
    """Raise InputError unless a new folder can be made there."""
    if target.exists() or target.is_symlink():
        raise InputError(f"target {target}: exists already; choose another one or remove it")
    if not target.absolute().parent.is_dir():
        raise InputError(f"target {target}: there is no folder {target.absolute().parent}; make it first")


def _take(lock: int, folder: Path, target: Path) -> None:
    """Lock the folder, and see that it is still the one of this name and that nobody was faster."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = folder.exists() and os.path.samestat(os.fstat(lock), folder.stat()) and not target.exists()
    except BlockingIOError:
        mine = False
    if not mine:
        raise InputError(
            f"target {target}: another process is exporting to it; wait for it, or choose another one"
        )
