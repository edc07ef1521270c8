"""Polygons as a GeoPackage, through GDAL, in the coordinate system of the raster."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import EnvironmentFaultError, InputError
from pipeline.volume.export.colours import class_colour, class_name
from pipeline.volume.export.files import replaced
from pipeline.volume.export.shapes import Shape

try:
    import shapely
    from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError
    from pyogrio.raw import write
except ImportError:  # an extra
    write = None

BATCH, CORNERS = 10_000, 500_000
"""Most polygons that are written at once, and most corners of theirs, unless one polygon has more."""

LAYER, FIELDS = "classes", ("class_id", "class", "voxels", "color")


def write_geopackage(
    shapes: Iterable[Shape], target: Path, *, names: tuple[str, ...] = (), crs: str | None = None
) -> int:
    """Write polygons in batches as the one layer ``classes``: class id, name, voxels, colour (``#rrggbb``) of each.

    Args:
        shapes: polygons as they are written.
        target: file; what is there is replaced when all is written.
        names: of the class ids 0, 1 ...
        crs: their coordinate system, as WKT or as a code; None where there is none.

    Returns:
        The number of polygons.

    Raises:
        InputError: the target is a folder, or its folder is not there; the coordinate system is none that GDAL knows;
            pyogrio or shapely is missing.
        EnvironmentFaultError: GDAL cannot write the file.
    """
    check_geopackage()
    count, remaining = 0, iter(shapes)
    with replaced(target) as partial:
        while (batch := _batch(remaining)) or count == 0:
            try:
                _write(batch, partial, names, crs, append=count > 0)
            except CRSError as error:
                raise InputError(
                    f"target {target}: coordinate system {crs!r} is unknown to GDAL ({error})"
                ) from error
            except (DataSourceError, DataLayerError, FeatureError) as error:
                raise EnvironmentFaultError(f"target {target}: cannot be written ({error})") from error
            count += len(batch)
            if not batch:
                break
    return count


def _batch(remaining: Iterator[Shape]) -> list[Shape]:
    """Take so many polygons, or so few that they have no more corners than that, but for the last one."""
    batch: list[Shape] = []
    corners = 0
    while len(batch) < BATCH and corners < CORNERS and (shape := next(remaining, None)) is not None:
        batch.append(shape)
        corners += sum(map(len, shape.rings))
    return batch


def check_geopackage() -> None:
    """Raise InputError unless GeoPackages can be written."""
    if write is None:
        raise InputError("a GeoPackage needs the packages pyogrio and shapely: pip install 'overtile[geo]'")


def _write(batch: Sequence[Shape], path: Path, names: tuple[str, ...], crs: str | None, *, append: bool) -> None:
    geometry = [shapely.Polygon(shape.rings[0], shape.rings[1:]) for shape in batch]
    columns = [
        np.array([shape.value for shape in batch], np.int64),
        np.array([class_name(shape.value, names) for shape in batch], object),
        np.array([shape.size for shape in batch], np.int64),
        np.array(["#{:02x}{:02x}{:02x}".format(*class_colour(shape.value)) for shape in batch], object),
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")  # a slide has none
        write(
            str(path),
            np.array(shapely.to_wkb(geometry), object),
            columns,
            fields=np.array(FIELDS, object),
            layer=LAYER,
            driver="GPKG",
            geometry_type="Polygon",
            crs=crs,
            append=append,
        )
