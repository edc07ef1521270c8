"""Where a target's voxels lie below a prediction's: by their places on Earth, or by the region that was segmented.

::

    target       +-----------------+
                 |   prediction    |     offset (2, 3): voxel 0,0 of the prediction is voxel 2,3 of the target
                 |      +-----+    |
                 |      +-----+    |     What only one of them covers is not compared.
                 +-----------------+
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.errors import InputError
from pipeline.geometry import Box
from pipeline.volume import Volume
from pipeline.volume.geo import Georeference

NEAR = 1e-3
"""Most that a grid may lie off another one, in voxels: what writers of transforms round away."""

Offset = tuple[int, ...]


def offset_of(prediction: Volume, target: Volume, recorded: Mapping[str, Any] | None) -> Offset:
    """Return the voxel of a target that the prediction's voxel 0 lies over, along each spatial axis.

    Where both lie on Earth their transforms say it. Elsewhere volumes of one shape lie over each other, and the
    prediction of a region lies where its run says that it was cut out.

    Args:
        prediction: the one volume.
        target: the other, of the same axes.
        recorded: what the prediction's run recorded; None without a run.

    Raises:
        InputError: they lie elsewhere, in another system, on another grid, or nothing says where.
    """
    if prediction.space.axes != target.space.axes:
        raise InputError(_shapes(prediction, target))
    if prediction.geo is not None and target.geo is not None:
        return _on_earth(prediction, target, prediction.geo, target.geo)
    if prediction.shape == target.shape:
        return (0,) * len(target.shape)
    cut = _cut_out(prediction, target, recorded)
    if cut is None:
        raise InputError(_shapes(prediction, target))
    return cut


def _cut_out(prediction: Volume, target: Volume, recorded: Mapping[str, Any] | None) -> Offset | None:
    """Return where a prediction was cut out of the image that its target is of; None where no run says it."""
    plan = (recorded or {}).get("plan") or {}
    region, shape = plan.get("region"), (plan.get("input") or {}).get("shape")
    if region is None or shape != list(target.shape):
        return None
    pairs = [tuple(map(int, part.split(":"))) for part in str(region).split(",")]
    found = tuple(b - a for a, b in pairs)
    return tuple(a for a, _ in pairs) if found == prediction.shape else None


def _on_earth(prediction: Volume, target: Volume, ours: Georeference, theirs: Georeference) -> Offset:
    what = f"prediction {prediction.url} and target {target.url}"
    if (ours.code or ours.crs) != (theirs.code or theirs.crs):
        raise InputError(
            f"{what}: are in different coordinate reference systems, {ours.code or ours.name} and"
            f" {theirs.code or theirs.name}; bring one of them to the other's (overtile ingest --warp)"
        )
    steps = [(t[0], t[1], t[3], t[4]) for t in (ours.transform, theirs.transform)]
    reach = max(map(abs, steps[0])) * NEAR / max(*prediction.shape, *target.shape)
    if any(abs(a - b) > reach for a, b in zip(*steps, strict=True)):
        raise InputError(
            f"{what}: their voxels are of different sizes or directions, {_numbers(steps[0])} and {_numbers(steps[1])}"
            " (a, b, d, e of the transforms); name levels of one size, or ingest one on the other's grid"
        )
    if len(prediction.shape) == 3 and prediction.shape[0] != target.shape[0]:
        raise InputError(_shapes(prediction, target))
    row, column = (each + 0.0 for each in _steps_between(ours, theirs))  # no minus before a zero
    if max(abs(row - round(row)), abs(column - round(column))) > NEAR:
        raise InputError(
            f"{what}: the prediction lies {row:.4g} voxels along y and {column:.4g} along x from the target's corner,"
            " which is not a whole number; ingest one of them on the other's grid"
        )
    return (*(0,) * (len(prediction.shape) - 2), round(row), round(column))


def _steps_between(ours: Georeference, theirs: Georeference) -> tuple[float, float]:
    """Return the row and column of a grid at which the corner of another one lies."""
    a, b, c, d, e, f = theirs.transform
    x, y = ours.transform[2] - c, ours.transform[5] - f
    area = a * e - b * d
    if not area or not math.isfinite(area):
        raise InputError(f"the transform {_numbers(theirs.transform)} is of voxels without extent; mend it")
    return (a * y - d * x) / area, (e * x - b * y) / area


def common_box(prediction: Volume, target: Volume, offset: Offset) -> Box:
    """Return what both cover, in the prediction's voxels.

    Raises:
        InputError: nothing.
    """
    found = prediction.box.intersect(target.box.shift([-o for o in offset]))
    if found.is_empty:
        raise InputError(
            f"prediction {prediction.url} and target {target.url}: do not overlap; the prediction begins at voxel"
            f" {','.join(map(str, offset))} of the target, which has the shape {_shape(target)}"
        )
    return found


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.10g}" for value in values)


def _shapes(prediction: Volume, target: Volume) -> str:
    return (
        f"prediction {prediction.url} has the shape {_shape(prediction)}, target {target.url} {_shape(target)};"
        " they must be equal, unless both are rasters whose transforms say where they lie, or the prediction is of a"
        " --region of the image whose target this is"
    )


def _shape(volume: Volume) -> str:
    return " x ".join(f"{n} {a}" for n, a in zip(volume.shape, volume.space.axes, strict=True))
