"""From polygons in voxels to polygons in the world: moved, scaled and, if asked, simplified."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.volume.export.joining import Polygon

try:
    import shapely
except ImportError:  # an extra: exact polygons need it not
    shapely = None

Transform = tuple[float, float, float, float, float, float]
"""``(a, b, c, d, e, f)``: x = a * column + b * row + c, y = d * column + e * row + f, as in a georeference."""

VOXELS: Transform = (1, 0, 0, 0, 1, 0)
"""Coordinates in voxels."""

Ring = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A polygon as it is written.

    Attributes:
        value: class id.
        size: voxels of the region.
        rings: ``(k, 2)`` of x and y each, the shell and then the holes; the first corner comes again at the end. The
            shell turns to the left (RFC 7946, section 3.1.6), holes to the right.
    """

    value: int
    size: int
    rings: tuple[Ring, ...]


def placed(
    found: Iterable[Polygon], transform: Transform = VOXELS, *, simplify: float | None = None
) -> Iterator[Shape]:
    """Yield polygons where a transform puts them.

    Args:
        found: polygons in voxels.
        transform: from voxels to the world. Where all its numbers are whole, coordinates are whole numbers.
        simplify: greatest distance in voxels by which a boundary may move (Douglas and Peucker 1973), with the
            topology kept; neighbours are simplified apart, so that they may overlap or part by as much. None for
            exact boundaries.

    Raises:
        InputError: simplification is asked for and shapely is missing, or the distance is not positive.
    """
    if simplify is not None:
        check_simplify(simplify)
    whole = all(float(v).is_integer() for v in transform) and simplify is None
    matrix = np.array(transform, np.int64 if whole else np.float64).reshape(2, 3)
    turned = transform[0] * transform[4] < transform[1] * transform[3]
    for polygon in found:
        rings = (polygon.shell, *polygon.holes)
        if simplify is not None:
            rings = _simplified(rings, simplify)
        moved = (np.vstack([ring, ring[:1]]) @ matrix[:, :2].T + matrix[:, 2] for ring in rings)
        yield Shape(polygon.value, polygon.size, tuple(ring[::-1] if turned else ring for ring in moved))


def check_simplify(distance: float) -> None:
    """Raise InputError unless boundaries can be simplified by a distance in voxels."""
    if not (math.isfinite(distance) and distance > 0):
        raise InputError(f"--simplify {distance}: is a distance in voxels; it must be greater than 0")
    if shapely is None:
        raise InputError("--simplify needs the package shapely: pip install 'overtile[geo]'")


def _simplified(rings: tuple[Ring, ...], distance: float) -> tuple[Ring, ...]:
    """Return simpler rings of the same turning; the exact ones where simpler ones would not be valid."""
    simple = shapely.simplify(shapely.Polygon(rings[0], rings[1:]), distance, preserve_topology=True)
    if simple.geom_type != "Polygon" or simple.is_empty or not simple.is_valid:
        return rings
    simple = shapely.orient_polygons(simple)
    return tuple(shapely.get_coordinates(ring)[:-1] for ring in (simple.exterior, *simple.interiors))
