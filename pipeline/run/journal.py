"""The journal: append-only lines, each with its checksum; a file, or a row of objects, per epoch.

A process that takes a run over starts an epoch of its own, so nothing is ever appended behind a line that was torn
when its writer died. A line that is torn or damaged is left out on replay: its chunk is computed again. The worst
that a crash can do is to repeat a chunk, never to claim one.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.run.parts import Part, lines, part_name, survey
from pipeline.run.records import Record, Skips, Sums
from pipeline.store import Place

GROUP_RECORDS, GROUP_SECONDS = 64, 1.0
"""A group of records is made durable when it has this many, or when its first one is this old."""

_DECODER = json.JSONDecoder()


Line = Record | Skips | Sums
"""What a line of a journal says."""


def frame(line: Line) -> bytes:
    """Return a record as one line: CRC-32 of the text in hexadecimal, a space, the text, a newline."""
    text = json.dumps(line.to_json(), separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def parse(line: bytes) -> dict[str, Any] | None:
    """Return what a line says as JSON, of a record, of skips or of sums; None if it is torn or damaged."""
    if len(line) < 12 or line[8:9] != b" " or not line.endswith(b"\n"):
        return None
    text = line[9:-1]
    try:
        if line[:8] != b"%08x" % zlib.crc32(text):  # as it is written: no other way to write a number counts
            return None
        said = text.decode()
        document, end = _DECODER.raw_decode(said)  # json.loads costs a third more
    except ValueError:
        return None
    return document if isinstance(document, dict) and end == len(said) else None


def unframe(line: bytes) -> Line | None:
    """Return the record, the skips or the sums of a line; None if it is torn or damaged."""
    document = parse(line)
    try:
        if document is None:
            return None
        kind = Sums if "sums" in document else Skips if "skip" in document else Record
        return kind.from_json(document)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def replay(place: Place, parts: Sequence[Part] | None = None) -> Iterator[Record | None]:
    """Yield every record of one chunk that the journal has kept, in order; None for each torn or damaged line.

    Args:
        place: where the journal is.
        parts: what to read of it, as a listing showed it; None for all that there is now.
    """
    for line in lines(place, survey(place).parts if parts is None else parts):
        said = unframe(line)
        if not isinstance(said, Sums | Skips):
            yield said


class Journal:
    """The writing end of a journal: one epoch, one process, any number of threads.

    What waits for its group is made durable by a thread of its own when it is old enough; the thread ends with the
    first :meth:`close`, so that nobody writes who has given up. What could not be made durable waits on, and is tried
    again; the next :meth:`append`, :meth:`sync` or :meth:`close` raises the error.

    Args:
        place: where the journal is.
        epoch: number of this writer, higher than any before it.

    Attributes:
        epoch: as given.
        size: bytes that were taken in.

    Raises:
        FileExistsError: the epoch has been written before.
    """

    def __init__(self, place: Place, epoch: int) -> None:
        self.epoch = epoch
        self.size = 0
        self._appender = place.appender(part_name(epoch))
        self._changed = threading.Condition()
        self._unsynced = 0
        self._since = 0.0
        self._error: Exception | None = None
        self._closing = self._closed = False
        self._thread = threading.Thread(target=self._sync_in_time, name="journal", daemon=True)
        self._thread.start()

    def append(self, records: Sequence[Record | Skips]) -> None:
        """Take records in. In a folder they survive the death of this process at once, a power loss after a sync.

        Raises:
            StoreError, OSError: something could not be written or made durable, now or before.
        """
        if not records:
            return
        framed = b"".join(map(frame, records))
        with self._changed:
            assert not self._closed, "this epoch is over"
            if self._unsynced == 0:
                self._since = time.monotonic()
                self._changed.notify()
            self._unsynced += len(records)
            self._appender.append(framed)
            self.size += len(framed)
            if self._unsynced >= GROUP_RECORDS or time.monotonic() - self._since >= GROUP_SECONDS:
                self._sync()
            self._raise_earlier()

    def sync(self) -> None:
        """Make everything that was taken in durable, and visible to readers.

        Raises:
            StoreError, OSError: as for :meth:`append`.
        """
        with self._changed:
            if not self._closed:
                self._sync()
            self._raise_earlier()

    def close(self) -> None:
        """Make everything durable and take in nothing more.

        Raises:
            StoreError, OSError: as for :meth:`append`; closing may be tried again.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
            if not self._closed:
                self._appender.close()
                self._unsynced, self._closed = 0, True
        self._thread.join()
        self._raise_earlier()

    def _raise_earlier(self) -> None:
        """Raise what the thread met."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _sync(self) -> None:
        self._since = time.monotonic()  # of the next try, where this one fails
        self._appender.sync()
        self._unsynced = 0

    def _sync_in_time(self) -> None:
        with self._changed:
            while not self._closing:
                left = self._since + GROUP_SECONDS - time.monotonic()
                if self._unsynced == 0:
                    self._changed.wait()
                elif left > 0:
                    self._changed.wait(left)
                else:
                    try:
                        self._sync()
                    except Exception as error:  # raised to whoever appends next
                        self._error = error
