"""N5: a dataset of blocks, or a group of levels ``s0``, ``s1`` ..., through tensorstore.

N5 lists axes the other way round: its ``x, y, z`` is our ``zyx``. What ``axes`` of the attributes say is believed; two
or three axes without names are ``yx`` and ``zyx``; more must be said. The voxel size is, of the first that tells it,

1. ``resolution`` and ``units``, or ``pixelResolution``, of the group or of level 0, times the level's
   ``downsamplingFactors`` (or the group's ``scales``);
2. the same of the level itself, where no factors are told;
3. level 0's, times the real ratio of the shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from pipeline.errors import VolumeError
from pipeline.store import parse_address
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source
from pipeline.volume.sources.tensors import need_tensorstore, open_tensor, read_json, tensor_source
from pipeline.volume.sources.units import unit_name
from pipeline.volume.space import Space

MARKS = ("attributes.json", "s0/attributes.json")
"""The files of which one makes a folder N5."""

_Attributes = Mapping[str, Any]
_Size = tuple[tuple[float, ...], str | None]


def open_n5(url: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open one level of an N5 dataset or multiscale group.

    Args:
        url: folder or prefix of the dataset, or of the group.
        reading: what the user says; holds the level, the axes where there are more than three, and what blocks that
            are missing mean.

    Raises:
        VolumeError: neither a dataset nor a group of levels, no such level, axes that nobody tells, damaged metadata.
        StoreError: the store does not answer.
        InputError: tensorstore is not installed.
    """
    address = parse_address(url)
    name = address.url
    need_tensorstore(name)
    group = read_json(name, "attributes.json") or {}
    levels = [(name, group)] if _is_dataset(group) else _levels(name)
    if not levels:
        raise VolumeError(
            f"{name}: this N5 group is neither a dataset (with dimensions, blockSize, dataType) nor one of levels"
            " s0, s1 ...; name the dataset inside, for example FILE.n5/volumes/raw"
        )
    if not 0 <= reading.level < len(levels):
        raise VolumeError(f"{name}: there is no level {reading.level}; it has levels 0 to {len(levels) - 1}")
    place, attributes = levels[reading.level]
    if len(attributes["dimensions"]) != len(levels[0][1]["dimensions"]):
        raise VolumeError(f"{place}: it has other axes than level 0, so that it is no level of it; name it alone")
    axes = _axes(attributes, group, reading.axes, name)
    spatial = "".join(a for a in axes if a in "zyx")
    tensor = open_tensor(place, "n5", holes=reading.holes, settings={})
    return tensor_source(
        place,
        tensor,
        axes,
        space=_space(axes, spatial, group, [found for _, found in levels], reading.level),
        levels=len(levels),
        files=tuple(f"{where}/attributes.json" for where in dict.fromkeys((levels[0][0], place))),
    )


def _is_dataset(attributes: _Attributes) -> bool:
    dimensions = attributes.get("dimensions")
    is_shape = isinstance(dimensions, list) and all(isinstance(n, int) and n >= 0 for n in dimensions)
    return is_shape and "blockSize" in attributes and "dataType" in attributes


def _levels(url: str) -> list[tuple[str, _Attributes]]:
    """Return address and attributes of the levels of a group, the finest first."""
    places = (f"{url}/s{i}" for i in count())
    read = ((place, read_json(place, "attributes.json") or {}) for place in places)
    return list(takewhile(lambda found: _is_dataset(found[1]), read))


def _axes(attributes: _Attributes, group: _Attributes, told: str | None, name: str) -> str:
    """Return the axis names, in our order."""
    rank = len(attributes["dimensions"])
    for source in (attributes, group):
        axes = source.get("axes")
        if isinstance(axes, list) and len(axes) == rank and all(isinstance(a, str) for a in axes):
            return "".join(a.lower()[:1] for a in reversed(axes))
    if told is None and rank not in (2, 3):
        raise VolumeError(
            f"{name}: it has {rank} axes and does not name them; say them with --axes, the slowest first, for example"
            " --axes czyx"
        )
    return told or "zyx"[-rank:]


def _space(axes: str, spatial: str, group: _Attributes, levels: list[_Attributes], level: int) -> Space:
    """Return the space of a level, see the module."""
    own, finest = levels[level], levels[0]
    picked = [axes.index(a) for a in spatial]
    base = _size(group, axes) or _size(finest, axes)
    if base is None:
        return (
            Space.unscaled(spatial) if level == 0 else _grown(Space.unscaled(spatial), picked, _ratio(own, finest))
        )
    first = Space(spatial, tuple(base[0][i] for i in picked), (0.0,) * len(spatial), base[1])
    if level == 0:
        return first
    scales = group.get("scales")
    told = own.get("downsamplingFactors") or (
        scales[level] if isinstance(scales, list) and len(scales) > level else None
    )
    if factors := _numbers(told, len(axes)):
        return _grown(first, picked, factors)
    if (size := _size(own, axes)) and size != base:
        return _grown(first, picked, tuple(a / b for a, b in zip(size[0], base[0], strict=True)))
    return _grown(first, picked, _ratio(own, finest))


def _grown(space: Space, picked: list[int], factors: tuple[float, ...]) -> Space:
    """Return a space whose voxels are larger by factors along all axes of the array; centres move by half of that."""
    chosen = [factors[i] for i in picked]
    pairs = list(zip(space.voxel_size, chosen, strict=True))
    return replace(
        space, voxel_size=tuple(s * f for s, f in pairs), translation=tuple((f - 1) / 2 * s for s, f in pairs)
    )


def _ratio(own: _Attributes, finest: _Attributes) -> tuple[float, ...]:
    pairs = zip(finest["dimensions"], own["dimensions"], strict=True)
    return tuple(a / max(b, 1) for a, b in pairs)[::-1]


def _size(attributes: _Attributes, axes: str) -> _Size | None:
    """Return voxel size along all axes, in our order, and its unit; None where attributes tell none."""
    found: Any = attributes.get("resolution")
    units: Any = attributes.get("units")
    if found is None:
        found = attributes.get("pixelResolution")
        if isinstance(found, dict):
            found, units = found.get("dimensions"), found.get("unit")
    size = _numbers(found, len(axes))
    if size is None:
        return None
    names = units[::-1] if isinstance(units, list) else [units] * len(axes)
    known = {unit_name(str(n)) for n, axis in zip(names, axes, strict=False) if axis in "zyx"}
    return size, known.pop() if len(known) == 1 else None


def _numbers(found: Any, rank: int) -> tuple[float, ...] | None:
    """Return positive numbers, one an axis, in our order; None for anything else."""
    if not isinstance(found, list) or len(found) != rank:
        return None
    try:
        values = tuple(float(value) for value in reversed(found))
    except (TypeError, ValueError):
        return None
    return values if all(math.isfinite(value) and value > 0 for value in values) else None
