"""Open a Zarr array, or one level of an OME-Zarr image, as a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.errors import VolumeError
from pipeline.geometry import Grid
from pipeline.store import Place
from pipeline.volume.absent import AbsentKeys, Bits, read_absent
from pipeline.volume.checked import checked
from pipeline.volume.index import Indices
from pipeline.volume.ngff import Level, read_levels
from pipeline.volume.node import array_names, as_place, open_child, open_node
from pipeline.volume.space import Space, check_axes, check_one_time
from pipeline.volume.volume import Volume

KINDS = "buif"
"""Kinds of NumPy dtypes that a volume may hold: bool, unsigned, signed, float."""


def open_volume(
    url: str | Path | Place,
    *,
    level: int = 0,
    axes: str | None = None,
    holes: str = "error",
    absent: Bits | None = None,
) -> Volume:
    """Open a Zarr array (v2 or v3) or one level of an OME-Zarr image (0.4 or 0.5) for reading.

    Args:
        url: path, ``file:///...`` or ``s3://bucket/prefix`` of the array or of the image group.
        level: resolution level, 0 is the finest; plain arrays have level 0 only.
        axes: names of the stored axes (``"cyx"``), where the store does not say them.
        holes: what a stored chunk that is missing means, see :meth:`Volume.look`.
        absent: which stored objects were left out on purpose, over their spatial grid; None for those that the image
            group names (:mod:`pipeline.volume.absent`).

    Raises:
        VolumeError: missing, not Zarr, no such level, a dtype that is not numeric, ambiguous axes, damaged metadata.
        InputError: an address of another form.
        StoreError: the store does not answer.
    """
    place = as_place(url)
    url = str(url) if isinstance(url, str | Path) else place.url
    node = open_node(place, url)
    if isinstance(node, zarr.Array):
        levels = [Level("", "", (), (), ())]
    else:
        levels = read_levels(dict(node.attrs), where=url) or _only_array(node, url)
    if not 0 <= level < len(levels):
        raise VolumeError(f"{url}: there is no level {level}; it has levels 0 to {len(levels) - 1}")
    chosen = levels[level]
    array = node if isinstance(node, zarr.Array) else open_child(node, chosen.path, url)
    _check_array(array, url)
    stored = check_axes(axes or chosen.axes or _own_axes(array, url), array.ndim, where=url)
    check_one_time(stored, array.shape, where=url)
    known = chosen.axes == stored
    space = chosen.space() if known else Space.unscaled("".join(a for a in stored if a in "zyx"))
    if absent is None and isinstance(node, zarr.Group):
        absent = _absent(node, array, stored, level, url)
    return Volume(
        url=url,
        place=place.at(array.path) if array.path else place,
        array=array,
        checked=checked(array, () if absent is None else AbsentKeys(absent, stored, space.axes, array.path)),
        indices=Indices(array),
        axes=stored,
        space=space,
        levels=tuple(entry.path for entry in levels),
        level=level,
        holes=holes,
        absent=() if absent is None else AbsentKeys(absent, stored, space.axes),
        attributes=dict(node.attrs),
        scale=_scale(chosen, levels[0], space.axes) if known else (),
    )


def _scale(level: Level, finest: Level, axes: str) -> tuple[float, ...]:
    """Return the voxels of level 0 that a voxel of a level spans."""
    sizes = zip(level.space().voxel_size, finest.space().voxel_size, strict=True)
    return tuple(size / first for size, first in sizes) if level.axes == finest.axes else (1.0,) * len(axes)


def _absent(group: zarr.Group, array: zarr.Array[Any], axes: str, level: int, url: str) -> Bits | None:
    """Return which shards of a level its group says were left out, over their spatial grid; None where none is."""
    found = read_absent(dict(group.attrs), where=url)
    if found is None:
        return None
    order = [axes.index(axis) for axis in "zyx" if axis in axes]
    stored = array.shards or array.chunks
    grid = Grid(tuple(array.shape[i] for i in order), tuple(stored[i] for i in order))
    if not level < len(found.levels) or found.levels[level] != grid:
        raise VolumeError(
            f"{url}: its attributes say which shards of other arrays than level {level} ({grid.shape} in shards of"
            f" {grid.chunk}) a mask left out; the image was changed after it was published: segment it again"
        )
    return found.of_level(level)


def _check_array(array: zarr.Array[Any], url: str) -> None:
    if not isinstance(array.dtype, np.dtype) or array.dtype.kind not in KINDS:
        raise VolumeError(
            f"{url}: data type {array.dtype} is not numeric; a volume holds bool, integers or floats"
        )
    if array.ndim not in (2, 3, 4, 5):
        raise VolumeError(f"{url}: the array has {array.ndim} axes; a volume has 2 to 5")
    if 0 in array.shape:
        raise VolumeError(f"{url}: shape {array.shape} holds no voxel")


def _only_array(group: zarr.Group, url: str) -> list[Level]:
    names = array_names(group, url)
    if len(names) != 1:
        listed = ", ".join(names[:8]) or "none"
        raise VolumeError(f"{url}: a group without OME metadata; name one of its arrays ({listed}), as {url}/NAME")
    return [Level(names[0], "", (), (), ())]


def _own_axes(array: zarr.Array[Any], url: str) -> str:
    """Return the axes that the array names itself, or the only ones that it can have."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if isinstance(names, list | tuple) and all(isinstance(n, str) and len(n) == 1 for n in names):
        return "".join(str(n) for n in names)
    if array.ndim == 2:
        return "yx"
    raise VolumeError(
        f"{url}: an array of shape {array.shape} that does not name its axes;"
        " say them with --axes, for example zyx, cyx, yxc or czyx"
    )
