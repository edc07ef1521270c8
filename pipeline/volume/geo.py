"""Where on Earth a volume lies: the reference that a raster brings, kept in the attributes of its image group.

It is written three times over, for three families of readers: the ``proj:`` and ``spatial:`` conventions of Zarr
(GDAL 3.13 and later), and CF's ``spatial_ref`` (xarray with rioxarray or odc-geo). All describe level 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import VolumeError

Transform = tuple[float, float, float, float, float, float]

_CONVENTIONS = [
    {
        "name": "proj",
        "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "description": "Coordinate reference system information for geospatial data",
        "schema_url": "https://raw.githubusercontent.com/zarr-conventions/proj/refs/tags/v0.1/schema.json",
        "spec_url": "https://github.com/zarr-conventions/proj/blob/v0.1/README.md",
    },
    {
        "name": "spatial",
        "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
        "description": "Spatial coordinate information",
        "schema_url": "https://raw.githubusercontent.com/zarr-conventions/spatial/refs/tags/v0.1/schema.json",
        "spec_url": "https://github.com/zarr-conventions/spatial/blob/v0.1/README.md",
    },
]
"""How a reader knows the meaning of the keys (``zarr_conventions`` of a group)."""

_AUTHORITY = re.compile(r'(?:ID|AUTHORITY)\[\s*"(\w+)"\s*,\s*"?(\w+)"?\s*\]\s*\]\s*$')
"""The last entry of a WKT's outermost node: the code of the whole system, not of one of its parts."""


@dataclass(frozen=True, slots=True)
class Georeference:
    """The place of a raster's voxels.

    Attributes:
        crs: the coordinate reference system, as WKT (or, where another writer left no WKT, its code).
        transform: ``(a, b, c, d, e, f)``, the order of rasterio's ``Affine``: the upper left corner of the voxel
            (row, column) is at ``x = a * column + b * row + c``, ``y = d * column + e * row + f``, in the units of
            the CRS.
        nodata: the value of voxels that hold no measurement (NaN is one); None where every value is one.
    """

    crs: str
    transform: Transform
    nodata: float | None

    @property
    def code(self) -> str | None:
        """Code of the CRS, as ``"EPSG:32618"``; None for a system that no authority numbers."""
        if "[" not in self.crs:
            return self.crs
        found = _AUTHORITY.search(self.crs)
        return f"{found[1]}:{found[2]}" if found else None

    @property
    def name(self) -> str:
        """Name of the CRS, as its WKT says it."""
        found = re.search(r'"([^"]*)"', self.crs)
        return found[1] if found else self.crs

    @property
    def voxel_size(self) -> tuple[float, float]:
        """Extent of a voxel along y and x, in the units of the CRS."""
        a, b, _, d, e, _ = self.transform
        return math.hypot(b, e), math.hypot(a, d)

    def scaled(self, factors: Sequence[float]) -> Georeference:
        """Return the reference of a coarser (or finer) grid with the same upper left corner.

        Args:
            factors: voxels of this grid that one voxel of the other spans, along each spatial axis (``..., y, x``).
        """
        fy, fx = factors[-2:]
        a, b, c, d, e, f = self.transform
        return replace(self, transform=(a * fx, b * fy, c, d * fx, e * fy, f))

    def shifted(self, voxels: Sequence[float]) -> Georeference:
        """Return the reference of the grid that begins at a voxel of this one.

        Args:
            voxels: index of the voxel along each spatial axis (``..., y, x``).
        """
        row, column = voxels[-2:]
        a, b, c, d, e, f = self.transform
        corner = (a * column + b * row + c, d * column + e * row + f)
        return replace(self, transform=(a, b, corner[0], d, e, corner[1]))


def georeference_attributes(geo: Georeference, *, shape: Sequence[int]) -> dict[str, Any]:
    """Return the attributes of an image group that say where its level 0 lies.

    Args:
        geo: of level 0.
        shape: spatial shape of level 0 in voxels (``..., y, x``).
    """
    a, b, c, d, e, f = geo.transform
    crs: dict[str, Any] = {"proj:wkt2": geo.crs} if "[" in geo.crs else {}
    attributes: dict[str, Any] = {
        "zarr_conventions": _CONVENTIONS,
        **crs,
        "spatial:dimensions": ["y", "x"],
        "spatial:transform_type": "affine",
        "spatial:transform": [a, b, c, d, e, f],
        "spatial:shape": [int(n) for n in shape[-2:]],
        "spatial:registration": "pixel",
        "spatial_ref": {"crs_wkt": geo.crs, "GeoTransform": " ".join(repr(float(v)) for v in (c, a, b, f, d, e))},
    }
    if geo.code is not None:
        attributes["proj:code"] = geo.code
    if geo.nodata is not None:
        attributes["_FillValue"] = geo.nodata if math.isfinite(geo.nodata) else _NON_FINITE[str(geo.nodata)]
    return attributes


_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""How Zarr v3 writes floats that JSON has no number for."""


def read_georeference(attributes: Mapping[str, Any]) -> Georeference | None:
    """Return the reference that a group's attributes hold; None where they hold none.

    Args:
        attributes: of the image group, as :func:`georeference_attributes` or another writer of the conventions made
            them.

    Raises:
        VolumeError: there is a reference, but it cannot be understood.
    """
    crs = attributes.get("proj:wkt2") or attributes.get("proj:code")
    transform = attributes.get("spatial:transform")
    if crs is None or transform is None:
        return None
    try:
        a, b, c, d, e, f = (float(v) for v in transform)
        nodata = attributes.get("_FillValue")
        return Georeference(str(crs), (a, b, c, d, e, f), None if nodata is None else float(nodata))
    except (TypeError, ValueError) as error:
        raise VolumeError(
            f"georeference: spatial:transform {transform!r} (six numbers) or _FillValue"
            f" {attributes.get('_FillValue')!r} (a number) is damaged; correct the attributes of the group"
        ) from error
