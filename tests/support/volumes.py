"""Small volumes of every layout, for tests: what is on disk is written by Zarr itself, not by the code under test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.geometry import Box
from pipeline.volume import ArraySpec, ShardWriter, Space, create_level

SHAPES = {"t": 1, "c": 3, "z": 5, "y": 13, "x": 17}
"""Voxels along each axis of the small volumes."""


def numbers(axes: str, dtype: str = "u2") -> np.ndarray[Any, Any]:
    """Return an array in which every voxel is another number (as far as the dtype goes)."""
    shape = tuple(SHAPES[a] for a in axes)
    return (np.arange(np.prod(shape)) + 1).astype(dtype).reshape(shape)


def channels_first(data: np.ndarray[Any, Any], axes: str) -> np.ndarray[Any, Any]:
    """Return ``(c, [z,] y, x)``, as a volume reads it; written apart from the code under test."""
    wanted = "t" + "c" + "".join(a for a in "zyx" if a in axes)
    for missing in [a for a in wanted if a not in axes]:
        data, axes = data[np.newaxis], missing + axes
    return np.einsum(f"{axes}->{wanted}", data)[0]


def save(
    path: Path,
    data: np.ndarray[Any, Any],
    axes: str | None = None,
    *,
    zarr_format: int = 3,
    chunks: int | tuple[int, ...] = 4,
    sharded: bool = False,
    name: str | None = None,
) -> zarr.Array[Any]:
    """Write an array; ``axes`` are stored as dimension names, which only Zarr v3 has. Shards are 2 chunks long."""
    if isinstance(chunks, int):
        chunks = tuple(min(chunks, n) for n in data.shape)
    array = zarr.create_array(
        store=str(path),
        name=name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=chunks,
        shards=tuple(2 * c for c in chunks) if sharded else None,
        zarr_format=zarr_format,
        dimension_names=list(axes) if axes and zarr_format == 3 else None,
        config={"write_empty_chunks": True},
    )
    array[...] = data
    return array


def save_ome(path: Path, levels: list[np.ndarray[Any, Any]], axes: str, *, version: str) -> None:
    """Write an OME-Zarr image whose level n has voxels of ``2**n`` micrometres, beginning at 10."""
    zarr_format = 2 if version == "0.4" else 3
    group = zarr.create_group(str(path), zarr_format=zarr_format)
    for i, data in enumerate(levels):
        save(path, data, axes, zarr_format=zarr_format, name=f"s{i}")
    space = [a in "zyx" for a in axes]
    kinds = {"t": "time", "c": "channel"}
    described = [
        {"name": a, "type": kinds.get(a, "space"), **({"unit": "micrometer"} if a in "zyx" else {})} for a in axes
    ]
    datasets = [
        {
            "path": f"s{i}",
            "coordinateTransformations": [
                {"type": "scale", "scale": [2.0**i if s else 1.0 for s in space]},
                {"type": "translation", "translation": [10.0 if s else 0.0 for s in space]},
            ],
        }
        for i in range(len(levels))
    ]
    multiscales = [{"version": version, "axes": described, "datasets": datasets}]
    if version == "0.4":
        group.attrs["multiscales"] = multiscales
    else:
        group.attrs["ome"] = {"version": version, "multiscales": multiscales}


def small_spec(
    shape: tuple[int, ...],
    *,
    channels: int | None = None,
    dtype: str = "u1",
    shard: tuple[int, ...] | None = None,
    space: Space | None = None,
) -> ArraySpec:
    """Return a layout with shards of 8 voxels and inner chunks of half a shard."""
    shard = shard or (8,) * len(shape)
    inner = tuple(s // 2 if s % 2 == 0 else s for s in shard)
    space = space or Space.unscaled("zyx"[-len(shape) :])
    return ArraySpec(shape, channels, np.dtype(dtype), shard, inner, space)


def create_filled(root: Path, spec: ArraySpec, data: np.ndarray[Any, Any], name: str = "0") -> zarr.Array[Any]:
    """Create a level with the code under test and fill it in one write."""
    array = create_level(root, name, spec)
    ShardWriter(array).write(Box.of_shape(data.shape), data)
    return array


def files(root: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
