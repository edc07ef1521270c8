"""Segment a volume, or chunks of it again: the main job as one function call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config import SegmentJob
from pipeline.errors import InputError
from pipeline.jobs.ingest import gone_on, is_ingest
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.planning import REPLACEABLE
from pipeline.jobs.planning import plan as make_plan
from pipeline.jobs.segmentation import Prepared, Segmentation
from pipeline.predict.plan import Plan
from pipeline.run.folder import RunFolder
from pipeline.run.ledger import Ledger
from pipeline.run.records import SKIPPED
from pipeline.run.repair import reopen
from pipeline.run.status import status


def segment(job: SegmentJob, *, stale: bool = False, listener: Listener | None = None) -> dict[str, Any]:
    """Segment a volume; running it again resumes, and does only what is lacking.

    Args:
        job: the settings.
        stale: compute chunks again, in place, that were made from an input, a model or libraries that have changed
            since; otherwise such a run is refused.
        listener: who is told what is done.

    Returns:
        The run's status, as :func:`pipeline.status` gives it.

    Raises:
        InputError: refused before any work; nothing was written.
        FailedChunksError: finished, but some chunks failed.
        DamageError: verification found damage.
    """
    stale = stale and RunFolder(job.output).exists
    made = make_plan(job, replacing=REPLACEABLE if stale else frozenset())
    return _carry_out(made, None, listener or Silent(), stale=stale)


def rerun(
    output: str | Path,
    *,
    chunks: Sequence[str] | None = None,
    failed: bool = False,
    stale: bool = False,
    accept_failures: int | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Process chunks of a run again, with the settings that it recorded: by default all that it lacks.

    Of an ingest, copy what it lacks; with ``stale``, also what changed in the source since it was finished.

    Args:
        output: the result, ``OUT.zarr``.
        chunks: these, by their positions on the grid (``"3/4"``).
        failed: only those that failed.
        stale: only those that were made from an input, a model or libraries that have changed since; the run then
            records the new ones.
        accept_failures: publish the result, as partial, with up to so many failed chunks; None for what was recorded.
        listener: who is told what is done.

    Returns:
        The run's status, as :func:`pipeline.status` gives it.

    Raises:
        InputError: there is no run, or no such chunk; two of the choices at once.
        FailedChunksError: some chunks failed, or are still lacking.
        DamageError: verification found damage.
    """
    if failed + stale + (chunks is not None) > 1:
        raise InputError("rerun: chunks, failed and stale exclude each other; choose one")
    if is_ingest(output):
        if failed or chunks is not None:
            raise InputError(
                f"rerun: {output} is an ingest, which goes on as a whole; leave chunks and failed out"
            )
        return gone_on(output, listener or Silent(), stale=stale)
    job = recorded_job(output, accept_failures=accept_failures)
    made = make_plan(job, replacing=REPLACEABLE if stale else frozenset())
    told = listener or Silent()
    if chunks is not None:
        return _carry_out(made, [_number(made, text) for text in chunks], told)
    if failed:
        return _carry_out(made, sorted(Ledger(RunFolder(output).journal, len(made.grid)).failures), told)
    return _carry_out(made, None, told, stale=stale, only_stale=stale)


def recorded_job(output: str | Path, *, accept_failures: int | None = None) -> SegmentJob:
    """Return the job of a run as it was recorded, for the place where the result lies now.

    Args:
        output: the result, ``OUT.zarr``.
        accept_failures: in place of what was recorded.

    Raises:
        InputError: there is no run.
    """
    recorded = RunFolder(output).read_segmentation()
    job = SegmentJob.model_validate(recorded["settings"] | {"output": str(output)})
    return job if accept_failures is None else job.model_copy(update={"accept_failures": accept_failures})


def _carry_out(
    plan: Plan,
    chunks: Sequence[int] | None,
    listener: Listener,
    *,
    stale: bool = False,
    only_stale: bool = False,
) -> dict[str, Any]:
    """Take a run through its phases; the listed chunks only, what is stale only, or all that is lacking."""
    run = Segmentation(plan, listener)
    with run.opened(stale=stale) as found:
        _tell(found, run, listener)
        if only_stale:
            chunks = sorted(found.stale)
        if found.sealed and not chunks:
            listener.note(f"{run.output} is complete already: nothing to do")
            return status(run.output)
        run.make_mask()
        if chunks:
            _refuse_skipped(run, chunks)
            reopen(run.folder)
        if chunks or (chunks is None and len(run.ledger.lacking())):
            _predict(run, chunks)
        run.check_complete()
        verified = run.verify()
        run.build_pyramid()
        run.seal(verified)
        run.publish()
        run.conclude()
    return status(run.output)


def _tell(found: Prepared, run: Segmentation, listener: Listener) -> None:
    """Say what was found that the user may not expect."""
    if found.lost:
        listener.note(f"{found.lost} finished chunks are gone from the store; they are computed again")
    if found.stale:
        chunk, reason = min(found.stale.items())
        position = "/".join(map(str, run.plan.grid.position(chunk)))
        listener.note(f"{len(found.stale)} finished chunks are stale; chunk {position}: {reason}")


def _predict(run: Segmentation, chunks: Sequence[int] | None) -> None:
    with run.workers() as dispatcher:
        if chunks is None:
            run.predict(dispatcher)
        else:
            run.predict_again(dispatcher, chunks)


def _refuse_skipped(run: Segmentation, chunks: Sequence[int]) -> None:
    """Raise InputError if one of the chunks is skipped: there is nothing to compute in it."""
    for chunk in chunks:
        if run.ledger.state(chunk) == SKIPPED:
            position = "/".join(map(str, run.plan.grid.position(chunk)))
            raise InputError(
                f"--chunks {position}: this chunk is skipped ({', '.join(run.ledger.skipped())}), and stays background;"
                " leave it out, or segment to another output with another --mask"
            )


def _number(plan: Plan, text: str) -> int:
    counts = plan.grid.counts
    try:
        position = [int(part) for part in text.split("/")]
    except ValueError:
        position = []
    if len(position) != len(counts) or any(not 0 <= p < n for p, n in zip(position, counts, strict=False)):
        limit = "/".join(str(n - 1) for n in counts)
        raise InputError(
            f"--chunks {text}: not a chunk of this run; positions go from {'/'.join('0' * len(counts))} to {limit}"
        )
    return plan.grid.number(position)
