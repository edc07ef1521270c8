"""What is known of a box: the class ids that the network is to find, and how they weigh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box
from pipeline.training.pairs import OpenPair
from pipeline.training.targets import IGNORE, TargetRule, Voxels

Truth = tuple[npt.NDArray[np.int64], Voxels | None]
"""Class ids, :data:`pipeline.training.targets.IGNORE` where nothing is known, and weights or None; of a box's shape."""


def read_truth(pair: OpenPair, box: Box, rule: TargetRule, dims: int) -> Truth:
    """Read the truth of a box of a pair.

    Law: any box has the voxels that it has in the whole volume, also where they are made of instances around them.
    What lies outside the volume, is not labelled, or belongs to the other side of a split, is not known.

    Args:
        pair: where.
        box: of the pair's volume; may reach outside it.
        rule: how class ids are made of what is stored.
        dims: axes of the network; a slice of a stack is made for itself.

    Raises:
        InputError: a value that is known is no class id.
        ChunkError, StoreError: the target cannot be read.
    """
    context = [0] * (box.ndim - dims) + [rule.context] * dims
    grown = box.grow(context, context)
    stored, labelled = pair.target.shown(grown)[0], pair.known.labelled_bits(grown)
    if not pair.known.labelled or not labelled.any():
        return np.full(box.shape, IGNORE, np.int64), _no_weights(box, rule)
    where, lead = f"{pair.name}, voxels {box}", grown.shape[: box.ndim - dims]
    flat = (-1, *grown.shape[box.ndim - dims :])
    made = [rule.derive(*both, where) for both in zip(stored.reshape(flat), labelled.reshape(flat), strict=True)]
    inside = tuple(slice(c, c + n) for c, n in zip(context, box.shape, strict=True))
    ids = _joined([one for one, _ in made]).reshape(*lead, *flat[1:])[inside]
    ids[~pair.known.bits(box)] = IGNORE
    weights = [weight for _, weight in made if weight is not None]
    if not weights:
        return ids, None
    return ids, _joined(weights).astype(np.float32, copy=False).reshape(*lead, *flat[1:])[inside]


def read_ids(pair: OpenPair, box: Box, rule: TargetRule, dims: int) -> npt.NDArray[np.int64]:
    """Read the class ids of a box of a pair, as :func:`read_truth` does; no weights are made."""
    return read_truth(pair, box, replace(rule, weighing=None), dims)[0]


def _joined(slices: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return slices in one array; a single one as it is."""
    return slices[0] if len(slices) == 1 else np.stack(slices)


def _no_weights(box: Box, rule: TargetRule) -> Voxels | None:
    return None if rule.weighing is None else np.zeros(box.shape, np.float32)
