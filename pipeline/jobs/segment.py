"""Segment a volume, or chunks of it again: the main job as one function call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config import SegmentJob
from pipeline.errors import InputError
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.planning import plan as make_plan
from pipeline.jobs.segmentation import Segmentation
from pipeline.predict.plan import Plan
from pipeline.run.folder import RunFolder
from pipeline.run.ledger import Ledger
from pipeline.run.status import status


def segment(job: SegmentJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Segment a volume; running it again resumes, and does only what is lacking.

    Args:
        job: the settings.
        listener: who is told what is done.

    Returns:
        The run's status, as :func:`pipeline.status` gives it.

    Raises:
        InputError: refused before any work; nothing was written.
        FailedChunksError: finished, but some chunks failed.
        DamageError: verification found damage.
    """
    return _carry_out(make_plan(job), None, listener or Silent())


def rerun(
    output: str | Path, *, chunks: Sequence[str] | None = None, listener: Listener | None = None
) -> dict[str, Any]:
    """Process chunks of a run again, with the settings that it recorded.

    Args:
        output: the result, ``OUT.zarr``.
        chunks: positions on the grid (``"3/4"``); None for those that failed.
        listener: who is told what is done.

    Raises:
        InputError: there is no run, or no such chunk.
    """
    recorded = RunFolder(output).read()
    job = SegmentJob.model_validate(recorded["settings"] | {"output": str(output)})
    made = make_plan(job)
    if chunks is None:
        wanted = sorted(Ledger(RunFolder(output).journal, len(made.grid)).failures)
    else:
        wanted = [_number(made, text) for text in chunks]
    return _carry_out(made, wanted, listener or Silent())


def _carry_out(plan: Plan, chunks: Sequence[int] | None, listener: Listener) -> dict[str, Any]:
    """Take a run through its phases; the listed chunks only, or all that is lacking."""
    run = Segmentation(plan, listener)
    with run.opened() as found:
        if found.lost:
            listener.note(f"{found.lost} finished chunks are gone from the store; they are computed again")
        if found.sealed and not chunks:
            listener.note(f"{run.output} is complete already: nothing to do")
            return status(run.output)
        if chunks:
            run.folder.unseal()
        if chunks or (chunks is None and found.lacking):
            _predict(run, chunks)
        run.check_complete()
        verified = run.verify()
        run.build_pyramid()
        run.seal(verified)
        run.publish()
    return status(run.output)


def _predict(run: Segmentation, chunks: Sequence[int] | None) -> None:
    with run.workers() as dispatcher:
        if chunks is None:
            run.predict(dispatcher)
        else:
            run.predict_again(dispatcher, chunks)


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
