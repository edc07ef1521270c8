"""Which finished chunks were made from an input that has changed since, and what of it changed.

The ledger holds, for each chunk, a short digest of the identity (etag; size and time of a file) of every stored object
that was under its reading window, halo included. One listing of the input says what these identities are now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box, Grid, visible_box
from pipeline.predict.plan import Plan
from pipeline.run.folder import RunFolder
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, STATES, seen_digest
from pipeline.run.verify import last_done
from pipeline.volume import Volume
from pipeline.volume.look import identity_digest, seen_of

NAMED = 3
"""Changed objects that a reason names."""


def stale_chunks(plan: Plan, folder: RunFolder, ledger: Ledger) -> dict[int, str]:
    """Return the done chunks whose input is not what it was, each with the reason.

    Chunks of which nothing is known (records of an older version) count as they are.
    """
    done = np.flatnonzero(ledger.states() == STATES.index(DONE))
    if not len(done):
        return {}
    now = _Now(plan)
    unknown = seen_digest(())
    stale = {int(c) for c in done if ledger.seen(int(c)) not in (unknown, seen_digest(now.seen(int(c))))}
    if not stale:
        return {}
    records = (record for record in last_done(folder, ledger) if record.chunk in stale)
    return {record.chunk: now.reason(record.chunk, record.done.seen) for record in records}


class _Now:
    """The identities of an input's stored objects, as they are now."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._volume = plan.volume
        self._identities = _listed(plan.volume)

    def seen(self, chunk: int) -> tuple[str, ...]:
        """Return what a chunk would be made from now, as :attr:`pipeline.run.records.Done.seen` says it."""
        return seen_of(self._digests(chunk))

    def reason(self, chunk: int, then: Sequence[str]) -> str:
        """Say which of the objects under a chunk's window changed."""
        now = self._digests(chunk)
        keys = self._volume.stored_keys(self._window(chunk))
        if len(then) != len(now):
            return f"one or more of the {len(keys)} stored input chunks under it changed"
        changed = [key for key, a, b in zip(keys, then, now, strict=True) if a != b]
        named = ", ".join(changed[:NAMED]) + (" ..." if len(changed) > NAMED else "")
        return f"{len(changed)} stored input chunk(s) under it changed ({named})"

    def _digests(self, chunk: int) -> list[str]:
        grid = self._volume.storage_grid
        box = self._volume.stored_box(self._window(chunk))
        slices = tuple(slice(a // c, -(-b // c)) for (a, b), c in zip(box, grid.chunk, strict=True))
        return [f"{value:08x}" for value in self._identities[slices].ravel().tolist()]

    def _window(self, chunk: int) -> Box:
        plan = self._plan
        read = plan.layout.read_box(plan.grid.core(chunk).shift(plan.region.start))
        return visible_box(read, self._volume.shape)


def _listed(volume: Volume) -> npt.NDArray[np.uint32]:
    """Return the digest of each stored object's identity, by its position on the storage grid; 0 where none is."""
    grid = volume.storage_grid
    found = np.zeros(grid.counts, dtype=np.uint32)
    keys = _Keys(volume)
    for entry in volume.place.entries():
        position = keys.position(entry.key)
        if position is not None and entry.stat.size:
            found[position] = int(identity_digest(entry.stat.identity), 16)
    return found


class _Keys:
    """From a stored object's key back to its position, by the same rule that Zarr names keys by."""

    def __init__(self, volume: Volume) -> None:
        self._metadata = volume.array.metadata
        self._grid: Grid = volume.storage_grid

    def position(self, key: str) -> tuple[int, ...] | None:
        """Return the position of a chunk's key; None for any other key."""
        numbers = tuple(_numbers(key))
        if len(numbers) != len(self._grid.counts):
            return None
        inside = all(n < count for n, count in zip(numbers, self._grid.counts, strict=True))
        return numbers if inside and self._metadata.encode_chunk_key(numbers) == key else None


def _numbers(key: str) -> Iterator[int]:
    for part in key.replace(".", "/").split("/"):
        if part.isdecimal():
            yield int(part)
