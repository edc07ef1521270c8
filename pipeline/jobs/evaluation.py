"""Measure a prediction against its target: statistics of each chunk, their sum, the metrics of the sum."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.config import EvaluateJob
from pipeline.errors import InputError
from pipeline.evaluation.bootstrap import Resampling, chunk_intervals
from pipeline.evaluation.chunk_counts import read_counts
from pipeline.evaluation.comparison import segmentation_of
from pipeline.evaluation.maps import write_maps
from pipeline.evaluation.plan import EvaluationPlan, plan_evaluation
from pipeline.evaluation.record import METRICS, STATISTICS
from pipeline.evaluation.table import StatisticsTable
from pipeline.evaluation.totals import Totals
from pipeline.jobs.evaluate_record import cluster_of
from pipeline.jobs.evaluating import Evaluating
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.numbers import chunk_number
from pipeline.run.folder import MAPS, SEALED, RunFolder, result_in
from pipeline.run.status import status
from pipeline.run.summary import summarise
from pipeline.run.tls import check_cluster
from pipeline.store import absolute, parse_address, put_file
from pipeline.volume.state import GROUP, KEY

MOST_RESAMPLED = 64
"""Classes up to which intervals are worked out: their tables of all resampled units are held in memory."""


def evaluate(job: EvaluateJob, *, stale: bool = False, listener: Listener | None = None) -> dict[str, Any]:
    """Measure a prediction against a target, chunk by chunk; running it again resumes.

    The classes are those that the job names; else those of the prediction's metadata or of its run, else of the
    target's; else ``class 0``, ``class 1`` ... up to the largest id that is found in either.

    Args:
        job: the settings.
        stale: measure chunks again whose voxels changed since they were measured; otherwise such a run is refused.
        listener: who is told what is done.

    Returns:
        ``prediction``, ``target``, ``region`` (None for all that both cover), ``offset`` (voxel of the target that
        the prediction's voxel 0 lies over), ``ignore``, ``chunks`` (that were compared), ``target_identity`` (a
        digest), ``run`` (:class:`pipeline.run.summary.RunSummary` of the prediction; None without one); everything that
        :func:`pipeline.evaluation.metrics.metrics` gives; ``intervals`` of it over chunks; ``worst``, the chunks with
        the most wrong voxels (``chunk``, ``position``, ``core``, ``wrong``); ``holes``, see :func:`_holes`; and, where
        they were asked for, ``groups``, ``probabilities``, ``boundary``, ``instances`` and ``isbi``: see
        ``docs/evaluation.md``. With ``job.out`` the same is written there as ``metrics.json``, the statistics of each
        chunk as ``statistics.parquet``, and as maps on the grid of chunks as ``statistics.zarr``, beside its run.

    Raises:
        InputError: refused: the volumes do not fit each other or do not hold what is asked for, the prediction's run
            is not complete, stored voxels are missing or damaged, a value is none of the classes, or the folder is
            another evaluation's.
        FailedChunksError: some chunks failed, on workers.
    """
    return _evaluate(job, listener or Silent(), stale=stale)


def gone_on(named: str | Path, listener: Listener, *, chunks: Sequence[str] | None, stale: bool) -> dict[str, Any]:
    """Go on with the evaluation in a folder, with the settings that it recorded; return the run's status.

    Args:
        named: the folder, or the ``statistics.zarr`` in it.
        listener: who is told what is done.
        chunks: measure these again, by their positions on the grid (``"3/4"``).
        stale: measure chunks again whose voxels changed since.

    Raises:
        as :func:`evaluate`
    """
    result = Path(result_in(named))
    settings = RunFolder(result).read()["settings"]
    job = EvaluateJob.model_validate(settings | {"out": str(result.parent)})
    _evaluate(job, listener, chunks=chunks or (), stale=stale)
    return status(result)


def _evaluate(
    job: EvaluateJob, listener: Listener, *, chunks: Sequence[str] = (), stale: bool = False
) -> dict[str, Any]:
    _check_out(job)
    if job.on_workers:
        check_cluster(cluster_of(job))
    plan = plan_evaluation(job)
    with _folder(job) as out:
        run = Evaluating(plan, out, listener)
        again = [chunk_number(plan.grid, text) for text in chunks]
        with run.opened(again=again, stale=stale) as found:
            if found.lost:
                listener.note(f"the statistics of {found.lost} finished chunks are gone; they are measured again")
            if found.stale:
                listener.note(f"{found.stale} finished chunks changed since; they are measured again")
            if found.sealed and _is_whole(out):
                listener.note(f"{job.out} is complete already: nothing to do")
                return dict(json.loads((out / METRICS).read_text()))
            (out / METRICS).unlink(missing_ok=True)
            run.settle()
            run.measure()
            metrics = _write(run, run.add_up())
            run.seal()
    return metrics


def _write(run: Evaluating, total: Totals) -> dict[str, Any]:
    """Write the table, the maps and, last, the metrics; return these."""
    plan, out = run.plan, run.out
    names = plan.pair.names or tuple(f"class {i}" for i in range(total.classes.classes))
    with StatisticsTable(out / STATISTICS, names) as table:
        for each in run.bundles():
            core = plan.grid.core(each.chunk).intersect(plan.pair.box)
            table.add(each.chunk, plan.grid.position(each.chunk), core, each.classes.padded(len(names)))
    mark = {"state": SEALED, "fingerprint": plan.fingerprint, "run": run.folder.place.url.rpartition("/")[2]}
    write_maps(
        run.folder.output,
        run.bundles(),
        run.seconds(),
        grid=plan.grid,
        space=plan.pair.prediction.space,
        names=names,
        attributes={KEY: mark},
    )
    found = {**_compared(plan, total), **total.metrics(names), "intervals": _intervals(run, names)}
    found |= {"worst": _worst(run, total), "holes": _holes(run, total)}
    put_file(out / METRICS, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
    return found


def _compared(plan: EvaluationPlan, total: Totals) -> dict[str, Any]:
    """Return what was compared."""
    job, pair = plan.job, plan.pair
    made_by = segmentation_of(job.prediction)
    whole = job.region is None and pair.box == pair.prediction.box
    return {
        "prediction": absolute(job.prediction),
        "target": absolute(job.target),
        "region": None if whole else str(pair.box),
        "offset": list(pair.offset),
        "ignore": job.ignore,
        "chunks": total.chunks,
        "target_identity": pair.target_identity,
        "run": None if made_by is None else summarise(made_by).model_dump(mode="json"),
    }


def _intervals(run: Evaluating, names: Sequence[str]) -> dict[str, list[float] | None] | None:
    """Return the interval of each metric over chunks; None where there are none."""
    resamples = run.plan.job.resamples
    if not resamples or len(names) > MOST_RESAMPLED:
        return None
    counts = read_counts(run.out / STATISTICS)
    found = chunk_intervals(counts.counts, names, Resampling(resamples))
    return {name: None if ends is None else list(ends) for name, ends in found.items()}


def _worst(run: Evaluating, total: Totals) -> list[dict[str, Any]]:
    cores = (
        (wrong, chunk, run.plan.grid.core(chunk).intersect(run.plan.pair.box)) for wrong, chunk in total.worst
    )
    return [
        {"chunk": chunk, "position": run.position(chunk), "core": str(core), "wrong": wrong}
        for wrong, chunk, core in cores
    ]


def _holes(run: Evaluating, total: Totals) -> dict[str, Any]:
    """Return ``chunks`` with voxels in holes that were left out, and ``missing``: keys by chunk, of the first 1000."""
    return {
        "chunks": total.with_holes,
        "missing": {run.position(chunk): holes for chunk, holes in total.holes.items()},
    }


def _is_whole(out: Path) -> bool:
    """Whether everything that an evaluation writes is there."""
    return all((out / name).is_file() for name in (METRICS, STATISTICS, f"{MAPS}/{GROUP}"))


@contextmanager
def _folder(job: EvaluateJob) -> Iterator[Path]:
    """Give the folder to write to, made where it is missing; one that is removed again, where nothing is to be kept."""
    if job.out is not None:
        Path(job.out).mkdir(exist_ok=True)
        yield Path(job.out)
        return
    with tempfile.TemporaryDirectory(prefix="overtile-") as folder:
        yield Path(folder)


def _check_out(job: EvaluateJob) -> None:
    """Check that the folder can be written to.

    Raises:
        InputError: it is no folder, lies in one of the volumes, or there is nothing to make it in; workers elsewhere
            would have nowhere to write to.
    """
    if job.out is None:
        if job.scheduler is not None or job.cluster != "local":
            raise InputError("--out: name a folder that the workers of --scheduler or --cluster see, too")
        return
    if not parse_address(job.out).is_local:
        raise InputError(f"--out {job.out}: name a folder of this machine")
    place = Path(job.out).resolve()
    for volume in (job.prediction, job.target):
        if Path(volume).resolve() in (place, *place.parents):
            raise InputError(f"--out {job.out}: lies in the volume {volume}; choose a folder outside of it")
    if place.exists() and not place.is_dir():
        raise InputError(f"--out {job.out}: is a file; name a folder")
    if not place.parent.is_dir():
        raise InputError(f"--out {job.out}: there is no folder {place.parent}; make it first")
