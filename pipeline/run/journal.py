"""The journal: append-only lines, each with its checksum, one file per epoch.

A process that takes a run over starts a file of its own, so nothing is ever appended behind a line that was torn
when its writer died. A line that is torn or damaged is left out on replay: its chunk is computed again. The worst
that a crash can do is to repeat a chunk, never to claim one.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.run.records import Record
from pipeline.store import fsync

GROUP_RECORDS, GROUP_SECONDS = 64, 1.0
"""A group of records is forced to the disk when it has this many, or when its first one is this old."""


def frame(record: Record) -> bytes:
    """Return a record as one line: CRC-32 of the text in hexadecimal, a space, the text, a newline."""
    text = json.dumps(record.to_json(), separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def unframe(line: bytes) -> Record | None:
    """Return the record of a line; None if the line is torn or damaged."""
    if len(line) < 12 or line[8:9] != b" " or not line.endswith(b"\n"):
        return None
    text = line[9:-1]
    try:
        if int(line[:8], 16) != zlib.crc32(text):
            return None
        return Record.from_json(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def epochs(folder: Path) -> list[Path]:
    """Return the journal's files, oldest epoch first."""
    return sorted((path for path in folder.glob("*.jsonl") if path.stem.isdecimal()), key=_epoch)


def _epoch(path: Path) -> int:
    return int(path.stem)


def replay(folder: Path) -> Iterator[Record | None]:
    """Yield every record of every epoch in order; None for each line that is torn or damaged."""
    for path in epochs(folder):
        with path.open("rb") as file:
            for line in file:
                yield unframe(line)


class Journal:
    """The writing end of a journal: one epoch, one process, any number of threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        existing = epochs(folder)
        self.epoch = _epoch(existing[-1]) + 1 if existing else 1
        self._file = (folder / f"{self.epoch:06d}.jsonl").open("xb", buffering=0)
        fsync(folder)
        self._lock = threading.Lock()
        self._torn = False
        self._unsynced = 0
        self._since = time.monotonic()

    def append(self, records: list[Record]) -> None:
        """Append records; they survive the death of this process at once, a power loss after the group's sync."""
        if not records:
            return
        lines = b"".join(frame(record) for record in records)
        with self._lock:
            if self._unsynced == 0:
                self._since = time.monotonic()
            self._write(lines)
            self._unsynced += len(records)
            if self._unsynced >= GROUP_RECORDS or time.monotonic() - self._since >= GROUP_SECONDS:
                self._sync()

    def close(self) -> None:
        """Force everything to the disk and close the file."""
        with self._lock:
            if not self._file.closed:
                self._sync()
                self._file.close()

    def _write(self, lines: bytes) -> None:
        """Write whole lines; after a write that was cut short (disk full), begin on a new one."""
        view = memoryview(b"\n" + lines if self._torn else lines)
        self._torn = True
        while view:
            view = view[self._file.write(view) :]
        self._torn = False

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._unsynced = 0
