"""The rows of the table over many runs: from evaluations, runs, and what could not be read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.overall_table import BROKEN, EVALUATION, RUN
from pipeline.evaluation.record import Evaluation
from pipeline.run.records import PHASES
from pipeline.run.summary import RunSummary

_PLACES = frozenset({"input", "output", "model"})
"""Settings that have columns of their own."""

_KINDS = (EVALUATION, RUN, BROKEN)


def evaluation_row(
    each: Evaluation, intervals: Mapping[str, Interval | None], *, model: str | None, settings: Iterable[str]
) -> dict[str, Any]:
    """Return the row of an evaluation.

    Args:
        each: the evaluation.
        intervals: of its metrics, by name.
        model: short name of its model.
        settings: those to show.
    """
    told = each.measured
    row = {
        **(run_columns(each.run, model=model, settings=settings) if each.run else {}),
        "kind": EVALUATION,
        "source": each.source,
        "prediction": told.prediction,
        "target": told.target,
        "target_identity": told.target_identity,
        "region": told.region,
        "ignore": told.ignore,
        "chunks_compared": each.counts.chunks,
        "voxels": int(each.counts.counts.sum()),
        "ignored": told.ignored,
    }
    for name, value in each.values.items():
        low, high = intervals[name] or (None, None)
        row |= {name: value, f"low_{name}": low, f"high_{name}": high}
    return row


def run_row(run: RunSummary, *, model: str | None, settings: Iterable[str]) -> dict[str, Any]:
    """Return the row of a run that was not evaluated."""
    return {**run_columns(run, model=model, settings=settings), "kind": RUN, "source": run.output}


def broken_row(source: str, why: str) -> dict[str, Any]:
    """Return the row of what could not be read."""
    return {"kind": BROKEN, "source": source, "note": why}


def run_columns(run: RunSummary, *, model: str | None, settings: Iterable[str]) -> dict[str, Any]:
    """Return what the table tells of a run."""
    network, elapsed = run.network_seconds, run.elapsed
    return {
        "volume": run.input,
        "model": model,
        "model_path": run.model,
        "model_digest": run.model_digest,
        "fingerprint": run.fingerprint,
        "run": run.id,
        "settings": json.dumps({name: run.settings.get(name) for name in settings}, sort_keys=True),
        "state": run.state,
        "chunks": run.chunks["total"],
        **{name: run.chunks[name] for name in ("done", "failed", "skipped", "pending")},
        "created": run.created,
        "sealed": run.sealed,
        "seconds": elapsed,
        **{f"seconds_{phase}": run.seconds.get(phase) for phase in PHASES},
        "voxels_per_second": run.voxels / network if network > 0 else None,
        "network_share": network / elapsed if elapsed else None,
    }


def differing_settings(runs: Iterable[RunSummary]) -> list[str]:
    """Return the names of the settings that are not the same in all runs; places are left out."""
    seen: dict[str, set[str]] = {}
    runs = list(runs)
    for name in {name for run in runs for name in run.settings} - _PLACES:
        seen[name] = {json.dumps(run.settings.get(name), sort_keys=True) for run in runs}
    return sorted(name for name, texts in seen.items() if len(texts) > 1)


def in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows as they stand in the table: evaluations by target, model and time, then runs, then the others."""

    def key(row: Mapping[str, Any]) -> tuple[int | float | str, ...]:
        sealed = row.get("sealed")
        time = sealed.timestamp() if sealed else 0.0
        told = (row.get(name) or "" for name in ("target", "region", "volume", "model_path"))
        return (_KINDS.index(row["kind"]), *told, time, row["source"])

    return sorted(rows, key=key)
