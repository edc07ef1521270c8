"""Ingest as work over a grid of chunks: a chunk is a slab of the source."""

from __future__ import annotations

from pipeline.errors import InputDamageError
from pipeline.jobs.ingest_source import Copied
from pipeline.run.records import Done
from pipeline.volume.copier import Copier
from pipeline.volume.copying import CopyPlan


class IngestProcessor:
    """Copies one slab at a time, and knows the files below it."""

    def __init__(self, copied: Copied, plan: CopyPlan, copier: Copier) -> None:
        self._from = copied
        self._grid = plan.grid
        self._copier = copier

    def process(self, chunk: int, *, lean: bool = False) -> Done:
        """Copy a slab; everything is durable when this returns.

        Raises:
            ChunkError: a file below it is gone, or changed since it was opened or while it was read.
        """
        core = self._grid.core(chunk)
        seen = self._from.seen(core)
        made = self._copier.copy_lean(core) if lean else self._copier.copy(core)
        if self._from.seen(core) != seen:
            raise InputDamageError(
                f"{self._from.image.url}: below voxels {core}, a file changed while it was read; run again when nothing"
                " writes to it"
            )
        return Done(made.stored, (made.read, 0.0, 0.0, made.write), None, seen)
