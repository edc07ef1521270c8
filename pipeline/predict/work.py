"""The spine: read, predict and write one chunk, one call an arrow."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import zarr

from pipeline.geometry import Box, Grid, Layout
from pipeline.predict.engine import Engine, Prediction
from pipeline.predict.forward import EngineSpec
from pipeline.predict.output import OutputSpec
from pipeline.run.records import Done
from pipeline.volume import ShardWriter, open_volume


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Which voxels are read.

    Attributes:
        url: the input volume.
        axes: stored axis names, where the store does not say them.
        level: resolution level.
        holes: what a missing stored chunk means.
        origin: voxel of the input that output voxel 0 lies over.
    """

    url: str
    axes: str | None
    level: int
    holes: str
    origin: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SegmentWork:
    """Segmentation as work over a grid of chunks; small and picklable.

    Attributes:
        name: unique to the run.
        source: what is read.
        array: path of the output array.
        grid: chunks of the output.
        layout: tiles of the network.
        engine: the network.
        output: what is stored.
    """

    name: str
    source: SourceSpec
    array: str
    grid: Grid
    layout: Layout
    engine: EngineSpec
    output: OutputSpec

    def open(self, worker_threads: int) -> SegmentProcessor:
        """Load the network and open the volumes, in a worker process."""
        return SegmentProcessor(self, worker_threads)


class SegmentProcessor:
    """A worker process's open volumes and network, shared by its threads."""

    def __init__(self, work: SegmentWork, worker_threads: int) -> None:
        self._work = work
        self._volume = open_volume(work.source.url, level=work.source.level, axes=work.source.axes)
        self._engine = Engine(work.engine, work.layout, work.output, worker_threads=worker_threads)
        self._local = threading.local()

    def process(self, chunk: int) -> Done:
        """Read, predict and write a chunk; its shards are durable when this returns."""
        found, read = self.predict(chunk)
        started = time.monotonic()
        stored = self._writer().write(self.stored_box(chunk), found.voxels)
        seconds = (read, found.waited, found.computed, time.monotonic() - started)
        return Done(stored, seconds, found.statistics)

    def predict(self, chunk: int) -> tuple[Prediction, float]:
        """Read and predict a chunk, and write nothing; also returns the seconds that reading took."""
        started = time.monotonic()
        seen = self._work.grid.core(chunk).shift(self._work.source.origin)
        read_box = self._work.layout.read_box(seen)
        shown = self._volume.read_shown(read_box, holes=self._work.source.holes)
        read = time.monotonic() - started
        return self._engine.predict(shown, read_box, seen), read

    def stored_box(self, chunk: int) -> Box:
        """Return where a chunk's voxels lie in the stored array, channels included."""
        core, channels = self._work.grid.core(chunk), self._work.output.channels
        return core if channels is None else Box((0, *core.start), (channels, *core.stop))

    def _writer(self) -> ShardWriter:
        """Return this thread's writer."""
        if not hasattr(self._local, "writer"):
            self._local.writer = ShardWriter(zarr.open_array(store=self._work.array, mode="r+"))
        writer: ShardWriter = self._local.writer
        return writer
