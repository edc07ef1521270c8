"""Verify a result by its stored bytes, without the code that wrote them: keys, digests, decoding, root digest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore, StorePath

from pipeline.errors import StoreError
from pipeline.geometry import Box, Grid
from pipeline.run.folder import RunFolder, result_in
from pipeline.run.journal import replay
from pipeline.run.ledger import Ledger
from pipeline.run.objects import object_key
from pipeline.run.parts import Part, survey
from pipeline.run.records import DONE, Record
from pipeline.store import PARTIAL, Place
from pipeline.volume import digest_bytes

METADATA = "zarr.json"
"""Key of an array's metadata."""

Voxels = npt.NDArray[Any]

Checked = tuple[list[str], list[str]]
"""Keys of a chunk that are missing, and those that are damaged."""

LOOKED_AT = 1000
"""Chunks whose objects are asked for at once, on resume."""

SHOWN = 100
"""Entries that each list of a verification holds at most; the counts are of all."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What verification found in the array that a run wrote.

    Attributes:
        checked: stored objects that were compared.
        missing: keys that the ledger claims and that are not stored, and the array's metadata if they are not.
        damaged: keys whose bytes differ from the ledger's digest, or do not decode; the array's metadata, if they
            cannot be read or are not those that were sealed.
        foreign: stored keys that no chunk of the ledger claims.
        leftovers: files that a process left half written when it died; harmless.
        incomplete: chunks that are not done.
        chunks: numbers of the chunks whose stored objects are missing or damaged.
        root: the root digest now.
        sealed_root: the root digest in the seal; None where the run is not sealed.
    """

    checked: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...]
    foreign: tuple[str, ...]
    leftovers: tuple[str, ...]
    incomplete: int
    chunks: tuple[int, ...]
    root: str
    sealed_root: str | None

    @property
    def ok(self) -> bool:
        """Whether everything that is claimed is there, whole, and nothing else is."""
        changed = self.sealed_root is not None and self.sealed_root != self.root
        return not (self.missing or self.damaged or self.foreign or changed)

    def to_json(self) -> dict[str, Any]:
        """Return the findings, JSON-ready; long lists are cut, their counts are not."""
        lists = {
            "missing": self.missing,
            "damaged": self.damaged,
            "foreign": self.foreign,
            "leftovers": self.leftovers,
        }
        return {
            "ok": self.ok,
            "checked": self.checked,
            **{name: list(keys[:SHOWN]) for name, keys in lists.items()},
            "counts": {name: len(keys) for name, keys in lists.items()},
            "incomplete": self.incomplete,
            "chunks": list(self.chunks[:SHOWN]),
            "root": self.root,
            "sealed_root": self.sealed_root,
        }


def verify(
    output: str | Path,
    *,
    decode: bool = True,
    threads: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
    on_voxels: Callable[[int, Voxels], None] | None = None,
) -> Verification:
    """Compare what is stored in the run's array with what the ledger claims.

    Args:
        output: the result, ``OUT.zarr``.
        decode: decode every stored chunk too, not only compare its bytes.
        threads: chunks that are compared at once.
        on_progress: called with the number of chunks compared and their total.
        on_voxels: called with the number of each chunk that decodes and its voxels, as they are stored; from
            ``threads`` threads, in any order.

    Raises:
        InputError: there is no run at this output.
    """
    folder = RunFolder(result_in(output))
    recorded = folder.read()
    grid = Grid(tuple(recorded["grid"]["shape"]), tuple(recorded["grid"]["chunk"]))
    ledger = Ledger(folder.journal, len(grid))
    place = folder.stored(recorded["array"])
    objects = recorded["array"] is None
    seal = folder.read_seal()
    array = None if objects else _open(place)
    whole = array is not None and _is_sealed(place, seal)
    decoded = array if decode and whole else None
    checks = _in_threads(
        lambda record: _check(place, record, decoded, grid, on_voxels), last_done(folder, ledger), threads
    )
    compared = _Compared()
    for n, (record, checked) in enumerate(checks, start=1):
        compared.add(record, checked)
        if on_progress:
            on_progress(n, ledger.counts()[DONE])
    present = {entry.key for entry in place.entries()}
    if METADATA not in present and (present or compared.claimed) and not objects:
        compared.missing.append(METADATA)
    elif METADATA in present and not whole:
        compared.damaged.append(METADATA)
    unclaimed = _keys_of_lacking(ledger, grid, array) if objects or array is not None else set()
    return _verification(compared, present - compared.claimed - {METADATA}, unclaimed, ledger, seal)


@dataclass(slots=True)
class _Compared:
    """What comparing chunks has found so far.

    Attributes:
        claimed: keys that the ledger claims.
        missing: those of them that are not stored.
        damaged: those whose bytes are not the claimed ones.
        chunks: numbers of the chunks that these belong to.
    """

    claimed: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    chunks: set[int] = field(default_factory=set)

    def add(self, record: Record, checked: Checked) -> None:
        """Take in what was found of a chunk."""
        gone, bad = checked
        self.claimed.update(stored.key for stored in record.done.stored)
        self.missing.extend(gone)
        self.damaged.extend(bad)
        if gone or bad:
            self.chunks.add(record.chunk)


def _verification(
    compared: _Compared, others: set[str], unclaimed: set[str], ledger: Ledger, seal: Mapping[str, Any] | None
) -> Verification:
    """Return what was found.

    Args:
        compared: of the chunks that are done.
        others: stored keys that none of them claims.
        unclaimed: keys that chunks which are not done may have been stored under.
        ledger: the run's.
        seal: its seal, if it has one.
    """
    leftovers = {key for key in others if key.endswith(PARTIAL)}
    return Verification(
        len(compared.claimed),
        tuple(sorted(compared.missing)),
        tuple(sorted(compared.damaged)),
        tuple(sorted(others - leftovers - unclaimed)),
        tuple(sorted(leftovers)),
        len(ledger.lacking()),
        tuple(sorted(compared.chunks)),
        ledger.root_digest(),
        seal["root"] if seal else None,
    )


def claims_hold(folder: RunFolder, array: str | None, ledger: Ledger) -> list[int]:
    """Return the done chunks whose stored objects are not there in the recorded size: a quick look on resume.

    Args:
        folder: the run.
        array: path of its array in the result; None of a run that stores none, see :meth:`RunFolder.stored`.
        ledger: the run's.
    """
    place = folder.stored(array)
    lost: list[int] = []
    records = last_done(folder, ledger)
    while some := list(islice(records, LOOKED_AT)):
        objects = [(record.chunk, stored) for record in some for stored in record.done.stored]
        found = place.stats([stored.key for _, stored in objects])
        lost.extend(
            chunk
            for (chunk, stored), stat in zip(objects, found, strict=True)
            if stat is None or stat.size != stored.size
        )
    return sorted(set(lost))


def last_done(folder: RunFolder, ledger: Ledger) -> Iterator[Record]:
    """Yield, for each chunk that is done, the record that made it so, in the journal's order.

    Reads the journal twice, as one listing shows it (what a writer adds in between would shift the lines), and keeps
    a number a chunk, not a record: memory stays small for millions of chunks.
    """
    parts = survey(folder.journal).parts
    last = np.full(ledger.total, -1, dtype=np.int64)
    for line, record in _done(folder, ledger, parts):
        last[record.chunk] = line
    for line, record in _done(folder, ledger, parts):
        if last[record.chunk] == line and ledger.state(record.chunk) == DONE:
            yield record


def _done(folder: RunFolder, ledger: Ledger, parts: Sequence[Part]) -> Iterator[tuple[int, Record]]:
    """Yield the records of chunks that were done, each with the number of its line."""
    for line, record in enumerate(replay(folder.journal, parts)):
        if record is not None and record.state == DONE and 0 <= record.chunk < ledger.total:
            yield line, record


def _in_threads(
    check: Callable[[Record], Checked], records: Iterator[Record], threads: int
) -> Iterator[tuple[Record, Checked]]:
    """Yield each record with what its check found, in order; a few records are in hand at a time."""
    in_hand: deque[tuple[Record, Future[Checked]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for record in records:
            in_hand.append((record, pool.submit(check, record)))
            if len(in_hand) > 4 * threads:
                first, found = in_hand.popleft()
                yield first, found.result()
        for first, found in in_hand:
            yield first, found.result()


def _is_sealed(place: Place, seal: Mapping[str, Any] | None) -> bool:
    """Whether an array's metadata are those that were sealed, if they were."""
    sealed = seal.get("metadata") if seal else None
    return sealed in (None, digest_bytes(place.get(METADATA)))


def _check(
    place: Place,
    record: Record,
    array: zarr.Array[Any] | None,
    grid: Grid,
    on_voxels: Callable[[int, Voxels], None] | None,
) -> Checked:
    """Return the keys of a chunk that are missing and those that are damaged; tell of the voxels of a whole one."""
    missing, damaged = [], []
    found: dict[str, bytes] = {}
    for stored in record.done.stored:
        try:
            data = found[stored.key] = place.get(stored.key)
        except FileNotFoundError:
            missing.append(stored.key)
            continue
        if len(data) != stored.size or digest_bytes(data) != stored.digest:
            damaged.append(stored.key)
    if array is None or missing or damaged:
        return missing, damaged
    voxels = _decoded(array, found, grid.core(record.chunk))
    if voxels is None:
        damaged.extend(stored.key for stored in record.done.stored)
    elif on_voxels:
        on_voxels(record.chunk, voxels)
    return missing, damaged


def _decoded(array: zarr.Array[Any], stored: Mapping[str, bytes], core: Box) -> Voxels | None:
    """Return a chunk's voxels; None where its bytes do not decode.

    They are those in hand, not read again, so that a store that fails is not damage.
    """
    held = MemoryStore({key: Buffer.from_bytes(data) for key, data in stored.items()})
    lead = (slice(None),) * (array.ndim - len(core.shape))
    try:
        return np.asarray(zarr.Array[Any](zarr.AsyncArray(array.metadata, StorePath(held)))[(*lead, *core.slices)])
    except Exception:  # whatever a codec makes of damaged bytes
        return None


def _keys_of_lacking(ledger: Ledger, grid: Grid, array: zarr.Array[Any] | None) -> set[str]:
    """Return the keys of chunks that are not done: a worker may have written them without a word."""
    if array is None:
        return {object_key(grid, int(chunk)) for chunk in ledger.lacking()}
    shard = (array.shards or array.chunks)[array.ndim - len(grid.shape) :]
    lead = (0,) * (array.ndim - len(grid.shape))
    stored = Grid(grid.shape, tuple(shard))
    positions = (p for chunk in ledger.lacking() for p in stored.overlapping(grid.core(int(chunk))))
    return {array.metadata.encode_chunk_key((*lead, *p)) for p in positions}


def _open(place: Place) -> zarr.Array[Any] | None:
    """Return the run's array, or None where its metadata are not there or not readable."""
    try:
        place.get(METADATA)  # so that a store that does not answer is an error, and not taken for damage
        return zarr.open_array(store=place.zarr_store(read_only=True), mode="r")
    except (PermissionError, StoreError):
        raise
    except Exception:  # whatever Zarr makes of damaged metadata
        return None
