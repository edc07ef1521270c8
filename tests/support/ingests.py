"""Bring an open source into a volume: what `pipeline.ingest` does with a path, for images that lie in no file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import IngestJob
from pipeline.geometry import Box
from pipeline.jobs.ingest import copy_in
from pipeline.jobs.ingest_source import as_copied
from pipeline.jobs.ingestion import Ingestion
from pipeline.jobs.listener import Silent
from pipeline.run.folder import RunFolder
from pipeline.run.journal import replay
from pipeline.run.records import Record
from pipeline.volume import Space
from pipeline.volume.file_image import FileImage
from pipeline.volume.sources.source import Source


class Watched(Source):
    """An image in memory that remembers what was read, and fails where it is told to.

    Args:
        data: ``([z,] y, x)``.
        space: None for unit voxels.
        slab: shape of the pieces that it claims to be decoded in.
        fail: called with each box before it is read; may raise.
    """

    def __init__(
        self,
        data: np.ndarray[Any, Any],
        space: Space | None = None,
        *,
        slab: tuple[int, ...] | None = None,
        fail: Callable[[Box], None] = lambda box: None,
    ) -> None:
        self.name, self.slab, self.fail = "watched", slab, fail
        self.data = data
        self.shape, self.channels, self.dtype = data.shape, None, data.dtype
        self.space = space or Space.unscaled("zyx"[-data.ndim :])
        self.boxes: list[Box] = []
        self.threads: set[int] = set()

    def read(self, box: Box) -> np.ndarray[Any, Any]:
        self.boxes.append(box)
        self.threads.add(threading.get_ident())
        self.fail(box)
        return self.data[box.slices][np.newaxis]


def fail_in(part: Box, error: Exception) -> Callable[[Box], None]:
    """Return what fails a read of a box that touches a part."""

    def fail(box: Box) -> None:
        if not part.intersect(box).is_empty:
            raise error

    return fail


def ingest(
    source: Source, out: Path, *, told: Callable[[int], None] | None = None, stale: bool = False, **settings: Any
) -> Ingestion:
    """Copy an open source; ``told`` hears of the MiB done."""
    job = IngestJob.model_validate({"source": "source", "output": str(out), "threads": 2} | settings)
    listener = Silent()
    if told is not None:
        listener.progress = lambda done, failed=0: told(done)  # type: ignore[method-assign]
    run, _ = copy_in(job, as_copied(job, source, FileImage("source", source)), listener, stale=stale)
    return run


def records(out: Path) -> list[Record]:
    """Return every record of an ingest's ledger, in order."""
    return [record for record in replay(RunFolder(out).journal) if record is not None]
