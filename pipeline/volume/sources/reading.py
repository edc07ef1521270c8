"""How an image is to be read, where its file leaves something open: what a user says beside its name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.errors import VolumeError
from pipeline.volume.sources.units import METRES, unit_name
from pipeline.volume.space import Space

Holes = Literal["error", "background"]
"""What a stored chunk that is missing from a Zarr means: a fault, or the fill value."""

Resampling = Literal["nearest", "bilinear", "cubic", "average", "mode"]
"""How a raster that lies on another grid becomes voxels of this one, as GDAL names it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a user says of an image. Small and picklable: it travels to the workers beside the address.

    Attributes:
        axes: axis names, where the file does not say them (``"zyx"``).
        level: resolution level to read, 0 is the finest.
        voxel_size: extent of a voxel of that level along each spatial axis; in place of what the file says.
        unit: unit of ``voxel_size`` (``"nm"``, ``"micrometer"``); None keeps what the file says.
        holes: what a stored chunk that is missing means.
        bands: channels to read, in this order, counted from 1; None for all.
        crs: coordinate reference system of a raster that does not tell it (``"EPSG:32618"``), or ``"none"`` to read
            it as an image without one.
        snap: most that a file of a mosaic may lie off the grid of the first one, in voxels, below 0.5.
        warp: coordinate reference system that the files of a raster or mosaic are brought to (``"EPSG:32618"``), or
            ``"first"`` for the grid of the first file; None refuses files that differ.
        resampling: how voxels are made where files are warped.
    """

    axes: str | None = None
    level: int = 0
    voxel_size: tuple[float, ...] | None = None
    unit: str | None = None
    holes: Holes = "error"
    bands: tuple[int, ...] | None = None
    crs: str | None = None
    snap: float = 1e-3
    warp: str | None = None
    resampling: Resampling = "nearest"


DEFAULT = Reading()
"""Nothing is said: everything is as the file tells it."""


def override(space: Space, reading: Reading, *, name: str) -> Space:
    """Return a space with what the user says in the place of what the file says.

    Args:
        space: as the file tells it.
        reading: what the user says.
        name: what messages call the image.

    Raises:
        VolumeError: a size that fits no voxel, a unit without a size, an unknown unit.
    """
    voxel_size, unit = reading.voxel_size, reading.unit
    if voxel_size is not None:
        if len(voxel_size) != len(space.axes) or not all(math.isfinite(s) and s > 0 for s in voxel_size):
            raise VolumeError(
                f"{name}: voxel size {voxel_size}; give one positive number for each of the axes"
                f" {','.join(space.axes)}"
            )
        space = replace(space, voxel_size=tuple(float(s) for s in voxel_size))
    if unit is not None:
        if voxel_size is None:
            raise VolumeError(f"{name}: unit {unit!r} without a voxel size; give both")
        known = unit_name(unit)
        if known is None:
            raise VolumeError(f"{name}: unknown unit {unit!r}; known are {', '.join(METRES)}")
        space = replace(space, unit=known)
    return space
