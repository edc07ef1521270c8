"""The voxel size that a TIFF file tells: OME-XML, ImageJ's description, or resolution tags in centimetres.

Resolution in inches is left out: it is what a printer should do (72, 96, 300 dpi), not what a microscope did. So
are pixels larger than PRINT in centimetres: 72 dpi and libvips' default of 1 pixel a millimetre come in them too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from xml.etree import ElementTree

import tifffile

from pipeline.volume.sources.units import METRES, unit_name
from pipeline.volume.space import Space

PRINT = 25.4
"""Largest pixel, in micrometres, that resolution tags are believed: 1000 dpi."""

Size = tuple[float, str | None]
"""Extent of a voxel and its unit, as OME-NGFF names it."""


def read_space(tif: tifffile.TiffFile, axes: str, shape: Sequence[int], finest: Sequence[int]) -> Space:
    """Return the space of one level; unit voxels where the file does not tell the size along every axis.

    Args:
        tif: the open file.
        axes: spatial axes, ``"yx"`` or ``"zyx"``.
        shape: the level's spatial shape.
        finest: level 0's spatial shape.
    """
    if tif.ome_metadata:
        sizes = _ome_sizes(tif.ome_metadata)
    elif tif.imagej_metadata:
        sizes = _imagej_sizes(tif, tif.imagej_metadata)
    else:
        sizes = _tag_sizes(tif)
    if any(a not in sizes for a in axes):
        return Space.unscaled(axes)
    return level_space(_in_one_unit(axes, [sizes[a] for a in axes]), shape, finest)


def level_space(space: Space, shape: Sequence[int], finest: Sequence[int]) -> Space:
    """Return the space of a coarser level, of spatial shape ``shape``, from level 0's, of ``finest``.

    Voxels grow by the real ratio of the shapes along each axis, and their centres move by half of what they grow.
    """
    factors = [n / m for n, m in zip(finest, shape, strict=True)]
    half = [(f - 1) / 2 * s for f, s in zip(factors, space.voxel_size, strict=True)]
    size = tuple(s * f for s, f in zip(space.voxel_size, factors, strict=True))
    return replace(space, voxel_size=size, translation=tuple(half))


def _in_one_unit(axes: str, sizes: Sequence[Size]) -> Space:
    """Return a space in the unit of the last axis, x; without a unit if one axis has none."""
    units = [unit for _, unit in sizes]
    if len(set(units)) == 1:
        return Space(axes, tuple(s for s, _ in sizes), (0.0,) * len(axes), units[-1])
    known = [(size, unit) for size, unit in sizes if unit is not None]
    if len(known) < len(sizes) or units[-1] is None:
        return Space.unscaled(axes)
    voxel_size = tuple(size * METRES[unit] / METRES[units[-1]] for size, unit in known)
    return Space(axes, voxel_size, (0.0,) * len(axes), units[-1])


def _ome_sizes(xml: str) -> dict[str, Size]:
    """Return the physical sizes of the first image; micrometres where no unit is given, as in the OME schema."""
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        return {}
    try:
        pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    except ElementTree.ParseError:
        return {}
    if pixels is None:
        return {}
    sizes: dict[str, Size] = {}
    for axis in "zyx":
        name = f"PhysicalSize{axis.upper()}"
        size = _positive(pixels.get(name))
        if size is not None:
            sizes[axis] = (size, unit_name(pixels.get(f"{name}Unit", "µm")))
    return sizes


def _imagej_sizes(tif: tifffile.TiffFile, description: Mapping[str, object]) -> dict[str, Size]:
    """Return ImageJ's voxel size: pixels a unit in the tags, unit and distance of slices in the description."""
    unit = unit_name(str(description.get("unit", "")))
    sizes = {axis: (size, unit) for axis, size in _pixel_sizes(tif).items()}
    spacing = _positive(description.get("spacing"))
    if spacing is not None:
        sizes["z"] = (spacing, unit)
    return sizes if unit is not None else {}


def _tag_sizes(tif: tifffile.TiffFile) -> dict[str, Size]:
    """Return the pixel size from tags in centimetres, in micrometres."""
    unit = tif.pages.first.tags.get("ResolutionUnit")
    if unit is None or unit.value != tifffile.RESUNIT.CENTIMETER:
        return {}
    sizes = {axis: size * 1e4 for axis, size in _pixel_sizes(tif).items()}
    if max(sizes.values(), default=0) > PRINT:
        return {}
    return {axis: (size, "micrometer") for axis, size in sizes.items()}


def _pixel_sizes(tif: tifffile.TiffFile) -> dict[str, float]:
    """Return units a pixel; the tags hold pixels a unit, as a fraction."""
    sizes = {}
    for axis, name in (("y", "YResolution"), ("x", "XResolution")):
        tag = tif.pages.first.tags.get(name)
        if tag is not None and tag.value[0] > 0 and tag.value[1] > 0:
            sizes[axis] = tag.value[1] / tag.value[0]
    return sizes


def _positive(value: object) -> float | None:
    """Return a positive finite number; None for anything else."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
