"""Segment a volume, or chunks of it again: the main job as one function call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config import SegmentJob
from pipeline.errors import InputError
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.numbers import chunk_number
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


def segment_again(
    output: str | Path,
    *,
    chunks: Sequence[str] | None,
    failed: bool,
    stale: bool,
    accept_failures: int | None,
    listener: Listener,
) -> dict[str, Any]:
    """Process chunks of a segmentation again, with the settings that it recorded; see :func:`pipeline.rerun`."""
    job = recorded_job(output, accept_failures=accept_failures)
    made = make_plan(job, replacing=REPLACEABLE if stale else frozenset())
    if chunks is not None:
        return _carry_out(made, [chunk_number(made.grid, text) for text in chunks], listener)
    if failed:
        return _carry_out(made, sorted(Ledger(RunFolder(output).journal, len(made.grid)).failures), listener)
    return _carry_out(made, None, listener, stale=stale, only_stale=stale)


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
