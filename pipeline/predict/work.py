"""The spine: read, predict and write one chunk, one call an arrow."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from pipeline.geometry import Box, Grid, Layout
from pipeline.predict.engine import Engine, Prediction
from pipeline.predict.forward import EngineSpec
from pipeline.predict.nodata import NoData, emptied
from pipeline.predict.output import OutputSpec
from pipeline.run.records import Done
from pipeline.volume import ShardWriter
from pipeline.volume.image import ImageSpec
from pipeline.volume.mask.stored import MaskSpec


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Which voxels are read.

    Attributes:
        image: how the input is opened, in the voxels that the network sees.
        origin: voxel of the input that output voxel 0 lies over.
    """

    image: ImageSpec
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
        mask: outside of which is background; None where nothing is.
        nodata: what stands in for NaN that the raster says is no data; None where NaN is an error.
    """

    name: str
    source: SourceSpec
    array: str
    grid: Grid
    layout: Layout
    engine: EngineSpec
    output: OutputSpec
    mask: MaskSpec | None = None
    nodata: NoData | None = None

    def open(self, worker_threads: int) -> SegmentProcessor:
        """Load the network and open the image, in a worker process."""
        return SegmentProcessor(self, worker_threads)


class SegmentProcessor:
    """A worker process's open image and network, shared by its threads."""

    def __init__(self, work: SegmentWork, worker_threads: int) -> None:
        self._work = work
        self._image = work.source.image.open()
        self._mask = work.mask.open() if work.mask else None
        self._engine = self.load(worker_threads)
        self._local = threading.local()

    def load(self, worker_threads: int) -> Engine:
        """Load the network."""
        work = self._work
        return Engine(work.engine, work.layout, work.output, worker_threads=worker_threads)

    def process(self, chunk: int, *, lean: bool = False) -> Done:
        """Read, predict and write a chunk; its shards are durable when this returns.

        Args:
            chunk: number of the chunk.
            lean: let the network use as little memory as the same bytes can be had with.
        """
        found, read, seen = self.predict(chunk, lean=lean)
        started = time.monotonic()
        stored = self._writer().write(self.stored_box(chunk), found.voxels)
        seconds = (read, found.waited, found.computed, time.monotonic() - started)
        return Done(stored, seconds, found.statistics, seen)

    def predict(self, chunk: int, *, lean: bool = False) -> tuple[Prediction, float, tuple[str, ...]]:
        """Read and predict a chunk, and write nothing.

        Returns:
            What the network says, the seconds that reading took, and what was read (``Look.seen``).
        """
        started = time.monotonic()
        core = self._work.grid.core(chunk).shift(self._work.source.origin)
        read_box = self._work.layout.read_box(core)
        look = self._image.look(read_box)
        nodata = self._work.nodata
        shown = look.shown(finite=nodata is None)
        shown, empty = (shown, None) if nodata is None else nodata.filled(shown, read_box)
        read = time.monotonic() - started
        found = self._engine.predict(shown, read_box, core, lean=lean)
        if empty is not None:
            found = replace(found, voxels=emptied(found.voxels, empty, core=core, read_box=read_box))
        if self._mask is not None:
            found = replace(found, voxels=self._mask.apply(found.voxels, core))
        return found, read, look.seen

    def stored_box(self, chunk: int) -> Box:
        """Return where a chunk's voxels lie in the stored array, channels included."""
        core, channels = self._work.grid.core(chunk), self._work.output.channels
        return core if channels is None else Box((0, *core.start), (channels, *core.stop))

    def _writer(self) -> ShardWriter:
        """Return this thread's writer."""
        if not hasattr(self._local, "writer"):
            self._local.writer = ShardWriter(self._work.array)
        writer: ShardWriter = self._local.writer
        return writer
