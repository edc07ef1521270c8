"""Go on with a run of any kind by its path alone, with the settings that it recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.jobs import evaluation, ingest
from pipeline.jobs.ingest_record import KIND as INGEST
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.segment import segment_again
from pipeline.run.folder import EVALUATION, SEGMENTATION, RunFolder, result_in


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

    Of an ingest, copy what it lacks; with ``stale``, also what changed in the source since it was finished. Of an
    evaluation, measure what it lacks (or the chunks that are named), and add up again.

    Args:
        output: the result, ``OUT.zarr``, or the folder of an evaluation.
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
    told = listener or Silent()
    kind = RunFolder(result_in(output)).read().get("kind", SEGMENTATION)
    if kind == EVALUATION:
        return evaluation.gone_on(output, told, chunks=chunks, stale=stale)
    if kind == INGEST:
        if failed or chunks is not None:
            raise InputError(
                f"rerun: {output} is an ingest, which goes on as a whole; leave chunks and failed out"
            )
        return ingest.gone_on(output, told, stale=stale)
    return segment_again(
        output, chunks=chunks, failed=failed, stale=stale, accept_failures=accept_failures, listener=told
    )
