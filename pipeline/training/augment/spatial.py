"""Moving voxels in the plane: where each comes from, and how image, target and weights are read there.

A map ``(2, y, x)`` holds, for each voxel of the outcome, the place that it shows: y and x in voxels, a voxel's centre
at whole numbers. It is the same for every channel and every slice, and is drawn before anything is read, so that the
voxels that it shows can be::

    +- - - - - - - - - - -+     the patch shows voxels around it when it is made smaller or is turned: they are read,
    |      +-------+      |     at most as many again on each side as the patch has along the axis. Only what lies
    |<---->| patch |<---->|     further away is not known: the mirror image, whose target is ignored
    |      +-------+      |
    +- - - - - - - - - - -+
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.interpolate import CubicSpline

from pipeline.geometry import Box
from pipeline.training.targets import IGNORE

Single = npt.NDArray[np.float32]
Voxels = npt.NDArray[Any]

STEEPEST = 6.0
"""Least distance of grid points, in standard deviations of their displacements: nearer, the patch would fold."""


def sources(plane: tuple[int, int], *, scale: float, rotation: float) -> Single:
    """Return the map that scales and turns around the patch's centre.

    Args:
        plane: voxels along y and x.
        scale: factor of sizes: at 2 everything is twice as large.
        rotation: in radians, counter-clockwise where y points down.
    """
    cos, sin = math.cos(rotation) / scale, math.sin(rotation) / scale
    middle = [(length - 1) / 2 for length in plane]
    y = np.arange(plane[0], dtype=np.float32)[:, None] - middle[0]
    x = np.arange(plane[1], dtype=np.float32)[None, :] - middle[1]
    return np.stack([cos * y + sin * x + middle[0], cos * x - sin * y + middle[1]]).astype(np.float32)


def displacements(plane: tuple[int, int], *, sigma: float, grid: int, random: np.random.Generator) -> Single:
    """Draw a smooth random displacement of each voxel: Ronneberger et al. (2015), section 3.1.

    Displacements are drawn from a Gaussian at ``grid`` by ``grid`` points, the outermost in the patch's corners, and
    interpolated by natural cubic splines along y and x. Where points are nearer than ``STEEPEST`` times sigma, sigma
    is that much smaller: a patch of 128 voxels and three points has 10.6 at most.

    Args:
        plane: voxels along y and x.
        sigma: standard deviation at the points, in voxels.
        grid: points along each axis.
        random: where they are drawn from.

    Returns:
        ``(2, y, x)``: along y and along x, in voxels; to be added to a map.
    """
    nearest = (min(plane) - 1) / (grid - 1)
    points = random.normal(0, min(sigma, nearest / STEEPEST), (2, grid, grid)).astype(np.float32)
    along_y, along_x = (_spline(length, grid) for length in plane)
    return np.asarray(along_y @ points @ along_x.T, np.float32)


@lru_cache(maxsize=64)
def _spline(length: int, grid: int) -> Single:
    """Return the share of each point's value in each voxel's, ``(length, grid)``; each row sums to one."""
    points = np.linspace(0, max(length - 1, 1), grid)
    shares = CubicSpline(points, np.eye(grid), bc_type="natural")(np.arange(length))
    return np.asarray(shares, np.float32)


def needed(source: Single) -> Box:
    """Return what has to be read for a map: a box of the plane, counted from the patch's first voxel as in the map.

    Where a patch is made larger, that is less than the patch; otherwise at most its length again on each side.
    """
    lengths = np.array(source.shape[1:])
    # Bicubic interpolation asks for the two nearest voxels on either side.
    start = np.floor(source.min((1, 2))).astype(int) - 1
    stop = np.floor(source.max((1, 2))).astype(int) + 3
    return Box(
        tuple(np.clip(start, -lengths, lengths - 1).tolist()), tuple(np.clip(stop, 1, 2 * lengths).tolist())
    )


def move_image(image: Voxels, source: Single) -> Single:
    """Return ``(c, *spatial)`` in float32, read by bicubic interpolation; outside lies the mirror image.

    Here and below, the map may have another extent than what it reads from; so has the outcome.
    """
    return _read(image, source, mode="bicubic", outside="reflection")


def move_weights(weights: Voxels, source: Single) -> Single:
    """Return ``(*spatial)`` in float32, read by linear interpolation: no weight falls below zero."""
    return _read(weights, source, mode="bilinear", outside="border")


def move_target(target: Voxels, source: Single) -> npt.NDArray[np.int64]:
    """Return ``(*spatial)`` in int64: the nearest voxel's id; ``IGNORE`` where that lies outside."""
    height, width = target.shape[-2:]
    y, x = np.rint(source).astype(np.int64)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    rows = target.reshape(*target.shape[:-2], height * width)
    nearest: npt.NDArray[np.int64] = rows.take(y * width + x, axis=-1, mode="clip").astype(np.int64, copy=False)
    nearest[..., ~inside] = IGNORE
    return nearest


def _read(voxels: Voxels, source: Single, *, mode: str, outside: str) -> Single:
    """Read all planes of an array at the places of a map."""
    height, width = voxels.shape[-2:]
    planes = torch.from_numpy(np.array(voxels, np.float32, order="C")).view(1, -1, height, width)
    # torch wants x before y, and -1 and 1 for the centres of the first and the last voxel.
    places = np.stack([source[1] * (2 / max(width - 1, 1)) - 1, source[0] * (2 / max(height - 1, 1)) - 1], -1)
    found = F.grid_sample(
        planes, torch.from_numpy(places).unsqueeze(0), mode=mode, padding_mode=outside, align_corners=True
    )
    moved: Single = found.numpy().reshape(*voxels.shape[:-2], *source.shape[1:])
    return moved
