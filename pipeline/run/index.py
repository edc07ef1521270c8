"""The index of a journal: what its lines add up to so far, so that nobody need read a million of them again.

It is derived, and never trusted blindly: whatever does not fit (another total, a checksum, a journal that is shorter
or older in another place than the index says) makes the whole journal be read. The object ``index`` holds::

    digest (16 bytes, BLAKE2b of the rest) | length of the head (8 bytes) | head (JSON) | arrays, one after another
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.run.book import Book
from pipeline.run.parts import Part
from pipeline.run.records import Record, Sums
from pipeline.store import Place

INDEX = "index"
"""Its key, in the journal's place."""

FORMAT = "overtile-index/2"

_DIGEST = 16

Read = list[tuple[str, int]]
"""Name of each part of the journal that was read, in order, and how many of its bytes."""


def pack(book: Book, read: Read) -> bytes:
    """Return an index as bytes.

    Args:
        book: what the lines add up to.
        read: which lines.
    """
    head = json.dumps(
        {
            "format": FORMAT,
            "total": book.total,
            "read": read,
            "records": book.records,
            "failures": [record.to_json() for record in book.failures.values()],
            "values": list(book.values),
            "reasons": book.reasons,
            **book.sums().to_json(),
        }
    ).encode()
    arrays = [array.reshape(-1).view(np.uint8).data for array in _arrays(book)]
    pieces: list[bytes | memoryview] = [len(head).to_bytes(8, "big"), head, *arrays]
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for piece in pieces:
        digest.update(piece)
    return b"".join([digest.digest(), *pieces])


def load(place: Place, total: int, parts: Sequence[Part]) -> tuple[Book, int, int] | None:
    """Return what the index says, if it fits the journal.

    Args:
        place: where the journal is.
        total: number of chunks.
        parts: the journal's, as they are now.

    Returns:
        What its lines add up to, and where reading goes on: the number of a part and how many bytes of it were read.
        None where there is no index that fits.
    """
    try:
        data = place.get(INDEX)
    except FileNotFoundError:
        return None
    digest, rest = data[:_DIGEST], memoryview(data)[_DIGEST:]
    if hashlib.blake2b(rest, digest_size=_DIGEST).digest() != digest:
        return None
    first = 8 + int.from_bytes(rest[:8], "big")
    try:
        head = json.loads(bytes(rest[8:first]))
        read = head["read"]
        if head["format"] != FORMAT or head["total"] != total or not read or not _fits(read, parts):
            return None
        return _unpack(head, rest[first:]), len(read) - 1, read[-1][1]
    except (ValueError, KeyError, TypeError, AttributeError):  # of another version
        return None


def _fits(read: Sequence[Sequence[Any]], parts: Sequence[Part]) -> bool:
    """Whether the parts are those that were read, except that the last may have grown and others have followed."""
    now = [(part.name, part.size) for part in parts[: len(read)]]
    if len(now) < len(read) or [name for name, _ in now] != [name for name, _ in read]:
        return False
    sizes = [(size, before) for (_, size), (_, before) in zip(now, read, strict=True)]
    return all(size == before for size, before in sizes[:-1]) and all(size >= before for size, before in sizes)


def _unpack(head: dict[str, Any], view: memoryview) -> Book:
    book = Book(head["total"])
    book.values = {key: np.empty(book.total) for key in head["values"]}
    for array in _arrays(book):
        array.reshape(-1)[:] = np.frombuffer(view[: array.nbytes], dtype=array.dtype)
        view = view[array.nbytes :]
    book.failures = {record.chunk: record for record in map(Record.from_json, head["failures"])}
    book.records = head["records"]
    book.reasons = list(map(str, head["reasons"]))
    book.set_sums(Sums.from_json(head))
    book.count_again()
    return book


def _arrays(book: Book) -> Iterator[npt.NDArray[Any]]:
    yield from (book.states, book.attempts, book.digests, book.seen, book.why)
    yield from book.values.values()
