"""The parts of a journal: which of its objects count, in which order, and their lines.

::

    journal/compact-000007.jsonl/00000001       what the epochs up to 7 said last of each chunk (see compact.py);
    journal/compact-000007.jsonl/00000002-end   whole with its last piece: then the epochs up to 7 count no more
    journal/000008.jsonl                        an epoch in a folder: a file that grows
    journal/000009.jsonl/00000001               an epoch on an object store: an immutable object for each group
    journal/index                               derived from the others (see index.py), no part of the journal
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.store import PARTIAL, LocalPlace, Place

AHEAD = 16
"""Objects that are asked for before the one that is read."""

_KEY = re.compile(r"(compact-)?(\d+)\.jsonl(?:/(\d+)(-end)?)?")


@dataclass(frozen=True, slots=True)
class Part:
    """An epoch of a journal, or the compaction of all epochs up to one.

    Attributes:
        epoch: its number, or the last one that is compacted.
        compact: whether it is a compaction.
        objects: key and size in bytes of each of its objects, in order; None where there should be others.
    """

    epoch: int
    compact: bool
    objects: tuple[tuple[str, int] | None, ...]

    @property
    def name(self) -> str:
        """What its keys begin with."""
        return part_name(self.epoch, compact=self.compact)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(one[1] for one in self.objects if one is not None)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a listing shows of a journal.

    Attributes:
        parts: what counts, in order: at most one compaction, and the epochs after it.
        stale: keys that count no more, or not yet: what a compaction has replaced or has left unfinished, and files
            that a process left half written.
        objects: number of all objects.
    """

    parts: tuple[Part, ...]
    stale: tuple[str, ...]
    objects: int


def part_name(epoch: int, *, compact: bool = False) -> str:
    """Return what the keys of an epoch, or of a compaction up to it, begin with."""
    return f"{'compact-' if compact else ''}{epoch:06d}.jsonl"


def survey(place: Place) -> Survey:
    """List a journal, once."""
    found: dict[tuple[int, bool], dict[int, tuple[str, int]]] = {}
    ended: list[int] = []
    stale: list[str] = []
    for entry in place.entries():
        if match := _KEY.fullmatch(entry.key):
            epoch, compact = int(match[2]), match[1] is not None
            found.setdefault((epoch, compact), {})[int(match[3] or 1)] = entry.key, entry.stat.size
            if compact and match[4]:
                ended.append(epoch)
        elif entry.key.endswith(PARTIAL):
            stale.append(entry.key)
    upto = max(ended, default=0)
    parts: list[Part] = []
    for (epoch, compact), objects in sorted(found.items()):
        if (epoch == upto) if compact else (epoch > upto):
            parts.append(Part(epoch, compact, tuple(_with_gaps(objects))))
        else:
            stale.extend(key for key, _ in objects.values())
    return Survey(tuple(parts), tuple(stale), sum(map(len, found.values())))


def _with_gaps(objects: Mapping[int, tuple[str, int]]) -> Iterator[tuple[str, int] | None]:
    """Yield objects by their numbers from 1, and None once where numbers lack."""
    before = 0
    for number in sorted(objects):
        if number > before + 1:
            yield None
        yield objects[number]
        before = number


def last_epoch(place: Place) -> int:
    """Return the highest epoch that a journal tells of, by its keys; 0 where there is none."""
    return max((int(m[2]) for entry in place.entries() if (m := _KEY.fullmatch(entry.key))), default=0)


def lines(place: Place, parts: Iterable[Part], skip: int = 0) -> Iterator[bytes]:
    """Yield the lines of parts in order, as they were listed; an empty one where objects are not there.

    Args:
        place: where the journal is.
        parts: which.
        skip: bytes of the first part to leave out; they end with an object or a line.

    Raises:
        FileNotFoundError: an object is gone since it was listed: another process has compacted the journal.
    """
    for part in parts:
        wanted: list[tuple[str, int] | None] = []
        for one in part.objects:
            if one is not None and skip > 0 and one[1] <= skip:
                skip -= one[1]
            else:
                wanted.append(one)
        if isinstance(place, LocalPlace):
            yield from _of_files(place, wanted, skip)
        else:
            yield from _of_objects(place, wanted, skip)
        skip = 0


def _of_files(place: LocalPlace, files: Iterable[tuple[str, int] | None], skip: int) -> Iterator[bytes]:
    """Yield the lines of files, up to the size that each was listed with."""
    for one in files:
        if one is None:
            yield b""
            continue
        with (place.root / one[0]).open("rb") as file:
            left = one[1] - file.seek(skip)
            for line in file:
                if left <= 0:
                    break
                yield line if len(line) <= left else line[:left]
                left -= len(line)
        skip = 0


def _of_objects(place: Place, objects: Sequence[tuple[str, int] | None], skip: int) -> Iterator[bytes]:
    """Yield the lines of objects; a few are asked for ahead."""

    def get(one: tuple[str, int] | None) -> bytes | None:
        return None if one is None else place.get(one[0])[: one[1]]

    for data in _ahead(get, objects):
        if data is None:
            yield b""
        else:
            yield from io.BytesIO(data[skip:])
            skip = 0


def _ahead(
    get: Callable[[tuple[str, int] | None], bytes | None], objects: Sequence[tuple[str, int] | None]
) -> Iterator[bytes | None]:
    if len(objects) < 2:
        yield from map(get, objects)
        return
    with ThreadPoolExecutor(AHEAD) as pool:
        coming = deque(pool.submit(get, one) for one in objects[:AHEAD])
        for one in objects[AHEAD:]:
            yield coming.popleft().result()
            coming.append(pool.submit(get, one))
        while coming:
            yield coming.popleft().result()
