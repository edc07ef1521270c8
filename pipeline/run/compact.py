"""Compaction: the last word on each chunk, in a few objects in place of everything that was said before.

A run that was resumed often, or that writes to an object store, has a journal of many objects, and most of its lines
may be about attempts that later ones replaced. The compaction up to an epoch says what all epochs up to it add up to::

    000001.jsonl ... 000007.jsonl     the journal
    compact-000007.jsonl/00000001     each chunk's last record, in the journal's order
    compact-000007.jsonl/00000002-end the rest of them, and the sums over all attempts

It counts as soon as its last piece is there, and then alone: what it replaces is removed afterwards. Whatever is left
when a process dies in between, the journal adds up to the same: an unfinished compaction does not count, and what a
finished one has replaced does not either.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress

import numpy as np
import numpy.typing as npt

from pipeline.run.book import Book
from pipeline.run.index import INDEX
from pipeline.run.journal import frame, parse
from pipeline.run.lease import Lease
from pipeline.run.ledger import Ledger
from pipeline.run.parts import Part, lines, part_name, survey
from pipeline.run.records import Sums
from pipeline.store import Place

OBJECTS_MOST = 200
"""Objects beyond which a journal is worth compacting."""

RECORDS_LEAST = 10_000
"""Records below which replaced ones do not matter."""

PIECE = 8 << 20
"""Bytes of an object of a compaction, about."""

AT_ONCE = 16
"""Objects that are being removed at once."""


def writable_ledger(place: Place, total: int, lease: Lease) -> Ledger:
    """Return a run's ledger for the holder of its lease; its journal is compacted first where that is worth it.

    Raises:
        StoreError, OSError: the journal cannot be read.
    """
    found = Ledger(place, total, epoch=lease.epoch, check=lease.check)
    if not worth_compacting(found):
        return found
    compact(place, total, lease.epoch - 1)
    return Ledger(place, total, epoch=lease.epoch, check=lease.check)


def worth_compacting(ledger: Ledger) -> bool:
    """Whether a journal has many objects, or says mostly what was replaced later; as the ledger found it."""
    mostly_replaced = ledger.records > RECORDS_LEAST and 2 * ledger.known() < ledger.records
    return ledger.survey.objects > OBJECTS_MOST or mostly_replaced


def compact(place: Place, total: int, epoch: int) -> None:
    """Compact all epochs up to one. Only for the holder of the lease, before it begins an epoch of its own.

    A ledger that was opened before is to be opened anew. The journal is read twice; memory is 8 bytes a chunk and one
    a line beyond a ledger's.

    Args:
        place: where the journal is.
        total: number of chunks.
        epoch: the last epoch that is compacted; nobody writes to it, nor to one before.

    Raises:
        StoreError, OSError: an object could not be read, stored or removed; the journal adds up to the same as before.
    """
    found = survey(place)
    _delete(place, found.stale)
    parts = [part for part in found.parts if part.epoch <= epoch]
    if all(part.compact and part.epoch == epoch for part in parts):
        return
    sums, wanted = _read(place, total, parts)
    number, piece = 1, bytearray()
    for line in compress(lines(place, parts), wanted):
        if len(piece) >= PIECE:
            place.put(f"{part_name(epoch, compact=True)}/{number:08d}", bytes(piece))
            number, piece = number + 1, bytearray()
        piece += line
    piece += frame(sums)
    place.put(f"{part_name(epoch, compact=True)}/{number:08d}-end", bytes(piece))
    _delete(place, [INDEX, *(one[0] for part in parts for one in part.objects if one is not None)])


def _read(place: Place, total: int, parts: Sequence[Part]) -> tuple[Sums, npt.NDArray[np.bool_]]:
    """Return the sums over all lines, and which lines are the last word on their chunk."""
    book, last, count = Book(total), np.full(total, -1, dtype=np.int64), 0
    for count, line in enumerate(lines(place, parts), start=1):
        said = parse(line)
        if not book.note(said) or said is None:
            continue
        if "i" in said:
            last[said["i"]] = count - 1
        for first, stop in said.get("skip", ()):
            last[first:stop] = count - 1
    wanted = np.zeros(count, dtype=np.bool_)
    wanted[last[last >= 0]] = True
    return book.sums(), wanted


def _delete(place: Place, keys: Sequence[str]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(place.delete, keys))
