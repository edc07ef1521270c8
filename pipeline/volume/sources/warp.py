"""Bring a raster onto another grid: another coordinate reference system, another resolution, another turn.

Law: any box has the same voxels. GDAL warps whole blocks of a fixed partition, without its usual approximation
of the transform, so that no voxel depends on where a box begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import VolumeError
from pipeline.geometry import Box, Grid
from pipeline.volume.geo import Georeference
from pipeline.volume.sources.raster import brought, read_window
from pipeline.volume.sources.reading import Resampling

try:
    from rasterio.crs import CRS
    from rasterio.enums import Resampling as Method
    from rasterio.transform import Affine
    from rasterio.vrt import WarpedVRT
except ImportError:  # an extra: only those who have rasters need it
    WarpedVRT = None

FIRST = "first"
"""The grid of the first file, as a user names it."""

BLOCK = 512
"""Voxels along each axis of the blocks that are warped whole."""

MOST = 2**31
"""Voxels along an axis that GDAL counts to: a place that is farther off is one that a system does not reach."""

TOLERANCE = 1e-9
"""Voxels of the raster by which GDAL may be off as it interpolates a transform: in effect, it computes each one."""

EDGE = 257
"""Points along each edge of a raster by which its extent on another grid is found."""


@dataclass(frozen=True, slots=True)
class Warp:
    """How one raster is brought onto a grid.

    Attributes:
        crs: of the raster, as WKT.
        grid: of the whole; its nodata is the raster's.
        shape: of the whole, in voxels.
        resampling: how voxels are made; those that hold nodata make none, in each band by itself.
    """

    crs: str
    grid: Georeference
    shape: tuple[int, int]
    resampling: Resampling


def suggested_grid(dataset: Any, geo: Georeference, wkt: str) -> Georeference:
    """Return the grid that GDAL suggests for a raster in another system: north up, as many voxels on the diagonal.

    Args:
        dataset: the raster, open.
        geo: where it lies.
        wkt: the other system.
    """
    with WarpedVRT(dataset, src_crs=CRS.from_user_input(geo.crs), crs=CRS.from_user_input(wkt)) as suggested:
        a, b, c, d, e, f = (float(v) for v in tuple(suggested.transform)[:6])
    return Georeference(wkt, (a, b, c, d, e, f), geo.nodata)


def extent_on(grid: Georeference, geo: Georeference, shape: Sequence[int], *, where: str) -> Box:
    """Return the box of the voxels of a grid whose centres a raster covers; one voxel at least.

    Raises:
        VolumeError: the grid's system does not reach all of it.
    """
    rows, columns = (np.linspace(0, n, EDGE) for n in shape)
    y = np.concatenate([rows, rows, np.zeros(EDGE), np.full(EDGE, shape[0])])
    x = np.concatenate([np.zeros(EDGE), np.full(EDGE, shape[1]), columns, columns])
    a, b, c, d, e, f = geo.transform
    points = brought(a * x + b * y + c, d * x + e * y + f, source=geo.crs, target=grid.crs)
    found = voxel_of(grid, points)
    if not all((np.abs(v) < MOST).all() for v in found):  # nor for what is no number
        raise VolumeError(
            f"{where}: {grid.code or grid.name} does not reach all of it; warp to a system that does, or leave it out"
        )
    low, high = ([math.ceil(float(edge(v)) - 0.5) for v in found] for edge in (np.min, np.max))
    return Box(tuple(low), tuple(max(b, a + 1) for a, b in zip(low, high, strict=True)))


def voxel_of(geo: Georeference, point: Any) -> tuple[Any, Any]:
    """Return row and column of points ``(x, y)``, as fractions."""
    a, b, c, d, e, f = geo.transform
    x, y = point[0] - c, point[1] - f
    area = a * e - b * d
    return (a * y - d * x) / area, (e * x - b * y) / area


def read_warped(
    dataset: Any, how: Warp, box: Box, bands: Sequence[int]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Read a box of the grid out of a raster.

    Args:
        dataset: the raster, open, of this thread.
        how: how it is warped.
        box: in voxels of the grid.
        bands: to read, counted from 1.

    Returns:
        voxels ``(c, y, x)``, and where the raster covers them, ``(y, x)``.
    """
    voxels = np.empty((len(bands), *box.shape), dataset.dtypes[0])
    covered = np.zeros(box.shape, np.bool_)
    blocks = Grid(how.shape, (BLOCK, BLOCK))
    with _warped(dataset, how) as vrt:
        alpha = [] if dataset.nodata is not None else [dataset.count + 1]
        for position in blocks.overlapping(box):
            core = blocks.core(blocks.number(position))
            seen = core.intersect(box)
            block = read_window(vrt, core, [*bands, *alpha])[(slice(None), *seen.relative_to(core.start).slices)]
            here = seen.relative_to(box.start).slices
            voxels[(slice(None), *here)] = block[: len(bands)]
            covered[here] = block[-1] != 0 if alpha else True
    return voxels, covered


def _warped(dataset: Any, how: Warp) -> Any:
    """Return a raster on the grid, as a dataset: outside of it is nodata, or an alpha band of 0 where it has none."""
    a, b, c, d, e, f = how.grid.transform
    return WarpedVRT(
        dataset,
        src_crs=CRS.from_user_input(how.crs),
        crs=CRS.from_user_input(how.grid.crs),
        transform=Affine(a, b, c, d, e, f),
        height=how.shape[0],
        width=how.shape[1],
        resampling=Method[how.resampling],
        tolerance=TOLERANCE,
        add_alpha=dataset.nodata is None,
        warp_extras={"UNIFIED_SRC_NODATA": "NO"},  # a band without a value is not blended into its neighbours
    )
