"""Measure a prediction against its target: statistics of each chunk, their sum, the metrics of the sum."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.config import EvaluateJob
from pipeline.errors import InputError
from pipeline.evaluation.comparison import Comparison, open_comparison, runs_of
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.evaluation.table import StatisticsTable
from pipeline.geometry import Box
from pipeline.jobs.listener import Listener, Silent
from pipeline.run.folder import SEGMENTATION
from pipeline.run.summary import summarise
from pipeline.store import put_file

AHEAD = 2
"""Chunks that wait beyond the ones that threads are working on."""

WORST = 8
"""Chunks with the most wrong voxels that are told."""

Found = TypeVar("Found")


def evaluate(job: EvaluateJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Measure a prediction against a target of the same shape, chunk by chunk, in memory that does not grow.

    The classes are those that the job names; else those of the prediction's ``image-label`` metadata, else those of
    the target's; else ``class 0``, ``class 1`` ... up to the largest id in either, for which both are read once
    before. Runs in threads of this process; a later version runs it on the same engine as segmentation.

    Args:
        job: the settings.
        listener: who is told what is done.

    Returns:
        ``prediction``, ``target``, ``region`` (None for all), ``ignore``, ``chunks``, ``target_identity`` (a digest),
        ``run`` (:class:`pipeline.run.summary.RunSummary` of the prediction; None without one); everything that
        :func:`pipeline.evaluation.metrics.metrics` gives; and ``worst``, the chunks with the most wrong voxels
        (``chunk``, ``position``, ``core``, ``wrong``). With ``job.out`` the same is written there as
        ``metrics.json``, and the statistics of each chunk as ``statistics.parquet``.

    Raises:
        InputError: refused, nothing was written: the volumes do not fit each other or hold no class ids, the
            prediction's run is not complete, stored voxels are missing or damaged, a value is none of the classes.
    """
    told = listener or Silent()
    pair = open_comparison(
        job.prediction, job.target, region=job.region, classes=job.classes, ignore=job.ignore, holes=job.holes
    )
    folder = _folder(job)
    if pair.names is None:
        ids = _each(pair, pair.largest_id, threads=job.threads, listener=told, phase="classes")
        pair = pair.named([f"class {i}" for i in range(1 + max(largest for _, _, largest in ids))])
    names = pair.names
    assert names is not None
    total, worst = _total(pair, job.threads, folder, told)
    found = {
        "prediction": job.prediction,
        "target": job.target,
        "region": str(pair.box) if job.region is not None else None,
        "ignore": job.ignore,
        "chunks": pair.count,
        "target_identity": pair.target_identity,
        "run": _run(job.prediction),
        **metrics(total, names),
        "worst": worst,
    }
    if folder is not None:
        put_file(folder / "metrics.json", (json.dumps(found, indent=1) + "\n").encode())
    return found


def _total(
    pair: Comparison, threads: int, folder: Path | None, listener: Listener
) -> tuple[ConfusionStatistics, list[dict[str, Any]]]:
    """Add the statistics of all chunks up, and note each one and the worst ones on the way."""
    assert pair.names is not None
    total, grid = ConfusionStatistics.zero(len(pair.names)), pair.grid
    worst: list[dict[str, Any]] = []
    with ExitStack() as stack:
        table = None
        if folder is not None:
            table = stack.enter_context(StatisticsTable(folder / "statistics.parquet", pair.names))
        chunks = _each(pair, pair.statistics, threads=threads, listener=listener, phase="evaluate")
        for number, core, statistics in chunks:
            total += statistics
            position = grid.position(number)
            if table is not None:
                table.add(number, position, core, statistics)
            wrong = int(statistics.counts.sum() - np.trace(statistics.counts))
            if wrong:
                shown = "/".join(map(str, position))
                worst.append({"chunk": number, "position": shown, "core": str(core), "wrong": wrong})
                worst = sorted(worst, key=lambda each: (-each["wrong"], each["chunk"]))[:WORST]
    return total, worst


def _each(
    pair: Comparison, work: Callable[[Box], Found], *, threads: int, listener: Listener, phase: str
) -> Iterator[tuple[int, Box, Found]]:
    """Yield what ``work`` finds in each chunk, in order; at most ``threads + 2`` chunks are in flight."""
    listener.phase(phase, pair.count, "chunks")
    pending: deque[tuple[int, Box, Future[Found]]] = deque()
    done = 0

    def finish() -> tuple[int, Box, Found]:
        nonlocal done
        number, core, future = pending.popleft()
        found = future.result()
        listener.progress(done := done + 1)
        return number, core, found

    with ThreadPoolExecutor(threads, thread_name_prefix=phase) as pool:
        try:
            for number, core in pair.chunks():
                pending.append((number, core, pool.submit(work, core)))
                if len(pending) >= threads + AHEAD:
                    yield finish()
            while pending:
                yield finish()
        finally:
            for *_, future in pending:
                future.cancel()


def _run(prediction: str) -> dict[str, Any] | None:
    """Return what is kept of the segmentation that made the prediction; None where it was made otherwise."""
    for folder in runs_of(prediction):
        if folder.read().get("kind") == SEGMENTATION:
            return summarise(folder).model_dump(mode="json")
    return None


def _folder(job: EvaluateJob) -> Path | None:
    """Return the folder to write to, made where it is missing; None where nothing is to be written.

    Raises:
        InputError: it is no folder, lies in one of the volumes, or there is nothing to make it in.
    """
    if job.out is None:
        return None
    folder = Path(job.out)
    place = folder.resolve()
    for volume in (Path(job.prediction).resolve(), Path(job.target).resolve()):
        if place == volume or volume in place.parents:
            raise InputError(f"--out {job.out}: lies in the volume {volume}; choose a folder outside of it")
    if place.exists() and not place.is_dir():
        raise InputError(f"--out {job.out}: is a file; name a folder")
    if not place.parent.is_dir():
        raise InputError(f"--out {job.out}: there is no folder {place.parent}; make it first")
    folder.mkdir(exist_ok=True)
    return folder
