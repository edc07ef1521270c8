"""The statistics of every chunk as a Parquet table: where a prediction is good and where it is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.evaluation.metrics import class_ratios
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.geometry import Box
from pipeline.store import PARTIAL, fsync

ROWS = 4096
"""Rows that are held in memory before they are written: memory is flat in the number of chunks."""


class StatisticsTable:
    """Writes ``statistics.parquet``, one row a chunk; the file is there when it is whole, or not at all.

    ============  ==================  ==============================================================
    chunk         int64               number of the chunk on the prediction's grid of stored shards
    position      string              the same as position, ``"3/4"``
    core          string              its voxels, ``"3072:4096,4096:5120"``
    voxels        int64               voxels counted
    ignored       int64               voxels left out
    accuracy      double              share of the counted voxels that are right; null where none is counted
    counts        list of int64       voxels by target class and prediction class, row after row
    iou_<class>   double              of each class by its name; null where the chunk does not hold it
    ============  ==================  ==============================================================

    The classes' names are in the table's metadata too, under ``classes``, as JSON.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path, self._names = path, list(names)
        self._partial = path.with_name(path.name + PARTIAL)
        fields = [
            ("chunk", pa.int64()),
            ("position", pa.string()),
            ("core", pa.string()),
            ("voxels", pa.int64()),
            ("ignored", pa.int64()),
            ("accuracy", pa.float64()),
            ("counts", pa.list_(pa.int64())),
            *((f"iou_{name}", pa.float64()) for name in self._names),
        ]
        self._schema = pa.schema(fields, metadata={"classes": json.dumps(self._names)})
        self._rows: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter

    def add(self, chunk: int, position: Sequence[int], core: Box, statistics: ConfusionStatistics) -> None:
        """Add the row of one chunk."""
        counts = statistics.counts
        voxels = int(counts.sum())
        row = {
            "chunk": chunk,
            "position": "/".join(map(str, position)),
            "core": str(core),
            "voxels": voxels,
            "ignored": statistics.ignored,
            "accuracy": int(np.trace(counts)) / voxels if voxels else None,
            "counts": counts.reshape(-1).tolist(),
        }
        ious = class_ratios(counts)["iou"]
        self._rows.append(row | {f"iou_{name}": iou for name, iou in zip(self._names, ious, strict=True)})
        if len(self._rows) >= ROWS:
            self._flush()

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(self._partial, self._schema, compression="zstd")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
            if kind is None:
                fsync(self._partial)
                self._partial.replace(self._path)
                fsync(self._path.parent)
        finally:
            self._partial.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()
