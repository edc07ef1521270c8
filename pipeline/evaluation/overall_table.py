"""Many evaluations and runs as one Parquet table: a row each, a column for every number.

==================  ============  ==================================================================================
kind                string        ``evaluation``; ``run``: a run without an evaluation of it as it is; ``broken``
source              string        folder of the evaluation, address of the result, or what is broken
note                string        why it is broken, why it is not compared, what has changed since
volume              string        address of the image that was segmented
prediction          string        as the evaluation was given it
target              string        as the evaluation was given it
target_identity     string        digest of the target's place and layout
region              string        part that was compared; null for all
ignore              int64         target value that was not counted
model               string        short name of the checkpoint
model_path          string        address of the checkpoint
model_digest        string        digest of the checkpoint
fingerprint         string        of the run
run                 string        id of the run
settings            string        JSON: those settings of the run that differ between the runs of the table
state               string        of the run: ``incomplete``, ``partial``, ``sealed``
chunks              int64         of the run; then ``done``, ``failed``, ``skipped``, ``pending``
created             timestamp     UTC, when the run began; then ``sealed``
seconds             double        from the beginning to the seal, pauses included
seconds_<phase>     double        ``read``, ``wait``, ``compute``, ``write``: summed over chunks
voxels_per_second   double        while the network ran, on all workers
network_share       double        of the seconds, what the network alone would have taken: 1 is the bare network
chunks_compared     int64         of the evaluation
voxels              int64         that were counted; then ``ignored``, that were not
<metric>            double        ``accuracy``, ``mean_iou`` ..., ``iou_<class>`` ...; null where not defined
low_<metric>        double        lower end of its interval over chunks; then ``high_<metric>``
==================  ============  ==================================================================================

What is not known is null. The metadata say how intervals were made (``resampling``, JSON).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.evaluation.bootstrap import Resampling, metric_names
from pipeline.evaluation.trend import Series
from pipeline.run.records import PHASES

FORMAT = "overtile-aggregate/1"

EVALUATION, RUN, BROKEN = "evaluation", "run", "broken"
"""Kinds of rows, in the order in which they stand in the table."""

Row = Mapping[str, Any]

_TIME = pa.timestamp("s", tz="UTC")

_FIXED: tuple[tuple[str, Any], ...] = (
    *((name, pa.string()) for name in ("kind", "source", "note", "volume", "prediction", "target")),
    *((name, pa.string()) for name in ("target_identity", "region")),
    ("ignore", pa.int64()),
    *((name, pa.string()) for name in ("model", "model_path", "model_digest", "fingerprint", "run", "settings")),
    ("state", pa.string()),
    *((name, pa.int64()) for name in ("chunks", "done", "failed", "skipped", "pending")),
    ("created", _TIME),
    ("sealed", _TIME),
    ("seconds", pa.float64()),
    *((f"seconds_{phase}", pa.float64()) for phase in PHASES),
    ("voxels_per_second", pa.float64()),
    ("network_share", pa.float64()),
    *((name, pa.int64()) for name in ("chunks_compared", "voxels", "ignored")),
)


def table_bytes(rows: Sequence[Row], class_names: Sequence[str], resampling: Resampling) -> bytes:
    """Return the table as a Parquet file; the same rows give the same bytes.

    Args:
        rows: values by column; what is left out is null.
        class_names: of all classes that have columns.
        resampling: how intervals were made.
    """
    measured = [
        (f"{end}{name}", pa.float64()) for name in metric_names(class_names) for end in ("", "low_", "high_")
    ]
    metadata = {"overtile": FORMAT, "resampling": json.dumps(asdict(resampling))}
    schema = pa.schema([*_FIXED, *measured], metadata=metadata)
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), stream, compression="zstd")
    return stream.getvalue()


def read_series(path: Path) -> dict[Series, dict[str, float | None]]:
    """Return the metrics of the newest evaluation of each series in a table; nothing where there is no table.

    Raises:
        InputError: the file is no table of this kind.
    """
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path)
        told = (table.schema.metadata or {}).get(b"overtile", b"").decode()
        rows = table.to_pylist() if told == FORMAT else None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as a table ({type(error).__name__}: {error})") from error
    if rows is None:
        raise InputError(f"{path}: is not a table that `overtile aggregate` made; name another one")
    rows = [row for row in rows if row["kind"] == EVALUATION and row["target_identity"]]
    rows.sort(key=lambda row: (row["sealed"].timestamp() if row["sealed"] else 0.0, row["source"]))
    fixed = {name for name, _ in _FIXED}
    return {
        Series(row["model_path"] or row["prediction"], row["target_identity"], row["region"], row["ignore"]): {
            name: value for name, value in row.items() if name not in fixed
        }
        for row in rows
    }
