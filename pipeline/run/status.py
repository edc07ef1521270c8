"""What a run has done so far, by its folder alone; works while it runs, without torch and without Dask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.geometry import Grid
from pipeline.run.folder import RunFolder, result_in
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, SKIPPED, STATES
from pipeline.run.seams import seams
from pipeline.volume.mask.stored import read_facts

SHOWN_FAILURES = 1000

MASK = "mask.zarr"
"""Name of the mask in a run's folder, where one is used."""


def status(output: str | Path) -> dict[str, Any]:
    """Return the state of the run of ``OUT.zarr``, JSON-ready.

    Keys: ``state`` (``incomplete``, ``partial`` or ``sealed``), ``total``, ``done``, ``failed``, ``skipped``,
    ``pending``, ``failures`` (chunk, its position on the grid, attempts, kind, error), ``seconds`` a phase summed over
    workers, ``seams`` (at borders of chunks and tiles, once the run is sealed, and of overlapping tiles; see
    :func:`pipeline.run.seams.seams`), ``skipped_reasons`` (chunks for each reason), ``skipped_share`` of all chunks,
    ``mask`` (what it says of itself; None where none is used), ``voxels`` done, ``peak_memory`` of a worker and
    ``predicted_memory`` in bytes, ``fingerprint``.

    Raises:
        InputError: there is no run at this output.
    """
    folder = RunFolder(result_in(output))
    recorded = folder.read()
    grid = Grid(tuple(recorded["grid"]["shape"]), tuple(recorded["grid"]["chunk"]))
    ledger = Ledger(folder.journal, len(grid))
    seal = folder.read_seal()
    failures = [
        {
            "chunk": chunk,
            "position": "/".join(map(str, grid.position(chunk))),
            "core": str(grid.core(chunk)),
            "attempts": record.attempt,
            "kind": record.kind,
            "error": record.error,
        }
        for chunk, record in sorted(ledger.failures.items())[:SHOWN_FAILURES]
    ]
    return {
        "output": str(output),
        "state": folder.state,
        "fingerprint": recorded["fingerprint"],
        **ledger.summary(),
        "seams": seams(ledger.statistics(), seal),
        "skipped_reasons": ledger.skipped(),
        "skipped_share": round(ledger.counts()[SKIPPED] / ledger.total, 4),
        "mask": read_facts(folder.place.at(MASK)),
        "voxels": _voxels_done(ledger, grid),
        "predicted_memory": recorded.get("plan", {}).get("memory", {}).get("peak"),
        "damaged_lines": ledger.damaged_lines,
        "grid": recorded["grid"],
        "failures": failures,
        "seal": seal,
    }


def _voxels_done(ledger: Ledger, grid: Grid) -> int:
    """Return the voxels of the chunks that are done: a chunk's size is the product of its lengths on each axis."""
    sizes = np.ones(1, dtype=np.int64)
    for length, chunk in zip(grid.shape, grid.chunk, strict=True):
        edges = np.append(np.arange(0, length, chunk), length)
        sizes = np.multiply.outer(sizes, np.diff(edges)).ravel()
    return int(sizes[ledger.states() == STATES.index(DONE)].sum())
