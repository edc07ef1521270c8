"""Open an image of any format: the table of what ingest reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import VolumeError
from pipeline.volume.sources.geotiff import is_geotiff, open_geotiff
from pipeline.volume.sources.hdf5 import MAGIC as HDF5
from pipeline.volume.sources.hdf5 import open_hdf5, split_dataset
from pipeline.volume.sources.images import JPEG, PNG, open_image
from pipeline.volume.sources.mosaic import open_folder
from pipeline.volume.sources.npy import MAGIC as NPY
from pipeline.volume.sources.npy import open_npy
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.slide import is_slide, open_slide
from pipeline.volume.sources.source import Source
from pipeline.volume.sources.tiff import MAGIC as TIFF
from pipeline.volume.sources.tiff import open_tiff
from pipeline.volume.sources.units import METRES, unit_name
from pipeline.volume.sources.zarrs import open_zarr

Opener = Callable[..., Source]


@dataclass(frozen=True, slots=True)
class Format:
    """One format of files.

    Attributes:
        label: what it is, for messages.
        magic: how its files begin, in bytes.
        open: called as ``open(path, reading)``.
        fits: says of a file that begins so whether it is of this format; None if every such file is. May fail where the
            file is damaged.
        sized: whether a file that does not tell its voxel size is refused, unless the user says it.
    """

    label: str
    magic: tuple[bytes, ...]
    open: Opener
    fits: Callable[[Path], bool] | None = None
    sized: bool = False


FORMATS = (
    Format("PNG (.png)", PNG, open_image),
    Format("JPEG (.jpg)", JPEG, open_image),
    Format("GeoTIFF (.tif, COG)", TIFF, open_geotiff, is_geotiff),
    Format("slide (.svs, tiled pyramids in TIFF)", TIFF, open_slide, is_slide, sized=True),
    Format("TIFF (.tif, .ome.tif, BigTIFF)", TIFF, open_tiff),
    Format("NumPy (.npy)", NPY, open_npy),
    Format("HDF5 (.h5, file.h5::/dataset)", HDF5, open_hdf5),
)
"""The files that are read; a file is known by its content, not by its name. The first one that fits opens it."""

_HEAD = max(len(magic) for entry in FORMATS for magic in entry.magic)
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
_ZARR = Format("Zarr", (), open_zarr)
_SLICES = Format("slices or scenes", (), open_folder)


def open_source(
    path: str | Path,
    reading: Reading = DEFAULT,
) -> Source:
    """Open an image of any supported format, lazily.

    Args:
        path: a file (PNG, JPEG, slide, TIFF, ``.npy``, HDF5), ``file.h5::/dataset``, a Zarr, a folder of slices or a
            pattern that matches slices.
        reading: what the user says of it.

    Raises:
        VolumeError: missing, of no supported format, damaged, ambiguous, a size that fits no voxel, a slide that tells
            no size of its pixels.
        InputError: a format whose extra is not installed.
    """
    form = _format(path)
    source = form.open(Path(path), reading)
    try:
        _override(source, reading.voxel_size, reading.unit)
        if form.sized and reading.voxel_size is None:
            _check_sized(source)
    except VolumeError:
        source.close()
        raise
    return source


def _format(path: str | Path) -> Format:
    """Find the format by what is there."""
    place, dataset = split_dataset(path)
    if not place.exists():
        if any(sign in str(path) for sign in "*?["):
            return _SLICES
        raise VolumeError(f"{path}: there is no such file or folder")
    if dataset is None and place.is_dir():
        is_zarr = any((place / name).exists() for name in _ZARR_FILES)
        return _ZARR if is_zarr else _SLICES
    found = None if place.is_dir() else _format_of_file(place)
    if found is None or (dataset is not None and found.open is not open_hdf5):
        raise VolumeError(f"{path}: only a dataset of an HDF5 file is named after '::', and {place} is none")
    return found


def _format_of_file(place: Path) -> Format:
    """Find the format of one file by its content."""
    with place.open("rb") as file:
        head = file.read(_HEAD)
    for entry in FORMATS:
        if head.startswith(entry.magic) and _fits(entry, place):
            return entry
    supported = ", ".join(entry.label for entry in FORMATS)
    raise VolumeError(
        f"{place}: its content is of no format that is read ({place.suffix or 'no ending'}, {len(head)} bytes read);"
        f" supported: {supported}, Zarr, folders or patterns of slices"
    )


def _fits(entry: Format, place: Path) -> bool:
    """Say whether a file is of a format; a file that is too damaged to tell is left to the next one, which says so."""
    try:
        return entry.fits is None or entry.fits(place)
    except Exception:
        return False


def _check_sized(source: Source) -> None:
    """Refuse a file that does not tell its voxel size, where guessing it would spoil every measure."""
    if source.space.unit is None:
        raise VolumeError(
            f"{source.name}: it does not tell how large its pixels are; say it with --voxel-size and --unit, for"
            " example --voxel-size 0.5,0.5 --unit um (of the level that is read)"
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
