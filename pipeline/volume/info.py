"""What there is to know of a volume without reading a voxel: for people and, as plain values, for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.geometry import Box
from pipeline.store import Place, survey
from pipeline.volume.geo import Georeference, read_georeference
from pipeline.volume.ngff import read_channels, read_classes, read_version
from pipeline.volume.node import as_place, open_node
from pipeline.volume.opening import open_volume
from pipeline.volume.volume import Volume

LISTED = 5
"""Most missing chunks whose keys are told."""


def info(path: str | Path | Place, *, level: int = 0, axes: str | None = None) -> dict[str, Any]:
    """Return a description of a volume, made of strings, numbers, lists and None.

    Every stored chunk of the level is looked for; the voxels are not read. ``shape``, ``chunks`` and ``shards``
    have the order of ``axes`` (as stored), everything spatial the order of ``spatial_axes``.

    Args:
        path: an array or an image group, see :func:`pipeline.volume.opening.open_volume`.
        level: resolution level that is described.
        axes: names of the stored axes, where the store does not say them.

    Raises:
        VolumeError: it cannot be opened.
    """
    volume = open_volume(path, level=level, axes=axes)
    array, space = volume.array, volume.space
    attributes = dict(open_node(as_place(path), volume.url).attrs)
    levels = _levels(path, volume, axes)
    return {
        "url": volume.url,
        "level": volume.level,
        "format": "Zarr",
        "zarr_format": int(array.metadata.zarr_format),
        "ome_version": read_version(attributes),
        "axes": volume.axes,
        "shape": list(array.shape),
        "spatial_axes": space.axes,
        "spatial_shape": list(volume.shape),
        "channels": volume.channels,
        "dtype": str(volume.dtype),
        "chunks": list(array.chunks),
        "shards": None if array.shards is None else list(array.shards),
        "voxel_size": list(space.voxel_size),
        "unit": space.unit,
        "translation": list(space.translation),
        "georeference": _georeference(attributes, space.voxel_size, levels[0]["voxel_size"]),
        "channel_names": read_channels(attributes),
        "levels": levels,
        "classes": read_classes(attributes),
        "bytes": math.prod(array.shape) * volume.dtype.itemsize,
        **_stored(volume),
    }


def _levels(path: str | Path | Place, volume: Volume, axes: str | None) -> list[dict[str, Any]]:
    """Describe each resolution level."""
    found = []
    for number, name in enumerate(volume.levels):
        other = volume if number == volume.level else open_volume(path, level=number, axes=axes)
        size = list(other.space.voxel_size)
        found.append({"path": name, "shape": list(other.array.shape), "voxel_size": size})
    return found


def _georeference(
    attributes: dict[str, Any], voxel_size: Sequence[float], finest: Sequence[float]
) -> dict[str, Any] | None:
    """Describe where on Earth a level lies, by its voxel size and the one of level 0."""
    geo = read_georeference(attributes)
    if geo is None:
        return None
    return describe_georeference(
        geo.scaled([size / first for size, first in zip(voxel_size, finest, strict=True)])
    )


def describe_georeference(geo: Georeference) -> dict[str, Any]:
    """Return a reference as plain values, for people and JSON."""
    return {
        "name": geo.name,
        "code": geo.code,
        "crs": geo.crs,
        "transform": list(geo.transform),
        "nodata": geo.nodata if geo.nodata is None or math.isfinite(geo.nodata) else str(geo.nodata),
    }


def _stored(volume: Volume) -> dict[str, Any]:
    """Count the stored chunks that are there and the ones that are missing, and their bytes."""
    array = volume.array
    grid = volume.storage_grid
    places = partial(grid.overlapping, Box.of_shape(array.shape))
    found = survey(volume.place, map(array.metadata.encode_chunk_key, places()))
    sizes = {entry.key: entry.stat.size for entry in found if entry.stat.size}
    listed: list[str] = []
    there = stored_bytes = 0
    for key in map(array.metadata.encode_chunk_key, places()):
        size = sizes.get(key)
        if size is not None:
            there += 1
            stored_bytes += size
        elif len(listed) < LISTED:
            listed.append(key)
    return {
        "stored_bytes": stored_bytes,
        "stored_chunks": there,
        "missing_chunks": {"count": len(grid) - there, "keys": listed},
    }
