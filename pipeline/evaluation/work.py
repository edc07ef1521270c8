"""Evaluation as work over a grid of chunks: read, measure, and store the statistics beside the journal."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.errors import ChunkError, InputError
from pipeline.evaluation.bundle import pack
from pipeline.evaluation.measures import Measure
from pipeline.evaluation.reading import ReadSpec
from pipeline.geometry import Grid
from pipeline.run.objects import object_key
from pipeline.run.records import Done
from pipeline.store import open_place
from pipeline.volume import Stored, digest_bytes


@dataclass(frozen=True, slots=True)
class EvaluateWork:
    """What is done to each chunk; small and picklable.

    Attributes:
        name: unique to the run.
        grid: chunks of the prediction.
        source: what is read.
        measures: what is measured.
        place: address that the chunks' objects lie at.
    """

    name: str
    grid: Grid
    source: ReadSpec
    measures: tuple[Measure, ...]
    place: str

    def open(self, worker_threads: int) -> EvaluateProcessor:
        """Open the volumes, in a worker process."""
        return EvaluateProcessor(self)


class EvaluateProcessor:
    """Open volumes, shared by the threads of a process."""

    def __init__(self, work: EvaluateWork) -> None:
        self._work = work
        self._reader = work.source.open()
        self._place = open_place(work.place)

    def process(self, chunk: int, *, lean: bool = False) -> Done:
        """Measure a chunk; its statistics are durable when this returns.

        Args:
            chunk: number of the chunk.
            lean: makes no difference: a chunk is read once, and measured by one thread.

        Raises:
            InputError: stored voxels are missing or damaged, or a value is none of the classes.
        """
        work, started = self._work, time.monotonic()
        core = work.grid.core(chunk).intersect(work.source.box)
        found = self._reader.read(core)
        read = time.monotonic()
        try:
            statistics = {each.name: each.of(found.window) for each in work.measures}
        except ChunkError as error:
            volumes = f"{work.source.prediction.url} against {work.source.target.url}"
            raise InputError(f"{volumes}, voxels {core}: {error}") from error
        measured = time.monotonic()
        key, data = object_key(work.grid, chunk), pack(statistics, found.holes)
        self._place.put(key, data)
        seconds = (read - started, 0.0, measured - read, time.monotonic() - measured)
        return Done((Stored(key, digest_bytes(data), len(data)),), seconds, None, found.seen)
