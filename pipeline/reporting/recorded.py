"""A run as its folder tells it: what was planned, what happened, what is sealed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box, Grid
from pipeline.run.folder import RunFolder
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, SKIPPED, STATES


@dataclass(frozen=True, slots=True)
class Recorded:
    """One run.

    Attributes:
        output: the result, ``OUT.zarr``.
        document: what was recorded when it began (``run.json``).
        seal: None while it is not complete.
        ledger: what happened to each chunk.
        grid: its chunks.
    """

    output: str
    document: dict[str, Any]
    seal: dict[str, Any] | None
    ledger: Ledger
    grid: Grid

    @property
    def plan(self) -> dict[str, Any]:
        """What was planned."""
        plan: dict[str, Any] = self.document["plan"]
        return plan

    @property
    def settings(self) -> dict[str, Any]:
        """The job."""
        settings: dict[str, Any] = self.document["settings"]
        return settings

    @property
    def classes(self) -> list[str]:
        """Names of the class ids."""
        return [str(name) for name in self.document["classes"]]

    @property
    def region(self) -> Box:
        """The part of the input that the result lies over, in the input's voxels."""
        return parse_box(self.plan["region"])

    @property
    def states(self) -> list[str]:
        """The state of each chunk, in the order of their numbers."""
        return [STATES[code] for code in self.ledger.states().tolist()]

    @property
    def middle(self) -> Box:
        """The plane of the result that is shown: all of it, or the middle one along z."""
        whole = Box.of_shape(self.grid.shape)
        if whole.ndim == 2:
            return whole
        z = whole.stop[0] // 2
        return Box((z, *whole.start[1:]), (z + 1, *whole.stop[1:]))

    def lacking(self, plane: Box, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Mark the pixels of a picture ``(h, w)`` of a plane whose chunk is neither done nor skipped."""
        finished = np.isin(self.ledger.states(), [STATES.index(DONE), STATES.index(SKIPPED)])
        chunks = finished.reshape(self.grid.counts)
        pixels = (1,) * (plane.ndim - 2) + shape
        index = [
            ((a + (np.arange(m) + 0.5) * (b - a) / m) // chunk).astype(np.intp)
            for (a, b), m, chunk in zip(plane, pixels, self.grid.chunk, strict=True)
        ]
        return ~chunks[np.ix_(*index)].reshape(shape)


def read_run(output: str | Path) -> Recorded:
    """Read the run of a result; the result itself is not opened.

    Raises:
        InputError: there is no run, or its record is not readable.
    """
    folder = RunFolder(output)
    document = folder.read_segmentation()
    grid = Grid(tuple(document["grid"]["shape"]), tuple(document["grid"]["chunk"]))
    return Recorded(str(output), document, folder.read_seal(), Ledger(folder.journal, len(grid)), grid)


def parse_box(text: str) -> Box:
    """Return the box that ``str(box)`` gave: ``"0:10,5:20"``."""
    pairs = [part.split(":") for part in text.split(",")]
    return Box(tuple(int(a) for a, _ in pairs), tuple(int(b) for _, b in pairs))
