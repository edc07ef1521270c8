"""Polygons as an image of class ids on the grid of another image: drawn box by box as they are read.

::

      polygon          voxels         A voxel has the class of the polygon that its centre lies in; of several, the one
    +-------+        . . . . .        that comes last in the file. Outside of all polygons, and in their holes, it is
    |   +---+        . 1 1 1 .        background: 0.
    |   |     ==>    . 1 . . .
    +---+            . 1 . . .

Law: any box has the same voxels. GDAL draws whole blocks of a fixed partition, so that what a number is rounded to
does not depend on where a box begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Box, Grid
from pipeline.volume.geo import Georeference
from pipeline.volume.sources.features import PIXELS, Features, read_features
from pipeline.volume.sources.raster import brought, crs_wkt
from pipeline.volume.sources.source import Source
from pipeline.volume.space import Space

try:
    import rasterio.features
    import shapely
    from rasterio.transform import Affine
except ImportError:  # an extra: only those who have polygons need it
    rasterio = shapely = None

BLOCK = 512
"""Voxels along each axis of the blocks that are drawn whole."""

BACKGROUND = 0
"""Class id where no polygon is."""

MOST = 255
"""Largest class id: class maps of polygons are uint8."""

LONGITUDE_LATITUDE = "OGC:CRS84"
"""The system of a GeoJSON that names none (RFC 7946, section 4)."""


@dataclass(frozen=True, slots=True)
class Like:
    """The grid that polygons are drawn on.

    Attributes:
        shape: ``(y, x)`` in voxels.
        space: of the grid.
        geo: where on Earth this grid lies; None for an image that is nowhere.
        factors: pixels that one voxel spans along y and x, where coordinates are in pixels: those of level 0 of a
            slide, whose coarser level the grid is. Coordinates of a CRS need them not.
    """

    shape: tuple[int, int]
    space: Space
    geo: Georeference | None = None
    factors: tuple[float, float] = (1.0, 1.0)


@dataclass(slots=True, eq=False)
class VectorSource(Source):
    """Polygons as class ids (uint8), or each as an id of its own (uint32).

    Attributes:
        tree: the polygons in voxels, ``(x, y)`` from the grid's upper left corner, found by place.
        ids: id of each, in the dtype of the image.
        classes: class id by the name of the class; empty where the polygons have no classes (all are 1).
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    tree: Any
    ids: npt.NDArray[Any]
    classes: Mapping[str, int]
    geo: Georeference | None = field()  # these two are not the defaults that Source has
    files: tuple[str, ...] = field()

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(1, y, x)``."""
        out = np.empty((1, *box.shape), self.dtype)
        blocks = Grid(self.shape, (BLOCK, BLOCK))
        for position in blocks.overlapping(box):
            core = blocks.core(blocks.number(position))
            seen = core.intersect(box)
            drawn = self._draw(core)[seen.relative_to(core.start).slices]
            out[0][seen.relative_to(box.start).slices] = drawn
        return out

    def _draw(self, block: Box) -> npt.NDArray[Any]:
        """Draw a block: ``(y, x)``. Polygons under one that covers it whole cannot be seen."""
        (top, bottom), (left, right) = block
        area = shapely.box(left, top, right, bottom)
        base = max(self.tree.query(area, predicate="within"), default=-1)
        canvas = np.full(block.shape, self.ids[base] if base >= 0 else BACKGROUND, self.dtype)
        above = [i for i in sorted(self.tree.query(area, predicate="intersects")) if i > base]
        if above:
            shapes = [(self.tree.geometries[i], int(self.ids[i])) for i in above]
            rasterio.features.rasterize(shapes, out=canvas, transform=Affine.translation(left, top))
        return canvas


def open_vectors(
    url: str | Path,
    like: Like,
    *,
    attribute: str | None = None,
    classes: Mapping[str, int] | None = None,
    layer: str | None = None,
    apart: bool = False,
) -> VectorSource:
    """Open polygons as an image of class ids on the grid of an image. They are held in memory, their voxels are not.

    Args:
        url: GeoJSON (QuPath's too), GeoPackage, FlatGeobuf or Shapefile.
        like: the grid. Coordinates are brought to its CRS by their corners: edges stay straight. Coordinates of a
            file that names no system, see :mod:`pipeline.volume.sources.features`.
        attribute: whose value is a polygon's class; None for QuPath's classification. Where there is neither, all
            polygons are of class 1.
        classes: id by class, 0 to 255; 0 draws background. None numbers them from 1, in the order of the file.
        layer: of a file that has several.
        apart: whether each polygon is an instance with an id of its own, from 1 in the order of the file, whatever its
            class is.

    Raises:
        VolumeError: what :func:`pipeline.volume.sources.features.read_features` refuses; a class without an id, too
            many classes; a CRS that nobody knows or that the image cannot be brought to; no polygon in the image.
        InputError: the extra ``geo`` is not installed.
    """
    if rasterio is None:
        raise InputError(f"{url}: polygons need the extra: pip install 'overtile[geo]'")
    features = read_features(url, attribute=attribute, layer=layer)
    table = {} if apart else _class_ids(features, classes)
    placed = _placed(features, like)
    image = shapely.box(0, 0, like.shape[1], like.shape[0])
    inside = np.flatnonzero(shapely.intersects(placed, image))
    if not inside.size:
        raise VolumeError(_nothing_inside(features, placed, like))
    ids = inside.astype(np.uint32) + 1 if apart else _ids(features, table, inside)
    return VectorSource(
        name=features.name,
        shape=like.shape,
        channels=None,
        dtype=ids.dtype,
        space=like.space,
        slab=(BLOCK, BLOCK),
        tree=shapely.STRtree(placed[inside]),
        ids=ids,
        classes=table,
        geo=None if like.geo is None else replace(like.geo, nodata=None),
        files=(features.name,),
    )


def _ids(features: Features, table: Mapping[str, int], chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
    """Return the class id of some polygons; 1 where nothing tells classes."""
    return np.array([table[features.classes[i]] if features.classes else 1 for i in chosen], np.uint8)


def _class_ids(features: Features, classes: Mapping[str, int] | None) -> dict[str, int]:
    """Return the id of every class."""
    found = list(dict.fromkeys(features.classes or ()))
    table = {name: i for i, name in enumerate(found, 1)} if classes is None else dict(classes)
    lacking = [name for name in found if name not in table]
    if lacking:
        raise VolumeError(
            f"{features.name}: no class id is given for {', '.join(lacking[:20])}; it is for {', '.join(table)}. Name"
            " all classes, or give none to number them in the order of the file"
        )
    wrong = [f"{name} = {i}" for name, i in table.items() if not 0 <= i <= MOST]
    if wrong:
        raise VolumeError(
            f"{features.name}: class ids are 0 to {MOST}, not {wrong[0]} ({len(table)} classes); choose an attribute"
            " of fewer values"
        )
    return table


def _placed(features: Features, like: Like) -> npt.NDArray[Any]:
    """Return the polygons in voxels of a grid."""
    crs = features.crs or (LONGITUDE_LATITUDE if like.geo else PIXELS)
    if crs == PIXELS:
        return _moved(features.polygons, lambda x, y: (x / like.factors[1], y / like.factors[0]))
    if like.geo is None:
        raise VolumeError(
            f"{features.name}: its coordinates are of {crs}, but the image has no coordinate reference system; give"
            " the image one, or polygons in pixels"
        )
    target = like.geo.crs
    wkt = crs_wkt(crs, where=features.name)
    placed = _moved(features.polygons, lambda x, y: brought(x, y, source=wkt, target=target))
    if not np.isfinite(shapely.bounds(placed)).all():
        raise VolumeError(_out_of_reach(features, wkt, like.geo))
    a, b, c, d, e, f = tuple(~Affine(*like.geo.transform))[:6]
    return _moved(placed, lambda x, y: (a * x + b * y + c, d * x + e * y + f))


def _moved(polygons: npt.NDArray[Any], move: Any) -> npt.NDArray[Any]:
    """Return polygons whose coordinates ``x, y``, two arrays, went through a function."""
    moved: npt.NDArray[Any] = shapely.transform(polygons, lambda points: np.stack(move(*points.T), axis=1))
    return moved


def _out_of_reach(features: Features, wkt: str, geo: Georeference) -> str:
    """Say which polygon lies where the image's system does not reach."""
    apart = (brought(*shapely.get_coordinates(p).T, source=wkt, target=geo.crs) for p in features.polygons)
    number = next(n for n, xy in zip(features.numbers, apart, strict=True) if not np.isfinite(xy).all())
    return (
        f"{features.name}: feature {number} lies where {geo.code or geo.name}, the system of the image, does not reach;"
        " take it out"
    )


def _nothing_inside(features: Features, placed: npt.NDArray[Any], like: Like) -> str:
    """Say that no polygon is in the image, and where they are."""
    if not placed.size:
        return f"{features.name}: there is no polygon in it"
    left, top, right, bottom = shapely.total_bounds(placed)
    span = f"{top:.0f}:{bottom:.0f},{left:.0f}:{right:.0f}"
    return (
        f"{features.name}: none of its {len(placed)} polygon(s) is in the image: they span voxels {span}, and it has"
        f" {like.shape[0]} x {like.shape[1]} (y, x); are they of another image, or in another coordinate system?"
    )
