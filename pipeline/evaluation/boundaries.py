"""How well the outline of a class was met: boundary IoU, surface Dice and Hausdorff distances, exact over chunks.

A chunk is measured from a *window*: its core and a halo around it, clipped to the volume. The statistics count the
core's voxels alone, so those of disjoint cores add up to the whole volume's, whatever the chunks.

Conventions. A mask is where a map has the class. Outside of the volume, nothing has it. Voxels that the target
ignores are of no mask, are not counted, and make no outline: a mask that reaches them has no edge there.

* *Boundary IoU* (Cheng et al. 2021): IoU of the two masks' voxels within ``width`` voxels of the mask's end,
  in steps to any of the neighbours that share a face, an edge or a corner (as their program erodes).
* An *edge* is a voxel of a mask of which a neighbour that shares a face is not. From each edge voxel of one mask, the
  Euclidean distance to the nearest edge voxel of the other is taken, between centres, in the unit of the spacing.
* *Surface Dice* at a tolerance: the share of all edge voxels, of both, at most so far away. (Nikolov et al. 2018 weigh
  pieces of surface by their area; here each edge voxel counts once, as in MONAI.)
* *Hausdorff 95*: the 95th percentile (linear between ranks) of the distances of each mask's edge voxels, and the
  greater of both.

Distances are exact up to a stated *bound*; beyond, they are only counted. It sets the halo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, minimum_filter

from pipeline.errors import ChunkError, InputError
from pipeline.evaluation.distances import DistanceHistogram
from pipeline.evaluation.undefined import ratio, with_reasons
from pipeline.geometry import Box

Mask = NDArray[np.bool_]

ABSENT = "neither the target nor the prediction holds the class"
REASONS = {"boundary_iou": ABSENT, "surface_dice": ABSENT}
"""Why a metric can be None; of the Hausdorff distance, see :func:`boundary_metrics`."""


@dataclass(frozen=True, slots=True)
class Outline:
    """How outlines are measured.

    Attributes:
        spacing: distance of neighbouring voxels along each axis, in any one unit.
        bound: greatest distance that is measured, in that unit.
        width: of the boundary of boundary IoU, in voxels.
    """

    spacing: tuple[float, ...]
    bound: float
    width: int

    def __post_init__(self) -> None:
        if not self.spacing or not all(0 < s < math.inf for s in self.spacing):
            raise InputError(f"the spacing is {self.spacing}; it must be above 0 along each axis")
        if not 0 < self.bound < math.inf:
            raise InputError(f"the bound is {self.bound}; it must be above 0, in the unit of the spacing")
        if self.width < 1:
            raise InputError(f"the boundary's width is {self.width} voxels; it must be at least 1")

    @property
    def halo(self) -> tuple[int, ...]:
        """Voxels that a window needs around its core, along each axis.

        One more than fit into the bound: whether a voxel that far away is an edge depends on its neighbour, and the
        false edges at the window's own end lie beyond the bound.
        """
        return tuple(max(math.floor(self.bound / s * (1 + 1e-12)) + 1, self.width) for s in self.spacing)

    @property
    def unit(self) -> float:
        """Resolution of distances: a billionth of the finest spacing, to absorb the rounding of square roots."""
        return min(self.spacing) * 1e-9


@dataclass(frozen=True, slots=True)
class OutlineStatistics:
    """Outlines of one class in some cores. Adds over disjoint cores.

    Attributes:
        common: voxels of both boundaries.
        either: voxels of at least one of the boundaries.
        target: distances of the target's edge voxels to the prediction's.
        prediction: distances of the prediction's edge voxels to the target's.
        ignored: voxels of the cores that the target ignores.
    """

    common: int
    either: int
    target: DistanceHistogram
    prediction: DistanceHistogram
    ignored: int = 0

    @classmethod
    def zero(cls, outline: Outline) -> Self:
        """The statistics of no voxels."""
        nothing = DistanceHistogram.zero(outline.unit, outline.bound)
        return cls(0, 0, nothing, nothing)

    @classmethod
    def of(
        cls,
        prediction: NDArray[Any],
        target: NDArray[Any],
        *,
        positive: int,
        outline: Outline,
        core: Box,
        ignore: int | None = None,
        known: Mask | None = None,
    ) -> Self:
        """The statistics of one core.

        Args:
            prediction: classes of the window, ``([z,] y, x)``.
            target: true classes of the window, of the same shape.
            positive: the class.
            outline: how to measure; see :attr:`Outline.halo` for the window.
            core: the part of the window that is counted, in the window's own indices.
            ignore: target value of voxels that nobody knows.
            known: where the window is known, of its shape; None for all of it. Others count as ignored.

        Raises:
            ChunkError: shapes or axes do not fit, or the core reaches out of the window.
        """
        _check(prediction, target, outline, core)
        known = np.ones(target.shape, bool) if known is None else known
        known = known if ignore is None else np.asarray(known & (target != ignore))
        masks = [(values == positive) & known for values in (target, prediction)]
        bands = [_band(mask, known, outline.width)[core.slices] for mask in masks]
        edges = [_edge(mask, known) for mask in masks]
        return cls(
            int(np.count_nonzero(bands[0] & bands[1])),
            int(np.count_nonzero(bands[0] | bands[1])),
            _distances(edges[0], edges[1], outline, core),
            _distances(edges[1], edges[0], outline, core),
            int(np.count_nonzero(~known[core.slices])),
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``.

        Raises:
            InputError: the content is none of these statistics.
        """
        try:
            target, prediction = (DistanceHistogram.from_dict(content[name]) for name in ("target", "prediction"))
            return cls(int(content["common"]), int(content["either"]), target, prediction, int(content["ignored"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"statistics of outlines need 'common', 'either', 'target', 'prediction', 'ignored': {error!r}"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The statistics ready for JSON."""
        sides = {"target": self.target.to_dict(), "prediction": self.prediction.to_dict()}
        return {"common": self.common, "either": self.either, **sides, "ignored": self.ignored}

    def __add__(self, other: OutlineStatistics) -> OutlineStatistics:
        return OutlineStatistics(
            self.common + other.common,
            self.either + other.either,
            self.target + other.target,
            self.prediction + other.prediction,
            self.ignored + other.ignored,
        )


def boundary_metrics(
    total: OutlineStatistics, *, tolerances: Sequence[float], percentile: float = 95.0
) -> dict[str, Any]:
    """The metrics of one class's outline, ready for JSON.

    Args:
        total: the sum of all cores' statistics.
        tolerances: of surface Dice, in the unit of the spacing, from 0 up to the bound.
        percentile: of the Hausdorff distance, above 0 up to 100.

    Returns:
        ``boundary_iou``, ``surface_dice`` (by tolerance, ``tolerance`` and ``value``), ``hausdorff`` (of
        ``percentile``) and ``undefined``, reasons. A class that one side alone holds has a boundary IoU and a surface
        Dice of 0, and no distance. One that lies beyond the bound is None too, and the reason says so.

    Raises:
        InputError: a tolerance is beyond the bound, or the percentile outside of its range.
    """
    for tolerance in tolerances:
        if not 0 <= tolerance <= total.target.bound:
            raise InputError(
                f"the tolerance {tolerance} is not from 0 to {total.target.bound}, the bound of measured distances"
            )
    if not 0 < percentile <= 100:
        raise InputError(f"the percentile is {percentile}; it must be above 0 and at most 100")
    distance, reason = _hausdorff(total, percentile)
    dice = [{"tolerance": float(t), "value": _surface_dice(total, t)} for t in tolerances]
    values = {"boundary_iou": ratio(total.common, total.either), "hausdorff": distance}
    known = {"surface_dice": ratio(1, total.target.total + total.prediction.total)}
    undefined = with_reasons({**values, **known}, {**REASONS, "hausdorff": reason})["undefined"]
    return {**values, "percentile": float(percentile), "surface_dice": dice, "undefined": undefined}


def _surface_dice(total: OutlineStatistics, tolerance: float) -> float | None:
    near = total.target.within(tolerance) + total.prediction.within(tolerance)
    return ratio(near, total.target.total + total.prediction.total)


def _hausdorff(total: OutlineStatistics, percentile: float) -> tuple[float | None, str]:
    """The distance, or None and why there is none."""
    sizes = (total.target.total, total.prediction.total)
    if not any(sizes):
        return None, ABSENT
    if not all(sizes):
        return None, f"the {'target' if sizes[1] else 'prediction'} does not hold the class: it is nowhere near"
    found = [side.percentile(percentile) for side in (total.target, total.prediction)]
    if None in found:
        bound = total.target.bound
        return None, f"it is beyond the bound of {bound:g}: measure again with a greater one"
    return max(d for d in found if d is not None), ""


def _band(mask: Mask, known: Mask, width: int) -> Mask:
    """Voxels of a mask within ``width`` voxels of its end; all of it that is not deep inside."""
    deep = minimum_filter((mask | ~known).astype(np.uint8), size=2 * width + 1, mode="constant", cval=0)
    return np.asarray(mask & (deep == 0))


def _edge(mask: Mask, known: Mask) -> Mask:
    """Voxels of a mask of which a neighbour across a face is known not to be of it."""
    return np.asarray(mask & ~binary_erosion(mask | ~known))


def _distances(edge: Mask, other: Mask, outline: Outline, core: Box) -> DistanceHistogram:
    """Distances of the core's voxels of one edge to the nearest voxel of the other edge in the window."""
    ours = edge[core.slices]
    if not ours.any() or not other.any():
        beyond = int(np.count_nonzero(ours))
        return DistanceHistogram.of(np.full(beyond, math.inf), unit=outline.unit, bound=outline.bound)
    far = distance_transform_edt(~other, sampling=outline.spacing)
    return DistanceHistogram.of(far[core.slices][ours], unit=outline.unit, bound=outline.bound)


def _check(prediction: NDArray[Any], target: NDArray[Any], outline: Outline, core: Box) -> None:
    if prediction.shape != target.shape or target.ndim != len(outline.spacing):
        raise ChunkError(
            f"the prediction has shape {prediction.shape}, the target {target.shape}, and the spacing"
            f" {len(outline.spacing)} axes; they must fit each other"
        )
    if core.ndim != target.ndim or not Box.of_shape(target.shape).contains(core):
        raise ChunkError(f"the core {core} is not inside of the window, of shape {target.shape}")
