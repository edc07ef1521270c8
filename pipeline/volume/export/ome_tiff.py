"""A volume as a pyramidal OME-TIFF, tile by tile: what QuPath, Fiji and most viewers open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from pipeline.errors import VolumeError
from pipeline.geometry import Box, Grid
from pipeline.volume.export.ahead import read
from pipeline.volume.export.files import replaced
from pipeline.volume.volume import Volume

TILE = 512
"""Voxels of a tile along y and x; TIFF asks for a multiple of 16."""

BLOCK = 32 << 20
"""Bytes of voxels that are read at once; at least one tile of all channels."""

DTYPES = frozenset({"uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64"})
"""What OME-TIFF can hold, and readers of it read."""

WIDENED = {"bool": "uint8", "float16": "float32"}
"""What is stored in a wider type, every value kept."""

SYMBOLS = {"angstrom": "Å", "nanometer": "nm", "micrometer": "µm", "millimeter": "mm", "centimeter": "cm"} | {
    "picometer": "pm",
    "meter": "m",
    "kilometer": "km",
    "inch": "in",
    "foot": "ft",
}
"""Units of OME-XML, by their names in OME-NGFF."""


def write_ome_tiff(levels: Sequence[Volume], target: Path, *, names: Sequence[str] = (), threads: int = 2) -> None:
    """Write a volume and its coarser levels as one BigTIFF, deflated in tiles; every voxel is kept as it is.

    In memory are one block of 32 MiB (or one tile of all channels, if that is more) and the tiles that are being
    compressed. Levels lie in SubIFDs, as OME-TIFF 6 asks for.

    Args:
        levels: the volume, and its coarser levels if there are any; of the same axes, channels and dtype, and with
            as many planes along z, as SubIFDs belong to one plane: coarser levels with fewer are left out.
        target: file; what is there is replaced when all is written.
        names: of the channels.
        threads: tiles compressed at once.

    Raises:
        VolumeError: OME-TIFF has no such dtype.
        InputError: the target is a folder, or its folder is not there.
        MissingChunkError: a stored chunk is missing.
        InputDamageError: a stored chunk does not decode.
    """
    finest, dtype = levels[0], _dtype(levels[0])
    coarser = [level for level in levels[1:] if level.shape[:-2] == finest.shape[:-2]]
    options: dict[str, Any] = {
        "dtype": dtype,
        "tile": (TILE, TILE),
        "compression": "zlib",
        "photometric": "minisblack",
        "maxworkers": threads,
        "buffersize": BLOCK,
    }
    with replaced(target) as partial, tifffile.TiffWriter(partial, bigtiff=True, ome=True) as file:
        file.write(
            _tiles(finest, dtype),
            shape=_shape(finest),
            subifds=len(coarser),
            metadata=_metadata(finest, names),
            **options,
        )
        for level in coarser:
            file.write(_tiles(level, dtype), shape=_shape(level), subfiletype=1, metadata=None, **options)


def _dtype(volume: Volume) -> np.dtype[Any]:
    name = WIDENED.get(volume.dtype.name, volume.dtype.name)
    if name not in DTYPES:
        raise VolumeError(
            f"{volume.url}: is of {volume.dtype}, which OME-TIFF cannot hold; it holds {', '.join(sorted(DTYPES))}"
        )
    return np.dtype(name)


def _has_channels(volume: Volume) -> bool:
    return volume.channels > 1


def _shape(volume: Volume) -> tuple[int, ...]:
    return (volume.channels, *volume.shape) if _has_channels(volume) else volume.shape


def _metadata(volume: Volume, names: Sequence[str]) -> dict[str, Any]:
    """Return what tifffile puts into the OME-XML; a voxel size of unknown unit is not told."""
    space = volume.space
    axes = "C" * _has_channels(volume) + space.axes.upper()
    found: dict[str, Any] = {"axes": axes}
    unit = SYMBOLS.get(space.unit or "")
    if unit is not None:
        for axis, size in zip(space.axes.upper(), space.voxel_size, strict=True):
            found |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    if len(names) == volume.channels and _has_channels(volume):
        found["Channel"] = {"Name": list(names)}
    return found


def _tiles(volume: Volume, dtype: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield the tiles in the file's order: by channel, plane, row and column; whole ones, filled up with zeros."""
    for channel in range(volume.channels):
        for box in _blocks(volume):
            block = read(volume, box)[channel].astype(dtype, copy=False)
            for plane in block.reshape(-1, *block.shape[-2:]):
                yield from _plane_tiles(plane)


def _blocks(volume: Volume) -> Iterator[Box]:
    """Yield boxes whose tiles follow each other: some whole planes, else rows of tiles, else parts of such a row."""
    *depth, height, width = volume.shape
    column = volume.channels * volume.dtype.itemsize
    planes = min(max(1, BLOCK // (height * width * column)), *depth) if depth else 1
    if planes > 1:
        rows, columns = height, width
    elif TILE * width * column <= BLOCK:
        rows, columns = BLOCK // (TILE * width * column) * TILE, width
    else:
        rows, columns = TILE, max(1, BLOCK // (TILE * TILE * column)) * TILE
    yield from Grid(volume.shape, (planes, rows, columns) if depth else (rows, columns)).cores()


def _plane_tiles(plane: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    for y in range(0, plane.shape[0], TILE):
        for x in range(0, plane.shape[1], TILE):
            part = plane[y : y + TILE, x : x + TILE]
            tile = np.zeros((TILE, TILE), plane.dtype)
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile
