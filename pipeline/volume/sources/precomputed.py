"""Neuroglancer's precomputed volumes, images and segmentations, through tensorstore. Their scales are levels.

All encodings that tensorstore decodes are read (raw, compressed_segmentation, jpeg, png), sharded or not. Axes are
``zyx``, ``czyx`` of several channels; voxel 0 lies where ``voxel_offset`` puts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import VolumeError
from pipeline.store import parse_address
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, check_own_axes
from pipeline.volume.sources.tensors import need_tensorstore, open_tensor, read_json, tensor_source
from pipeline.volume.space import Space

MARKS = ("info",)
"""The file that makes a folder a precomputed volume."""


def open_precomputed(url: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open one scale of a precomputed volume.

    Args:
        url: folder or prefix that holds ``info``.
        reading: what the user says; holds the level, which counts the scales of ``info``, and what blocks that are
            missing mean.

    Raises:
        VolumeError: its ``info`` is no volume's (a skeleton's, a mesh's) or damaged, no such level, other axes.
        StoreError: the store does not answer.
        InputError: tensorstore is not installed.
    """
    name = parse_address(url).url
    need_tensorstore(name)
    info = read_json(name, "info") or {}
    scales = info.get("scales")
    if not isinstance(scales, list) or not scales or not all(isinstance(scale, dict) for scale in scales):
        raise VolumeError(f"{name}: its file info lists no scales, so it is no volume of Neuroglancer's")
    if not 0 <= reading.level < len(scales):
        raise VolumeError(f"{name}: there is no level {reading.level}; it has levels 0 to {len(scales) - 1}")
    tensor = open_tensor(
        name, "neuroglancer_precomputed", holes=reading.holes, settings={"scale_index": reading.level}
    )
    axes = "czyx" if tensor.shape[0] > 1 else "zyx"
    check_own_axes(reading.axes, axes, where=name)
    return tensor_source(
        name,
        tensor if axes == "czyx" else tensor[0],
        axes,
        space=_space(scales[0], scales[reading.level]),
        levels=len(scales),
        files=(f"{name}/info",),
    )


def _space(finest: Mapping[str, Any], scale: Mapping[str, Any]) -> Space:
    """Return the space of a scale in nanometres: offsets are of corners, ours are of centres from level 0's."""
    first, size = (tuple(float(v) for v in reversed(s["resolution"])) for s in (finest, scale))
    offset = tuple(float(v) for v in reversed(scale.get("voxel_offset") or (0, 0, 0)))
    place = tuple(o * s + (s - f) / 2 for o, s, f in zip(offset, size, first, strict=True))
    return Space("zyx", size, place, "nanometer")
