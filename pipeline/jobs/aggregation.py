"""Many evaluations and runs as one table and one page: found, compared, followed over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import AggregateJob
from pipeline.errors import InputError, MetricDroppedError
from pipeline.evaluation.bootstrap import Interval, Resampling, chunk_intervals
from pipeline.evaluation.naming import model_names
from pipeline.evaluation.overall import Overall, overall
from pipeline.evaluation.overall_table import read_series, table_bytes
from pipeline.evaluation.pairing import newest
from pipeline.evaluation.record import Evaluation
from pipeline.evaluation.rows import broken_row, differing_settings, evaluation_row, in_order, run_row
from pipeline.jobs.gathering import Gathered, gather
from pipeline.jobs.listener import Listener, Silent
from pipeline.reporting.overall_page import overall_page
from pipeline.run.summary import RunSummary
from pipeline.store import put_file

PREVIOUS = ".previous.parquet"
"""Ending of the table that was there before the last change: what a drop is measured from."""

Intervals = Mapping[str, Mapping[str, Interval | None]]


class _Outputs(NamedTuple):
    table: Path
    page: Path
    previous: Path


def aggregate(job: AggregateJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Put the metrics of many runs into one table and on one page, compare their models, and see what has dropped.

    The table is a function of what is found: its rows do not depend on the order of the sources, and the same
    evaluations and runs give the same bytes. When it changes, the one that was there is kept beside it, as
    ``TABLE.previous.parquet``.

    Args:
        job: the settings.
        listener: who is told what is done.

    Returns:
        See :func:`pipeline.evaluation.overall.overall`; and ``table`` and ``page``, where they were written.

    Raises:
        InputError: refused, nothing was written: a source is not there, holds nothing or holds something broken; a
            metric that no evaluation has; the table or the page cannot be written there.
    """
    told = listener or Silent()
    outputs = _outputs(job)
    old = outputs.table.read_bytes() if outputs.table.exists() else None
    read_series(outputs.table)  # refuses to replace anything else
    found = gather(job.sources, tolerant=job.broken == "list", listener=told)
    _check_metrics(job, found)
    resampling = Resampling(job.resamples, job.confidence, job.seed)
    intervals = _intervals(found.evaluations, resampling, told)
    names = _model_names(found)
    rows = _rows(found, intervals, names)
    classes = sorted({name for each in found.evaluations for name in each.counts.names})
    new = table_bytes(rows, classes, resampling)
    before = read_series(outputs.previous if new == old else outputs.table)
    result = overall(job, found.evaluations, names=names, before=before, resampling=resampling)
    _write(outputs, old, new, overall_page(result, rows, intervals))
    return _document(result, found, outputs)


def check_bounds(found: Mapping[str, Any]) -> None:
    """Raise MetricDroppedError where :func:`aggregate` found a metric below its bound, or dropped."""
    alerts = found["alerts"]
    if alerts:
        told = "; ".join(each["text"] for each in alerts[:5])
        more = f"; and {len(alerts) - 5} more" if len(alerts) > 5 else ""
        raise MetricDroppedError(
            f"{found['table']}: {len(alerts)} metric(s) below their bound or dropped: {told}{more}"
        )


def _outputs(job: AggregateJob) -> _Outputs:
    """Return where everything is written.

    Raises:
        InputError: a name of another kind, or there is no folder to write to.
    """
    table = Path(job.out)
    page = table.with_suffix(".html") if job.page is None else Path(job.page)
    for path, option, suffix in ((table, "--out", ".parquet"), (page, "--page", ".html")):
        if path.suffix != suffix or path.is_dir():
            raise InputError(f"{option} {path}: is a file whose name ends in {suffix}; name it so")
        if not path.absolute().parent.is_dir():
            raise InputError(f"{option} {path}: there is no folder {path.absolute().parent}; make it first")
    if table.name.endswith(PREVIOUS):
        raise InputError(f"--out {table}: that is the name of what was there before; choose another one")
    return _Outputs(table, page, table.with_name(table.stem + PREVIOUS))


def _check_metrics(job: AggregateJob, found: Gathered) -> None:
    """Refuse a metric that no evaluation has; without evaluations there is none to be compared."""
    known = {name for each in found.evaluations for name in each.values}
    for option, names in (("--metrics", job.metrics), ("bounds", job.bounds)):
        for name in names:
            if known and name not in known:
                raise InputError(f"{option} {name}: no evaluation has it; there are {', '.join(sorted(known))}")


def _intervals(evaluations: list[Evaluation], resampling: Resampling, told: Listener) -> Intervals:
    """Return the intervals of all metrics of each evaluation, by its place."""
    told.phase("bootstrap", len(evaluations), "evaluations")
    found = {}
    for number, each in enumerate(evaluations, start=1):
        found[each.source] = chunk_intervals(each.counts.counts, each.counts.names, resampling)
        told.progress(number)
    return found


def _recorded(found: Gathered) -> list[RunSummary]:
    """Return the runs of the evaluations, as they were then."""
    return [each.run for each in found.evaluations if each.run is not None]


def _model_names(found: Gathered) -> dict[str, str]:
    """Return the names of all models, by their digests."""
    runs = sorted([*_recorded(found), *found.runs], key=lambda run: run.model)
    return model_names({run.model_digest: run.model for run in runs})


def _rows(found: Gathered, intervals: Intervals, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the rows of the table, in their order."""
    recorded = _recorded(found)
    settings = differing_settings([*recorded, *found.runs])
    rows = []
    notes = _notes(found)
    for each in found.evaluations:
        model = names[each.run.model_digest] if each.run else None
        row = evaluation_row(each, intervals[each.source], model=model, settings=settings)
        rows.append(row | {"note": notes.get(each.source)})
    measured = {(run.id, run.root) for run in recorded}
    rows += [
        run_row(run, model=names[run.model_digest], settings=settings)
        for run in found.runs
        if (run.id, run.root) not in measured
    ]
    return in_order([*rows, *(broken_row(place, why) for place, why in found.broken.items())])


def _notes(found: Gathered) -> dict[str, str]:
    """Return what is to be said of evaluations, by their place."""
    chosen = newest(found.evaluations)
    now: dict[str, RunSummary] = {run.id: run for run in found.runs}
    notes: dict[str, list[str]] = {}
    for each in found.evaluations:
        said = notes.setdefault(each.source, [])
        if each.run is None:
            said.append("the prediction has no run that tells its model")
        elif each.key is None:
            said.append("it does not tell its target; evaluate again")
        elif (other := chosen[each.run.model_digest][each.key]) is not each:
            said.append(
                f"not compared: {other.source} is {'newer' if other.order[0] > each.order[0] else 'the same'}"
            )
        if each.run is not None and each.run.id in now and now[each.run.id].root != each.run.root:
            said.append("the result has been computed anew since; evaluate again")
    return {source: "; ".join(said) for source, said in notes.items() if said}


def _write(outputs: _Outputs, old: bytes | None, new: bytes, page: str) -> None:
    """Write the page, keep the old table if the new one is another, and put the new one in its place."""
    put_file(outputs.page, page.encode())
    if old is not None and old != new:
        put_file(outputs.previous, old)
    if old != new:
        put_file(outputs.table, new)


def _document(result: Overall, found: Gathered, outputs: _Outputs) -> dict[str, Any]:
    kinds = {"evaluations": len(found.evaluations), "runs": len(found.runs), "broken": len(found.broken)}
    places = {"table": str(outputs.table), "page": str(outputs.page)}
    return {**places, "counts": kinds, "other_runs": sorted(found.others), **result.to_json()}
