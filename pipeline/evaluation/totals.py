"""From the chunks' objects to the metrics: read in the order of chunks, checked against the ledger, added up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import DamageError
from pipeline.evaluation.bundle import unpack
from pipeline.evaluation.measures import Measure
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.geometry import Grid
from pipeline.run.ledger import Ledger
from pipeline.run.objects import object_key
from pipeline.run.records import DONE, STATES, stored_digest
from pipeline.store import Place
from pipeline.volume import digest_bytes

AT_ONCE = 8
"""Objects that are being read."""

WORST = 8
"""Chunks with the most wrong voxels that are told."""

MOST_HOLES = 1000
"""Chunks with holes that are told; all are counted."""


class LostObjectError(DamageError):
    """A chunk's object is gone, or is not what the ledger says.

    Attributes:
        chunk: its number.
    """

    def __init__(self, message: str, chunk: int) -> None:
        super().__init__(message)
        self.chunk = chunk


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """One chunk's statistics.

    Attributes:
        chunk: its number.
        statistics: by the names of their measures.
        holes: keys of stored objects that are missing, by ``"prediction"`` and ``"target"``.
    """

    chunk: int
    statistics: dict[str, Any]
    holes: dict[str, list[str]]

    @property
    def classes(self) -> ConfusionStatistics:
        """The confusion of classes."""
        found: ConfusionStatistics = self.statistics["classes"]
        return found


class Bundles:
    """The objects of all chunks that are done.

    Args:
        place: where they are.
        grid: chunks.
        ledger: what each one must be.
        measures: what was measured.
    """

    def __init__(self, place: Place, grid: Grid, ledger: Ledger, measures: Sequence[Measure]) -> None:
        self._place = place
        self._grid = grid
        self._ledger = ledger
        self._measures = measures

    def __iter__(self) -> Iterator[Bundle]:
        """Yield each in the order of chunks; few are in memory at a time.

        Raises:
            LostObjectError: one is gone, or other bytes than the ledger says.
        """
        done = np.flatnonzero(self._ledger.states() == STATES.index(DONE))
        reading: deque[Future[Bundle]] = deque()
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bundles") as pool:
            try:
                for chunk in done.tolist():
                    reading.append(pool.submit(self._read, chunk))
                    if len(reading) >= 2 * AT_ONCE:
                        yield reading.popleft().result()
                while reading:
                    yield reading.popleft().result()
            finally:
                for future in reading:
                    future.cancel()

    def _read(self, chunk: int) -> Bundle:
        key = object_key(self._grid, chunk)
        where = f"{self._place.url}/{key}"
        try:
            data = self._place.get(key)
        except FileNotFoundError:
            raise LostObjectError(f"{where}: is gone; run again to measure that chunk anew", chunk) from None
        if stored_digest([(key, digest_bytes(data), len(data))]) != self._ledger.digest(chunk):
            raise LostObjectError(
                f"{where}: is not what was recorded; run again to measure that chunk anew", chunk
            )
        return Bundle(chunk, *unpack(data, self._measures, where=where))


@dataclass(slots=True)
class Totals:
    """What all chunks add up to.

    Attributes:
        measures: what was measured.
        sums: statistics by the names of their measures.
        chunks: how many were added up.
        worst: those with the most wrong voxels: how many, and the number of the chunk.
        holes: stored objects that are missing below each chunk, of the first ones.
        with_holes: chunks that have any.
    """

    measures: Sequence[Measure]
    sums: dict[str, Any] = field(init=False)
    chunks: int = 0
    worst: list[tuple[int, int]] = field(default_factory=list)
    holes: dict[int, dict[str, list[str]]] = field(default_factory=dict)
    with_holes: int = 0

    def __post_init__(self) -> None:
        self.sums = {each.name: each.zero() for each in self.measures}

    def add(self, bundle: Bundle) -> None:
        """Take one more chunk in; chunks come in their order."""
        self.chunks += 1
        for each in self.measures:
            self.sums[each.name] = each.add(self.sums[each.name], bundle.statistics[each.name])
        counts = bundle.classes.counts
        wrong = int(counts.sum() - np.trace(counts))
        if wrong:
            self.worst = sorted([*self.worst, (wrong, bundle.chunk)], key=lambda each: (-each[0], each[1]))[:WORST]
        if bundle.holes:
            self.with_holes += 1
            if len(self.holes) < MOST_HOLES:
                self.holes[bundle.chunk] = bundle.holes

    @property
    def classes(self) -> ConfusionStatistics:
        """The confusion of classes of the whole."""
        found: ConfusionStatistics = self.sums["classes"]
        return found

    def metrics(self, names: Sequence[str]) -> dict[str, Any]:
        """Return all metrics, JSON-ready: those of classes by their names, those of other measures under theirs."""
        found = {each.name: each.metrics(self.sums[each.name], names) for each in self.measures}
        return {**found.pop("classes"), **found}


def add_up(bundles: Bundles, measures: Sequence[Measure], on_each: Callable[[int], None]) -> Totals:
    """Return what all chunks add up to.

    Args:
        bundles: of the chunks.
        measures: what was measured.
        on_each: told how many have been added up.

    Raises:
        LostObjectError: a chunk's object is gone or damaged.
    """
    total = Totals(measures)
    for bundle in bundles:
        total.add(bundle)
        on_each(total.chunks)
    return total
