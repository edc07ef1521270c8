"""From class ids to objects, and how many of them are right: for the benchmarks of nuclei."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from skimage.measure import label
from skimage.morphology import remove_small_objects
from skimage.segmentation import watershed

from pipeline.evaluation.contingency import ContingencyTable
from pipeline.evaluation.instances import instance_metrics

Ids = npt.NDArray[Any]

INTERIOR, BOUNDARY = 1, 2
"""Classes that three_class targets have, beside the background."""


def objects(classes: Ids, *, least: int) -> Ids:
    """Return the objects of a map of classes: connected interiors are seeds, and boundaries join the nearest one.

    Args:
        classes: 0, ``INTERIOR`` or ``BOUNDARY``, ``([z,] y, x)``.
        least: voxels of a seed; smaller ones are none.

    Returns:
        Ids of the objects, 0 where there is none.
    """
    seeds = _parts(classes == INTERIOR, least)
    found: Ids = watershed(distance_transform_edt(seeds == 0), markers=seeds, mask=classes > 0)
    return found


def connected(classes: Ids, *, least: int) -> Ids:
    """Return the connected parts of everything that is not background: what is had without boundaries."""
    return _parts(classes > 0, least)


def _parts(mask: npt.NDArray[np.bool_], least: int) -> Ids:
    """Return the connected parts of a mask that are large enough, numbered."""
    found: Ids = label(remove_small_objects(mask, max_size=least - 1, connectivity=1), connectivity=1)
    return found


def counted(found: Ids, target: Ids, *, number: int) -> ContingencyTable:
    """Return the overlaps of one image, with ids that no other image has.

    Args:
        found: ids of objects.
        target: ids of objects.
        number: of the image.
    """
    first = number << 20
    shifted = [np.where(ids > 0, ids.astype(np.int64) + first, 0) for ids in (found, target)]
    return ContingencyTable.of(shifted[0], shifted[1])


def scores(total: ContingencyTable) -> dict[str, Any]:
    """Return ``f1``, ``precision``, ``recall`` and ``pq`` at an IoU of 0.5, ``aji``, and the objects of the target."""
    found = instance_metrics(total, thresholds=(0.5,))
    (at,) = found["matches"]
    ratios = {name: at[name] for name in ("f1", "precision", "recall", "pq")}
    return ratios | {"aji": found["aji"], "objects": found["target_objects"]["count"]}
