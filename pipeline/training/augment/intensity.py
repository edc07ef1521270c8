"""Changing intensities: pure functions of images ``(c, *spatial)`` of any dtype, to float32; none clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Single = npt.NDArray[np.float32]
Voxels = npt.NDArray[Any]


def graded(image: Voxels, factor: float, shift: Single) -> Single:
    """Return ``image * factor + shift``: contrast and brightness.

    Args:
        image: the voxels.
        factor: of all channels.
        shift: of each channel, ``(c,)``, in the image's values.
    """
    return image.astype(np.float32) * np.float32(factor) + _column(shift, image.ndim)


def powered(image: Voxels, exponent: float) -> Single:
    """Return ``low + span * ((image - low) / span) ** exponent`` by channel, from its least value to its largest.

    Both ends stay; below an exponent of 1 everything between is brighter, above it darker. A channel that is the same
    everywhere stays as it is.
    """
    spatial = tuple(range(1, image.ndim))
    voxels = image.astype(np.float32)
    low = voxels.min(spatial, keepdims=True)
    span = voxels.max(spatial, keepdims=True) - low
    share = (voxels - low) / np.where(span > 0, span, 1)
    bent: Single = low + span * share ** np.float32(exponent)
    return bent


def blurred(image: Voxels, sigma: float) -> Single:
    """Return the image after a Gaussian blur in the plane, of so many voxels; outside lies the mirror image."""
    sigmas = [0.0] * (image.ndim - 2) + [sigma, sigma]
    soft: Single = ndimage.gaussian_filter(image.astype(np.float32), sigmas, mode="mirror")
    return soft


def noisy(image: Voxels, deviation: Single, random: np.random.Generator) -> Single:
    """Return the image with Gaussian noise, drawn for each voxel by itself.

    Args:
        image: the voxels.
        deviation: standard deviation in each channel, ``(c,)``, in the image's values.
        random: where it is drawn from.
    """
    noise = random.standard_normal(image.shape, np.float32)
    noise *= _column(deviation, image.ndim)
    noise += image
    return noise


def _column(values: Single, ndim: int) -> Single:
    """Return one value a channel in the shape that goes with ``(c, *spatial)``."""
    return values.reshape(-1, *[1] * (ndim - 1))
