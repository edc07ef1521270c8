"""Files appear whole or not at all: they are written beside their target and then take its place."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputError
from pipeline.store import PARTIAL, fsync


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Give a path to write to, which then takes the place of ``target``, atomically and durably.

    What was there stays until then, and for good where writing fails; then nothing else is left behind either.

    Args:
        target: the file; its folder is there. The path given has the same ending.

    Raises:
        InputError: the folder is not there, or the target is a folder.
    """
    check_target(target)
    partial = target.with_name(f"{uuid.uuid4().hex[:12]}{PARTIAL}.{target.name}")
    try:
        yield partial
        fsync(partial)
        os.replace(partial, target)
    finally:
        for left in list(target.parent.iterdir()):  # also what a format keeps beside it while it writes
            if left.name.startswith(partial.name):
                left.unlink()
    fsync(target.parent)


def check_target(target: Path) -> None:
    """Raise InputError unless a file can be written there."""
    if target.is_dir():
        raise InputError(f"target {target}: is a folder; name a file")
    if not target.absolute().parent.is_dir():
        raise InputError(f"target {target}: there is no folder {target.absolute().parent}; make it first")
