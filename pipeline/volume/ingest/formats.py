"""Open an image of any format: the table of what ingest reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import VolumeError
from pipeline.volume.ingest.images import JPEG, PNG, open_image
from pipeline.volume.ingest.npy import MAGIC as NPY
from pipeline.volume.ingest.npy import open_npy
from pipeline.volume.ingest.slices import open_slices
from pipeline.volume.ingest.source import Source
from pipeline.volume.ingest.tiff import MAGIC as TIFF
from pipeline.volume.ingest.tiff import open_tiff
from pipeline.volume.ingest.units import METRES, unit_name
from pipeline.volume.ingest.zarrs import VolumeSource, open_zarr

Opener = Callable[..., Source]


@dataclass(frozen=True, slots=True)
class Format:
    """One format of files.

    Attributes:
        label: what it is, for messages.
        magic: how its files begin, in bytes.
        open: called as ``open(path, axes=..., level=...)``.
    """

    label: str
    magic: tuple[bytes, ...]
    open: Opener


FORMATS = (
    Format("PNG (.png)", PNG, open_image),
    Format("JPEG (.jpg)", JPEG, open_image),
    Format("TIFF (.tif, .ome.tif, BigTIFF)", TIFF, open_tiff),
    Format("NumPy (.npy)", NPY, open_npy),
)
"""The files that are read; a file is known by its first bytes, not by its name."""

_HEAD = max(len(magic) for entry in FORMATS for magic in entry.magic)
_ZARR = ("zarr.json", ".zarray", ".zgroup")


def open_source(
    path: str | Path,
    *,
    axes: str | None = None,
    voxel_size: tuple[float, ...] | None = None,
    unit: str | None = None,
    level: int = 0,
    holes: str = "error",
) -> Source:
    """Open an image of any supported format, lazily.

    Args:
        path: a file (PNG, JPEG, TIFF, ``.npy``), a Zarr, a folder of slices or a pattern that matches slices.
        axes: axis names, where the file does not say them (``"zyx"``).
        voxel_size: extent of a voxel along each spatial axis; in place of what the file says.
        unit: unit of ``voxel_size`` (``"nm"``, ``"micrometer"``); None keeps what the file says.
        level: resolution level to read, 0 is the finest.
        holes: what a stored chunk that is missing from a Zarr means, ``"error"`` or ``"background"``.

    Raises:
        VolumeError: missing, of no supported format, damaged, ambiguous, or a size that fits no voxel.
    """
    source = _opener(path)(Path(path), axes=axes, level=level)
    if isinstance(source, VolumeSource):
        source.volume = replace(source.volume, holes=holes)
    try:
        _override(source, voxel_size, unit)
    except VolumeError:
        source.close()
        raise
    return source


def _opener(path: str | Path) -> Opener:
    """Find the format by what is there."""
    place = Path(path)
    if not place.exists():
        if any(sign in str(path) for sign in "*?["):
            return open_slices
        raise VolumeError(f"{path}: there is no such file or folder")
    if place.is_dir():
        is_zarr = any((place / name).exists() for name in _ZARR)
        return open_zarr if is_zarr else open_slices
    with place.open("rb") as file:
        head = file.read(_HEAD)
    for entry in FORMATS:
        if head.startswith(entry.magic):
            return entry.open
    supported = ", ".join(entry.label for entry in FORMATS)
    raise VolumeError(
        f"{path}: its content is of no format that is read ({place.suffix or 'no ending'}, {len(head)} bytes read);"
        f" supported: {supported}, Zarr, folders or patterns of slices"
    )


def _override(source: Source, voxel_size: tuple[float, ...] | None, unit: str | None) -> None:
    """Put what the user says in the place of what the file says."""
    changes: dict[str, Any] = {}
    if voxel_size is not None:
        if len(voxel_size) != len(source.shape) or not all(math.isfinite(s) and s > 0 for s in voxel_size):
            raise VolumeError(
                f"{source.name}: voxel size {voxel_size}; give one positive number for each of the axes"
                f" {','.join(source.space.axes)}"
            )
        changes["voxel_size"] = tuple(float(s) for s in voxel_size)
    if unit is not None:
        if voxel_size is None:
            raise VolumeError(f"{source.name}: unit {unit!r} without a voxel size; give both")
        changes["unit"] = unit_name(unit)
        if changes["unit"] is None:
            raise VolumeError(f"{source.name}: unknown unit {unit!r}; known are {', '.join(METRES)}")
    source.space = replace(source.space, **changes)
