"""A file in an object store or behind https, read by ranges.

What is read is checked to be one version: every answer tells the file's etag (or size and time of its last change),
and one that differs from the first is an error, so that no image is put together of two.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import InputError, StoreError
from pipeline.store.address import Address
from pipeline.store.clients import Client, connect, exceptions, faults, obstore, stat_of, web_key
from pipeline.store.place import Stat

BLOCK = 1 << 20
"""Bytes of a block, of which whole numbers are read and kept."""

KEPT = 32
"""Most blocks that an open file keeps: 32 MiB."""

AHEAD = 8
"""Most blocks that are read at once, where a file is read from front to back."""

GAP = 1 << 18
"""Most bytes between two ranges that are read along with them in one request."""

SPAN = 1 << 26
"""Most bytes of one request that joins ranges; a longer range is a request of its own."""

AT_ONCE = 8
"""Requests for ranges that are under way at once."""

Range = tuple[int, int]
"""First byte and number of bytes."""


class RemoteFile:
    """A file elsewhere; small, and picklable: it is an address.

    Args:
        address: of a scheme that is not local.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        web = address.scheme in ("http", "https")
        self._key = web_key(address.key) if web else address.key
        self._client()  # what is not allowed or not set up is refused at once

    def __repr__(self) -> str:
        return f"RemoteFile({self.url!r})"

    @property
    def url(self) -> str:
        """Its address."""
        return self._address.url

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self._key.rpartition("/")[2]

    @property
    def path(self) -> Path | None:
        """None: it is not on this machine."""
        return None

    def stat(self) -> Stat:
        """Return size and identity: the etag, or size and time of the last change."""
        with faults(self.url):
            return stat_of(obstore.head(self._client(), self._key))

    def open(self) -> BinaryIO:
        """Open it for reading in blocks."""
        return io.BufferedReader(RemoteReader(self, self.stat()), 1 << 13)

    def ranges(self, wanted: Sequence[Range], stat: Stat | None = None) -> list[bytes]:
        """Read parts of the file; near ones in one request, several requests at once.

        Args:
            wanted: first byte and number of bytes of each part.
            stat: of the version that is meant; None for the one that is there now.

        Returns:
            the bytes of each part, in the order of ``wanted``.

        Raises:
            StoreError: no answer, an answer cut short, or another version of the file.
        """
        stat = stat or self.stat()
        spans = join_ranges(wanted)
        if len(spans) < 2:
            parts = [self._range(span, stat) for span, _ in spans]
        else:
            with ThreadPoolExecutor(min(AT_ONCE, len(spans))) as pool:
                parts = list(pool.map(lambda entry: self._range(entry[0], stat), spans))
        found = [b""] * len(wanted)
        for ((start, _), members), part in zip(spans, parts, strict=True):
            for member in members:
                first, count = wanted[member]
                found[member] = part[first - start : first - start + count]
        return found

    def _range(self, span: Range, stat: Stat) -> bytes:
        start, count = span
        with faults(self.url):
            try:
                answer = obstore.get(self._client(), self._key, options={"range": (start, start + count)})
                data, now = bytes(answer.bytes()), stat_of(answer.meta)
            except exceptions.NotSupportedError as error:
                raise InputError(
                    f"{self.url}: the server does not send parts of a file (range requests); download the file first"
                ) from error
        if now != stat:
            raise StoreError(f"{self.url}: it was changed while it was read; begin again")
        if len(data) != count:
            raise StoreError(f"{self.url}: {len(data)} bytes came of the {count} from byte {start} on")
        return data

    def _client(self) -> Client:
        return connect(self._address.scheme, self._address.root, "")


class RemoteReader(io.RawIOBase):
    """A position in a remote file. Blocks are kept; those that follow are read ahead, ever more of them.

    Args:
        file: what is read.
        stat: its size, and the version that is meant.
    """

    def __init__(self, file: RemoteFile, stat: Stat) -> None:
        super().__init__()
        self._file = file
        self._stat = stat
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next = 0
        self._ahead = 1
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The file's name."""
        return self._file.name

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Set the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._stat.size}[whence]
        if base + offset < 0:
            raise ValueError(f"a position before the file's first byte: {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: object, /) -> int:
        """Fill a buffer, or as much of it as there is."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        count = max(0, min(len(view), self._stat.size - self._at))
        done = 0
        with self._lock:
            while done < count:
                number, inside = divmod(self._at + done, BLOCK)
                part = self._block(number)[inside : inside + count - done]
                view[done : done + len(part)] = part
                done += len(part)
        self._at += done
        return done

    def readall(self) -> bytes:
        """Return everything that follows, in one request where it is much."""
        rest = self._stat.size - self._at
        if rest <= BLOCK:
            return self.read(max(0, rest)) or b""
        (data,) = self._file.ranges([(self._at, rest)], self._stat)
        self._at = self._stat.size
        return data

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        self._ahead = min(AHEAD, self._ahead * 2) if number == self._next else 1
        start = number * BLOCK
        size = min(self._ahead * BLOCK, self._stat.size - start)
        (data,) = self._file.ranges([(start, size)], self._stat)
        for i in range(0, size, BLOCK):
            self._blocks[number + i // BLOCK] = data[i : i + BLOCK]
        self._next = number + -(-size // BLOCK)
        while len(self._blocks) > KEPT:
            self._blocks.popitem(last=False)
        return self._blocks[number]


def join_ranges(wanted: Sequence[Range]) -> list[tuple[Range, list[int]]]:
    """Join ranges that lie near each other.

    Returns:
        each joined range, with the positions in ``wanted`` of those that it holds. Empty ranges are in none.
    """
    joined: list[tuple[Range, list[int]]] = []
    for member in sorted(range(len(wanted)), key=lambda i: wanted[i]):
        start, count = wanted[member]
        if count <= 0:
            continue
        if joined:
            (first, length), members = joined[-1]
            end = max(first + length, start + count)
            if start - (first + length) <= GAP and end - first <= SPAN:
                joined[-1] = ((first, end - first), [*members, member])
                continue
        joined.append(((start, count), [member]))
    return joined
