"""Ingest of any Zarr that ``open_volume`` reads: plain arrays (v2, v3) and OME-Zarr images (0.4, 0.5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import OvertileError
from pipeline.geometry import Box
from pipeline.volume.geo import Georeference, read_georeference
from pipeline.volume.node import as_place
from pipeline.volume.opening import open_volume
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, unreadable
from pipeline.volume.space import Space
from pipeline.volume.state import read_attributes
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


def open_zarr(path: Path, reading: Reading = DEFAULT) -> Source:
    """Open one level of a Zarr image.

    Raises:
        VolumeError: see :func:`pipeline.volume.opening.open_volume`.
    """
    volume = open_volume(path, level=reading.level, axes=reading.axes, holes=reading.holes)
    return VolumeSource(
        name=volume.url,
        shape=volume.shape,
        channels=volume.channels if "c" in volume.axes else None,
        dtype=volume.dtype,
        space=volume.space,
        slab=tuple(volume.array.chunks[volume.axes.index(a)] for a in volume.space.axes),
        volume=volume,
        geo=_georeference(path, volume),
    )


def _georeference(path: Path, volume: Volume) -> Georeference | None:
    """Return where on Earth the level lies, where the image group tells it."""
    geo = read_georeference(read_attributes(as_place(path)))
    if geo is None or volume.level == 0:
        return geo
    finest = open_volume(path).space.voxel_size
    return geo.scaled([size / first for size, first in zip(volume.space.voxel_size, finest, strict=True)])
