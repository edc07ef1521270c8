"""One object a chunk in the run's own folder: where work keeps what it finds out, and stores no array."""

from __future__ import annotations

from pipeline.geometry import Grid

OBJECTS = "chunks"
"""Folder of the objects, in the run's folder."""


def object_key(grid: Grid, chunk: int) -> str:
    """Return the key of a chunk's object: by its position, as Zarr names chunks."""
    return "/".join(["c", *map(str, grid.position(chunk))])
