"""Stain jitter: the strength of haematoxylin and eosin differs between labs and days, what is stained does not.

By the law of Beer and Lambert each stain adds to the optical density in proportion to how much of it there is.
Ruifrok and Johnston (2001) take densities of red, green and blue apart into those of the stains, by a matrix of three
colours; Tellez et al. (2018), section 2.2, multiply each stain at random and put them together again. Their second
number, a shift of each stain, is left out: it would colour the empty glass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.color import hed_from_rgb, rgb_from_hed

DARKEST = 1 / 256
"""Least share of the light that counts: black has no finite density."""


def restained(image: npt.NDArray[Any], factors: tuple[float, float, float]) -> npt.NDArray[np.float32]:
    """Return an image with its stains at other strengths.

    White stays white and nothing becomes brighter than that. Factors of 1 change no voxel, but for rounding and what
    is darker than ``DARKEST``.

    Args:
        image: red, green and blue ``(3, *spatial)``: whole numbers up to the largest of their dtype, or floating from
            0 to 1, which is white.
        factors: of haematoxylin, eosin and the rest.

    Returns:
        The image in float32, in the same units.
    """
    white = np.iinfo(image.dtype).max if image.dtype.kind in "iu" else 1
    density = np.log(np.maximum(image.astype(np.float32) / np.float32(white), np.float32(DARKEST)))
    # Apart, each by its factor, together: one matrix, for densities and for their negatives alike.
    change = (hed_from_rgb * factors) @ rgb_from_hed
    changed = np.tensordot(change.T.astype(np.float32), density, 1)
    np.minimum(changed, 0, out=changed)  # no stain lets more light through than there is
    return np.exp(changed, out=changed) * np.float32(white)
