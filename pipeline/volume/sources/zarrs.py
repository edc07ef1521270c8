"""Ingest of any Zarr that ``open_volume`` reads: plain arrays (v2, v3) and OME-Zarr images (0.4, 0.5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import OvertileError
from pipeline.geometry import Box
from pipeline.volume.geo import Georeference
from pipeline.volume.opening import open_volume
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, unreadable
from pipeline.volume.space import Space
from pipeline.volume.volume import Volume


@dataclass(slots=True, eq=False)
class VolumeSource(Source):
    """A volume as a source; a missing chunk is an error.

    Attributes:
        volume: where the voxels come from.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    volume: Volume
    geo: Georeference | None = field()  # not the default that Source has

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(c, [z,] y, x)``."""
        try:
            return self.volume.read(box)
        except OvertileError:
            raise
        except Exception as error:
            raise unreadable(self.name, error, f"voxels {box}") from error


def open_zarr(path: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open one level of a Zarr image.

    Raises:
        VolumeError: see :func:`pipeline.volume.opening.open_volume`.
    """
    volume = open_volume(path, level=reading.level, axes=reading.axes, holes=reading.holes)
    source = VolumeSource(
        name=volume.url,
        shape=volume.shape,
        channels=volume.channels if "c" in volume.axes else None,
        dtype=volume.dtype,
        space=volume.space,
        slab=tuple(volume.array.chunks[volume.axes.index(a)] for a in volume.space.axes),
        volume=volume,
        geo=volume.geo,
    )
    source.levels = volume.level_count
    return source
