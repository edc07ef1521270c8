"""Which chunk a user names: by its position on the grid of its run."""

from __future__ import annotations

from pipeline.errors import InputError
from pipeline.geometry import Grid


def chunk_number(grid: Grid, text: str) -> int:
    """Return the number of the chunk at a position.

    Args:
        grid: of the run.
        text: position along each axis: ``"3/4"``.

    Raises:
        InputError: it is none, or outside of the grid.
    """
    counts = grid.counts
    try:
        position = [int(part) for part in text.split("/")]
    except ValueError:
        position = []
    if len(position) != len(counts) or any(not 0 <= p < n for p, n in zip(position, counts, strict=False)):
        limit = "/".join(str(n - 1) for n in counts)
        raise InputError(
            f"--chunks {text}: not a chunk of this run; positions go from {'/'.join('0' * len(counts))} to {limit}"
        )
    return grid.number(position)
