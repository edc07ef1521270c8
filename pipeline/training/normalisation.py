"""The mean and standard deviation by which a network's input is normalised: of all training volumes together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.model.checkpoint import Normalisation
from pipeline.training.pairs import OpenPair


def measure_normalisation(pairs: Sequence[OpenPair], note: Callable[[str], None]) -> Normalisation:
    """Measure mean and standard deviation per channel over the training volumes, streamed box by box.

    Up to 64 evenly spaced boxes of each volume count, all of it where that is enough, without what is held out and
    its guard: the result depends on the volumes alone, neither on chance nor on what is held in memory. Sums are in
    float64, of the differences to the first voxel, so that a small deviation around a large mean is not lost.

    Args:
        pairs: the training volumes, at least one, all with the same number of channels.
        note: told of a channel that is the same everywhere; its deviation of 0 is replaced by 1.

    Raises:
        InputError: a volume holds NaN or infinity; the pair is named. All boxes that are looked at are held out.
    """
    boxes = _boxes(pairs)
    first = next(boxes, None)
    if first is None:
        raise InputError(
            "all that would be looked at for the normalisation is held out; hold out less, or say `normalisation`"
        )
    pivot = first.reshape(first.shape[0], -1)[:, 0].astype(np.float64)
    count, total, squares = _sums(first, pivot)
    for voxels in boxes:
        more = _sums(voxels, pivot)
        count, total, squares = count + more[0], total + more[1], squares + more[2]
    away = total / count
    std = np.sqrt(np.maximum(squares / count - away**2, 0))
    for channel in np.flatnonzero(std == 0):
        note(
            f"channel {channel} is {pivot[channel]:g} everywhere: nothing can be learnt from it, it is not scaled"
        )
    return Normalisation(mean=tuple((pivot + away).tolist()), std=tuple(np.where(std == 0, 1, std).tolist()))


def _boxes(pairs: Sequence[OpenPair]) -> Iterator[npt.NDArray[Any]]:
    """Yield the sampled voxels ``(c, ...)`` of every volume that may be learnt from; refuse what is not finite."""
    for pair in pairs:
        for box in pair.image.sampled_boxes():
            voxels = pair.image.shown(box)
            if not np.isfinite(voxels).all():
                raise InputError(
                    f"{pair.name}: the image holds NaN or infinity in voxels {box}; training cannot use them:"
                    " replace them by numbers"
                )
            used = ~pair.known.without.paint(box)
            if used.any():
                yield voxels if used.all() else voxels[:, used]


def _sums(
    voxels: npt.NDArray[Any], pivot: npt.NDArray[np.float64]
) -> tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the voxels of a channel, and the sum of differences to the pivot and of their squares, ``(c,)`` each."""
    total, squares = np.zeros_like(pivot), np.zeros_like(pivot)
    for c, channel in enumerate(voxels):
        away = channel.astype(np.float64).ravel()
        away -= pivot[c]
        total[c], squares[c] = away.sum(), away @ away
    return voxels[0].size, total, squares
