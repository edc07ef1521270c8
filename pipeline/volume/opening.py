"""Open a Zarr array, or one level of an OME-Zarr image, as a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.errors import VolumeError
from pipeline.store import Place
from pipeline.volume.checked import checked
from pipeline.volume.index import Indices
from pipeline.volume.ngff import Level, read_levels
from pipeline.volume.node import array_names, as_place, open_child, open_node
from pipeline.volume.space import Space, check_axes, check_one_time
from pipeline.volume.volume import Volume

KINDS = "buif"
"""Kinds of NumPy dtypes that a volume may hold: bool, unsigned, signed, float."""


def open_volume(
    url: str | Path | Place, *, level: int = 0, axes: str | None = None, holes: str = "error"
) -> Volume:
    """Open a Zarr array (v2 or v3) or one level of an OME-Zarr image (0.4 or 0.5) for reading.

    Args:
        url: path, ``file:///...`` or ``s3://bucket/prefix`` of the array or of the image group.
        level: resolution level, 0 is the finest; plain arrays have level 0 only.
        axes: names of the stored axes (``"cyx"``), where the store does not say them.
        holes: what a stored chunk that is missing means, see :meth:`Volume.look`.

    Raises:
        VolumeError: missing, not Zarr, no such level, a dtype that is not numeric, ambiguous axes.
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
    return Volume(
        url=url,
        place=place.at(array.path) if array.path else place,
        array=array,
        checked=checked(array),
        indices=Indices(array),
        axes=stored,
        space=space,
        levels=tuple(entry.path for entry in levels),
        level=level,
        holes=holes,
    )


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
