"""What there is to know of an image file without reading a voxel: the same as of a volume, as far as it goes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.store import open_file
from pipeline.volume.info import describe_georeference
from pipeline.volume.sources.formats import format_of, open_source
from pipeline.volume.sources.reading import DEFAULT, Reading


def file_info(path: str | Path, reading: Reading = DEFAULT) -> dict[str, Any]:
    """Return a description of an image in a file, made of strings, numbers, lists and None.

    Its keys are those of :func:`pipeline.volume.info.info`. ``chunks`` are the pieces that it is decoded in, over the
    spatial axes; None where any box is cheap. ``stored_bytes`` are those of its files. A slide that does not tell the
    size of its pixels has no ``unit``.

    Args:
        path: what :func:`pipeline.volume.sources.open_source` reads, but no Zarr.
        reading: what the user says of it.

    Raises:
        VolumeError: it cannot be opened.
    """
    with open_source(path, reading, sized=False) as source:
        axes = source.space.axes if source.channels is None else "c" + source.space.axes
        shape = list(source.shape) if source.channels is None else [source.channels, *source.shape]
        sizes = [open_file(file).stat().size for file in source.files]
        return {
            "url": str(path),
            "level": reading.level,
            "format": format_of(path),
            "zarr_format": None,
            "ome_version": None,
            "axes": axes,
            "shape": shape,
            "spatial_axes": source.space.axes,
            "spatial_shape": list(source.shape),
            "channels": source.channels or 1,
            "dtype": source.dtype.name,
            "chunks": None if source.slab is None else list(source.slab),
            "shards": None,
            "voxel_size": list(source.space.voxel_size),
            "unit": source.space.unit,
            "translation": list(source.space.translation),
            "georeference": None if source.geo is None else describe_georeference(source.geo),
            "channel_names": None if source.channel_names is None else list(source.channel_names),
            "levels": [_level(path, reading, number) for number in range(source.levels)],
            "classes": None,
            "bytes": math.prod(shape) * source.dtype.itemsize,
            "stored_bytes": sum(sizes),
            "stored_chunks": len(sizes),
            "missing_chunks": {"count": 0, "keys": []},
        }


def _level(path: str | Path, reading: Reading, number: int) -> dict[str, Any]:
    """Describe a resolution level; what the user says of the size of voxels holds for one level alone."""
    with open_source(path, replace(reading, level=number, voxel_size=None, unit=None), sized=False) as source:
        shape = list(source.shape) if source.channels is None else [source.channels, *source.shape]
        return {"path": str(number), "shape": shape, "voxel_size": list(source.space.voxel_size)}
