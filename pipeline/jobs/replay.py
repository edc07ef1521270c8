"""Compute chunks of a finished run again, from the input, and compare them with what is stored."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.config import SegmentJob
from pipeline.errors import InputError
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.planning import plan as make_plan
from pipeline.jobs.recording import ARRAY
from pipeline.jobs.segmentation import Segmentation
from pipeline.run.folder import RunFolder
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, STATES

SHOWN = 100
"""Chunks that are named at most; the count is of all."""


def replay(
    output: str | Path, count: int, *, seed: int | None = None, listener: Listener | None = None
) -> dict[str, Any]:
    """Recompute chunks that are done, drawn at random, and compare them with the store, voxel by voxel.

    Nothing is written. The stored bytes were compared with the ledger by :func:`pipeline.verify`; this asks whether
    they are what the network says of the input today.

    Args:
        output: the result, ``OUT.zarr``.
        count: chunks to recompute; all, if there are fewer.
        seed: draws the same chunks again; None draws others each time.
        listener: who is told what is done.

    Returns:
        ``replayed`` chunks, their ``positions``, how many ``differ``, and ``differing``: position, core, the number
        of differing voxels and the largest difference of each.

    Raises:
        InputError: there is no segmentation at this output, none of its chunks is done, or its input, its model or
            the libraries are not those of the run; what differs is named.
    """
    if count < 1:
        raise InputError(f"--replay {count}: recompute at least 1 chunk")
    told = listener or Silent()
    folder = RunFolder(output)
    recorded = folder.read_segmentation()
    job = SegmentJob.model_validate(recorded["settings"] | {"output": str(output)})
    made = make_plan(job)
    done = np.flatnonzero(Ledger(folder.journal, len(made.grid)).states() == STATES.index(DONE))
    if not len(done):
        raise InputError(f"{output}: no chunk is done yet, so there is nothing to recompute")
    drawn = sorted(random.Random(seed).sample(list(map(int, done)), min(count, len(done))))
    told.phase("replay", len(drawn), "chunks")
    processor = Segmentation(made, told).work().open(made.cluster.threads or 1)
    array = zarr.open_array(folder.output.at(ARRAY).zarr_store(read_only=True), mode="r")
    differing = []
    for number, chunk in enumerate(drawn, start=1):
        found = processor.predict(chunk)[0]
        stored = np.asarray(array[processor.stored_box(chunk).slices])
        if (difference := _difference(stored, found.voxels)) is not None:
            place = {"position": _position(made.grid.position(chunk)), "core": str(made.grid.core(chunk))}
            differing.append(place | difference)
        told.progress(number)
    return {
        "replayed": len(drawn),
        "positions": [_position(made.grid.position(chunk)) for chunk in drawn[:SHOWN]],
        "differ": len(differing),
        "differing": differing[:SHOWN],
    }


def _difference(stored: np.ndarray[Any, Any], computed: np.ndarray[Any, Any]) -> dict[str, Any] | None:
    """Return in how many voxels two chunks differ, and by how much at most; None where they are equal."""
    unequal = stored != computed
    if not unequal.any():
        return None
    apart = np.abs(stored.astype(np.float64) - computed.astype(np.float64))
    return {"voxels": int(unequal.sum()), "largest": float(apart.max())}


def _position(position: Sequence[int]) -> str:
    return "/".join(map(str, position))
