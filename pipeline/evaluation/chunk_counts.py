"""The counts of every chunk, read back from ``statistics.parquet``: what a bootstrap draws from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import InputError

MOST_UNITS = 1024
"""Units that are drawn from at most: of more chunks, runs of neighbours are drawn together."""

_AT_ONCE = 1 << 20  # counts that are read at a time

_COLUMNS = ("chunk", "core", "ignored", "counts")


@dataclass(frozen=True, eq=False, slots=True)
class ChunkCounts:
    """What was counted in each chunk of one evaluation.

    Attributes:
        names: of the classes.
        counts: voxels by ``[unit, target class, prediction class]``, int64; a unit is one chunk, or several
            neighbours where there are more than :data:`MOST_UNITS` chunks.
        ignored: voxels left out, of all chunks.
        chunks: how many chunks there are.
        grid: digest of all chunks' cores: equal where two evaluations were cut alike.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    ignored: int
    chunks: int
    grid: str

    def is_paired_with(self, other: ChunkCounts) -> bool:
        """Whether both were cut alike, and every unit has the same target in both: then units can be compared."""
        return (
            self.grid == other.grid
            and self.names == other.names
            and np.array_equal(self.counts.sum(axis=2), other.counts.sum(axis=2))
        )


def read_counts(path: Path) -> ChunkCounts:
    """Read the statistics of one evaluation, in memory that does not grow with the number of chunks.

    Raises:
        InputError: it cannot be read, or is not what ``overtile evaluate --out`` writes.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = tuple(str(name) for name in json.loads(file.schema_arrow.metadata[b"classes"]))
            return _sum(file, names)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: not what `overtile evaluate --out` writes to statistics.parquet"
            f" ({type(error).__name__}: {error})"
        ) from error


def _sum(file: Any, names: tuple[str, ...]) -> ChunkCounts:
    """Add neighbouring chunks up to units."""
    rows, classes = file.metadata.num_rows, len(names)
    if not (rows and classes):
        raise ValueError(f"{rows} chunks and {classes} classes")
    units = min(rows, MOST_UNITS)
    total, ignored, first = np.zeros((units, classes, classes), np.int64), 0, 0
    grid = hashlib.blake2b(digest_size=16)
    for batch in file.iter_batches(columns=list(_COLUMNS), batch_size=max(1, _AT_ONCE // classes**2)):
        counts = _counts(batch, classes)
        numbers = np.arange(first, first + len(counts), dtype=np.int64)
        np.add.at(total, numbers * units // rows, counts)
        ignored += int(batch.column("ignored").to_numpy().sum())
        for chunk, core in zip(batch.column("chunk").to_pylist(), batch.column("core").to_pylist(), strict=True):
            grid.update(f"{chunk} {core}\n".encode())
        first += len(counts)
    return ChunkCounts(names, total, ignored, rows, grid.hexdigest())


def _counts(batch: Any, classes: int) -> NDArray[np.int64]:
    """Return the counts of some chunks, ``(chunks, classes, classes)``."""
    column = batch.column("counts")
    flat = column.flatten()
    lengths = np.diff(column.offsets.to_numpy())
    if column.null_count or flat.null_count or (lengths != classes * classes).any():
        raise ValueError(f"a chunk's counts are not a table of {classes} classes")
    counts: NDArray[np.int64] = flat.to_numpy().astype(np.int64).reshape(-1, classes, classes)
    if counts.min(initial=0) < 0:
        raise ValueError("a chunk's counts are negative")
    return counts
