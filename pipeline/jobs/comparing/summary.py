"""What a comparison found: a table, a document and a page."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.compare import BASE
from pipeline.errors import EnvironmentFaultError
from pipeline.evaluation.bootstrap import Resampling, metric_names
from pipeline.evaluation.variants import compare_variants, summarise, to_json
from pipeline.jobs.comparing.plan import FORMAT, Comparison
from pipeline.jobs.comparing.trial import measured
from pipeline.reporting.compare_page import compare_page
from pipeline.store import put_file

TABLE, DOCUMENT, PAGE = "compare.parquet", "compare.json", "compare.html"

_FIXED = (
    *((name, pa.string()) for name in ("variant", "changes")),
    ("seed", pa.int64()),
    *((name, pa.string()) for name in ("checkpoint", "digest")),
    *((name, pa.int64()) for name in ("parameters", "steps", "kept_step", "patches")),
    *((name, pa.float64()) for name in ("seconds", "waited", "loss")),
    *((name, pa.int64()) for name in ("tiles", "voxels")),
)


def summarise_all(comparison: Comparison, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Work out means, spreads and differences, and write ``compare.parquet``, ``compare.json`` and ``compare.html``.

    Args:
        comparison: what was to be done.
        records: of its trials, in their order.

    Returns:
        ``table`` and ``page`` (paths); ``metrics``; ``variants`` and ``differences``
        (:func:`pipeline.evaluation.variants.to_json`); ``trials`` (the table's rows, without intervals); ``changes`` of
        each variant; ``plan`` of the base; ``exam`` (``exam`` or ``split``); ``intervals`` (how they were made).

    Raises:
        EnvironmentFaultError: something cannot be written.
    """
    job = comparison.job
    how = Resampling(job.resamples, job.confidence)
    trials = [measured(dict(record)) for record in records]
    rows = [
        _row(job.variants.get(record["variant"], {}), record, trial.values())
        for record, trial in zip(records, trials, strict=True)
    ]
    compared = to_json(summarise(trials, job.metrics), compare_variants(trials, BASE, job.metrics, how))
    document = {
        "format": FORMAT,
        "table": str(comparison.out / TABLE),
        "page": str(comparison.out / PAGE),
        "metrics": list(job.metrics),
        **compared,
        "trials": rows,
        "changes": dict(job.variants),
        "plan": list(comparison.choices),
        "exam": "exam" if job.exam else "split",
        "intervals": asdict(how),
    }
    intervals = [trial.intervals(how) for trial in trials]
    _put(
        comparison,
        TABLE,
        _table([_with_ends(r, i) for r, i in zip(rows, intervals, strict=True)], trials[0].names),
    )
    _put(comparison, DOCUMENT, (json.dumps(document, indent=2) + "\n").encode())
    curves = [(record["variant"], record["curve"]) for record in records]
    _put(comparison, PAGE, compare_page(document, curves).encode())
    return document


def _row(
    changes: Mapping[str, Any], record: Mapping[str, Any], values: Mapping[str, float | None]
) -> dict[str, Any]:
    """Return a trial's row of the table, without intervals."""
    counts = record["counts"]
    names = [name for name, _ in _FIXED if name in record]
    found = {name: record[name] for name in names} | {"changes": json.dumps(changes)}
    voxels = sum(sum(map(sum, tile)) for tile in counts)
    return found | {"tiles": len(counts), "voxels": voxels} | dict(values)


def _with_ends(row: dict[str, Any], intervals: Mapping[str, tuple[float, float] | None]) -> dict[str, Any]:
    """Return a row with the ends of its metrics' intervals."""
    ends: dict[str, float | None] = {}
    for name, interval in intervals.items():
        ends[f"low_{name}"], ends[f"high_{name}"] = interval or (None, None)
    return row | ends


def _table(rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> bytes:
    """Return the table as a Parquet file: a row a network; the same rows give the same bytes."""
    metrics = [
        (f"{end}{name}", pa.float64()) for name in metric_names(class_names) for end in ("", "low_", "high_")
    ]
    schema = pa.schema([*_FIXED, *metrics], metadata={"overtile": FORMAT})
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), stream, compression="zstd")
    return stream.getvalue()


def _put(comparison: Comparison, name: str, content: bytes) -> None:
    path = comparison.out / name
    try:
        put_file(path, content)
    except OSError as error:
        raise EnvironmentFaultError(f"{path}: cannot be written ({error})") from error
