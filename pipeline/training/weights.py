"""Weights in losses: of classes, by how rare they are, and of the background between instances that nearly touch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.config.losses import ClassWeights
from pipeline.errors import InputError

TOLERANCE = 1e-3
"""Border weights below this are left out: beside a class weight of about one, nobody sees them."""


def class_weights(
    wanted: ClassWeights, classes: int, shares: Sequence[float] | None = None
) -> tuple[float, ...] | None:
    """Return the weight of each class.

    Balanced weights are the inverse of each class's share, ``w_c = (1 / f_c) / mean_k(1 / f_k)``: their mean is
    one, and every class has the same sum of weights over the training pairs.

    Args:
        wanted: ``none``, ``balanced``, or a number for each class.
        classes: how many classes there are.
        shares: share of the labelled voxels that each class has.

    Returns:
        The weights; None where all are the same, whatever their number is.

    Raises:
        InputError: the numbers are not one a class, below zero or all zero; or a class to be balanced has no voxel.
    """
    if wanted == "none":
        return None
    if wanted == "balanced":
        assert shares is not None, "balanced weights are made of the classes' shares"
        assert len(shares) == classes
        return _balanced(shares)
    if len(wanted) != classes:
        raise InputError(
            f"loss.class_weights: {len(wanted)} numbers for {classes} classes; give one for each class"
        )
    if not all(0 <= weight < math.inf for weight in wanted) or not any(wanted):
        raise InputError(f"loss.class_weights: {wanted} must be numbers from 0 up, not all of them 0")
    return wanted


def _balanced(shares: Sequence[float]) -> tuple[float, ...]:
    absent = [number for number, share in enumerate(shares) if not share > 0]
    if absent:
        raise InputError(
            f"loss.class_weights balanced: no labelled voxel is of class {', '.join(map(str, absent))}; add pairs"
            " that hold it, or give numbers"
        )
    inverse = [1 / share for share in shares]
    return tuple(value * len(shares) / sum(inverse) for value in inverse)


def border_reach(w0: float, sigma: float) -> float:
    """Return the largest ``d1 + d2`` of voxels with a border weight: where it has come down to ``TOLERANCE``."""
    return sigma * math.sqrt(2 * math.log(w0 / TOLERANCE)) if w0 > TOLERANCE else 0.0


def border_context(w0: float, sigma: float) -> int:
    """Return how many voxels around a patch its border weights depend on, along every axis.

    The nearest instance is at least one voxel away, so the second nearest that matters is within the reach less
    one: 20 voxels for the paper's ``w0`` of 10 and sigma of 5. Law: with that much around it, a patch has the very
    weights that it has in the whole volume.
    """
    return max(math.floor(border_reach(w0, sigma)) - 1, 0)


def border_weights(
    instances: npt.NDArray[Any], *, w0: float = 10.0, sigma: float = 5.0
) -> npt.NDArray[np.float32]:
    """Return ``w0 exp(-(d1 + d2)**2 / (2 sigma**2))``: Ronneberger et al. (2015), section 3, equation 2.

    ``d1`` and ``d2`` are the Euclidean distances, in voxels from centre to centre, to the nearest instance and to
    the nearest other one. Only background has a weight, as in the paper's figure 3; values below ``TOLERANCE`` are 0.

    Args:
        instances: instance ids ``(*spatial)``, whole numbers; 0 is background, and below 0 nothing is known.
        w0: the largest weight, if two instances had no distance.
        sigma: how fast it falls, in voxels.

    Returns:
        ``(*spatial)``, zero and above; to be added to the class's weight.
    """
    reach = border_reach(w0, sigma)
    first = np.full(instances.shape, np.inf, np.float32)
    second = first.copy()
    for place, away in _distances(instances, math.floor(reach)):
        second[place] = np.minimum(second[place], np.maximum(first[place], away))
        first[place] = np.minimum(first[place], away)
    total = np.where(instances == 0, first + second, np.inf)
    weights = w0 * np.exp(-(total**2) / (2 * sigma**2))
    return np.where(total <= reach, weights, 0).astype(np.float32)


def _distances(
    instances: npt.NDArray[Any], reach: int
) -> Iterator[tuple[tuple[slice, ...], npt.NDArray[np.float32]]]:
    """Yield the distances to each instance, and where they stand: in its box, grown by the reach.

    One whose grown box holds no other instance is left out: it makes no border.
    """
    ids, numbers = np.unique(np.maximum(instances, 0), return_inverse=True)
    numbers = numbers.reshape(instances.shape) + (ids[0] > 0)  # background is 0, also where there is none
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        place = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        around = numbers[place]
        if not ((around != number) & (around > 0)).any():
            continue
        yield place, ndimage.distance_transform_edt(around != number).astype(np.float32)
