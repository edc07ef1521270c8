"""Where the files of a mosaic lie: on one grid, or what keeps them from it."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume.geo import Georeference
from pipeline.volume.sources.geotiff import RasterSource
from pipeline.volume.sources.raster import Raster, crs_wkt, same_crs
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.warp import FIRST, extent_on, suggested_grid, voxel_of


def check_alike(first: RasterSource, other: RasterSource) -> None:
    """Raise VolumeError if two files cannot be of one image."""
    pairs = {
        "number of bands": (first.channels or 1, other.channels or 1),
        "data type": (first.dtype, other.dtype),
        "nodata": (str(first.geo.nodata), str(other.geo.nodata)),
    }
    for what, (one, two) in pairs.items():
        if one != two:
            raise _differ(first, other, what, one, two)


def common_grid(first: RasterSource, target: str) -> Georeference:
    """Return the grid that files are warped to: where its voxel 0 lies, and how large its voxels are.

    Args:
        first: the first file.
        target: ``"first"`` for its own grid, or a coordinate reference system: its own grid if it is of that system,
            else the one of :func:`pipeline.volume.sources.warp.suggested_grid`.

    Raises:
        VolumeError: the system is unknown.
    """
    if target == FIRST:
        return first.geo
    wkt = crs_wkt(target, where=first.name)
    if same_crs(wkt, first.geo.crs):
        return first.geo
    with Raster(first.name) as raster:
        found: Georeference = raster.run(suggested_grid, raster.dataset, first.geo, wkt)
        return found


def place(pieces: Sequence[RasterSource], grid: Georeference, reading: Reading) -> tuple[list[Box], list[bool]]:
    """Return the voxels of a grid that each file covers, and whether it lies on the grid as it is."""
    boxes, on_grid = [], []
    for piece in pieces:
        fault = _off_grid(pieces[0], piece, grid, reading.snap)
        if fault is not None and reading.warp is None:
            raise fault
        on_grid.append(fault is None)
        boxes.append(
            _nearest(grid, piece) if fault is None else extent_on(grid, piece.geo, piece.shape, where=piece.name)
        )
    return boxes, on_grid


def _nearest(grid: Georeference, piece: RasterSource) -> Box:
    """Return the voxels of a grid that a file on it covers."""
    row, column = voxel_of(grid, _corner(piece.geo, 0, 0))
    return Box.of_shape(piece.shape).shift((round(row), round(column)))


def _off_grid(
    first: RasterSource, other: RasterSource, grid: Georeference, tolerance: float
) -> VolumeError | None:
    """Return what keeps a file from lying on a grid; None if it does."""
    if not same_crs(grid.crs, other.geo.crs):
        return _differ(first, other, "CRS", _crs(first.geo), _crs(other.geo))
    rows, columns = other.shape
    offsets = []
    for row, column in ((0, 0), (0, columns), (rows, 0), (rows, columns)):
        found = voxel_of(grid, _corner(other.geo, row, column))
        offsets.append((found[0] - row, found[1] - column))
    drift = max(abs(o[i] - offsets[0][i]) for o in offsets for i in range(2))
    if drift > tolerance:
        return _differ(first, other, "voxel size", _sizes(first.geo), _sizes(other.geo))
    off = max(abs(o[i] - round(offsets[0][i])) for o in offsets for i in range(2))
    if off > tolerance:
        return VolumeError(
            f"{other.name}: its voxels lie {off:.3g} of a voxel off the grid of {first.name} (at most {tolerance:g});"
            " place them at the nearest voxel with a larger --snap, or resample them with --warp first"
        )
    return None


def _corner(geo: Georeference, row: float, column: float) -> tuple[float, float]:
    """Return ``(x, y)`` of a voxel's upper left corner."""
    _, _, x, _, _, y = geo.shifted((row, column)).transform
    return x, y


def _crs(geo: Georeference) -> str:
    return geo.code or geo.crs


def _sizes(geo: Georeference) -> str:
    return " x ".join(f"{size:.10g}" for size in geo.voxel_size)


def _differ(first: RasterSource, other: RasterSource, what: str, one: object, two: object) -> VolumeError:
    cure = "bring them to one grid with --warp first" if what in ("CRS", "voxel size") else "make them so"
    return VolumeError(
        f"{other.name}: its {what} is {two}, but that of {first.name} is {one}; all files of a mosaic must be alike:"
        f" {cure}, or name the ones that are by a pattern"
    )
