"""Take back what a run claims and its store does not hold: damaged chunks become pending, and the result unfinished."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path

from pipeline.run.folder import RunFolder, result_in
from pipeline.run.ledger import Ledger
from pipeline.run.verify import METADATA, Verification, verify
from pipeline.volume.state import GROUP, KEY, set_attributes


def repair(output: str | Path, *, on_progress: Callable[[int, int], None] | None = None) -> Verification:
    """Verify a result, and make what is missing or damaged pending again; running the job again computes just that.

    Args:
        output: the result, ``OUT.zarr``.
        on_progress: called with the number of chunks compared and their total.

    Returns:
        What verification found, before anything was changed.

    Raises:
        InputError: there is no run at this output, or another process is writing to it.
    """
    folder = RunFolder(result_in(output))
    recorded = folder.read()
    grid = recorded["grid"]
    total = prod(-(-n // c) for n, c in zip(grid["shape"], grid["chunk"], strict=True))
    with folder.lease() as lease:
        found = verify(output, on_progress=on_progress)
        if not found.ok:
            ledger = Ledger(folder.journal, total, epoch=lease.epoch, check=lease.check)
            try:
                take_back(folder, recorded["array"], ledger, found)
            finally:
                ledger.close()
    return found


def take_back(folder: RunFolder, array: str | None, ledger: Ledger, found: Verification) -> None:
    """Make chunks pending whose stored objects are missing or damaged, and remove the damaged objects.

    Args:
        folder: the run; the caller holds its lease.
        array: path of the run's array in the result; None of a run that stores none.
        ledger: the run's, open for writing.
        found: what verification found.
    """
    reopen(folder)
    ledger.requeue(found.chunks, "stored bytes are damaged")
    ledger.sync()
    place = folder.stored(array)
    for key in set(found.damaged) - {METADATA}:
        place.delete(key)


def reopen(folder: RunFolder) -> None:
    """Mark a result as unfinished, then take the seal away: before chunks are computed (again)."""
    run = folder.place.url.rpartition("/")[2]
    if folder.output.stats([GROUP])[0] is not None:
        set_attributes(folder.output, {KEY: {"state": "incomplete", "run": run}}, without=["ome"])
    folder.unseal()
