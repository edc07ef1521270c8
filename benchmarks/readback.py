"""What was exported, read again by the libraries that other programs are made of, and compared to the last voxel."""

from __future__ import annotations

import json
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio.raw
import rasterio
import rasterio.features
import shapely
import tensorstore
import tifffile
import yaozarrs
from ome_zarr.format import FormatV04
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from PIL import Image
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from pipeline.volume.export.colours import class_colour

Voxels = npt.NDArray[Any]

MICROMETRES = {"micrometer": "µm", "nanometer": "nm", "meter": "m"}


class Different(Exception):
    """Something came back otherwise than it left."""


def same(what: str, found: object, expected: object) -> None:
    """Raise Different unless two values are equal."""
    if found != expected:
        raise Different(f"{what}: {found!r} instead of {expected!r}")


def same_voxels(what: str, found: Voxels, expected: Voxels) -> None:
    """Raise Different unless two arrays are equal, voxel for voxel."""
    same(f"{what}, shape", found.shape, expected.shape)
    same(f"{what}, different voxels", int(np.count_nonzero(found != expected)), 0)


@dataclass(frozen=True)
class Expected:
    """What an export must hold.

    Attributes:
        levels: class ids ``([z,] y, x)`` of each level, finest first.
        voxel_size: of the finest level, along each axis.
        unit: of the voxel size, by its name in OME-NGFF; None where it is unknown.
        crs: coordinate reference system; None of an image without a place.
        transform: ``(a, b, c, d, e, f)`` of the finest level; None without a place.
    """

    levels: tuple[Voxels, ...]
    voxel_size: tuple[float, ...]
    unit: str | None
    crs: CRS | None = None
    transform: tuple[float, ...] | None = None


def check_cog(path: Path, expected: Expected) -> None:
    """Compare a COG, as rasterio reads it: voxels, CRS, transform, extent, colours and block layout."""
    assert expected.transform is not None, expected
    ids = expected.levels[0]
    with rasterio.open(path) as raster:
        same_voxels("COG", raster.read(1), ids)
        same("COG, CRS", raster.crs, expected.crs)
        same("COG, transform", tuple(raster.transform)[:6], expected.transform)
        same(
            "COG, extent", raster.bounds, rasterio.transform.array_bounds(*ids.shape, Affine(*expected.transform))
        )
        same("COG, colour of class 1", raster.colormap(1)[1][:3], class_colour(1))
        same("COG, layout", raster.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"), "COG")


def check_ome_tiff(path: Path, expected: Expected) -> None:
    """Compare an OME-TIFF, as tifffile reads it: voxels of all levels that it holds, and physical sizes."""
    with tifffile.TiffFile(path) as file:
        found = file.series[0].levels
        for k, level in enumerate(found):
            same_voxels(f"OME-TIFF, level {k}", level.asarray(), expected.levels[k])
        document = ElementTree.fromstring(file.ome_metadata or "")
    pixels = document.find(".//{*}Pixels")
    assert pixels is not None, document
    symbol = MICROMETRES.get(expected.unit or "")
    for axis, size in zip("ZYX"[-len(expected.voxel_size) :], expected.voxel_size, strict=True):
        stated = pixels.get(f"PhysicalSize{axis}")
        same(f"OME-TIFF, size along {axis}", stated and float(stated), size if symbol else None)
        same(f"OME-TIFF, unit along {axis}", pixels.get(f"PhysicalSize{axis}Unit"), symbol)


def check_polygons(path: Path, expected: Expected) -> None:
    """Compare polygons, as GDAL reads them: all valid, in the CRS, and the class map when they are drawn again."""
    meta, _, wkb, columns = pyogrio.raw.read(path)
    shapes = shapely.from_wkb(wkb)
    same(f"{path.suffix}, polygons that are not valid", int(np.count_nonzero(~shapely.is_valid(shapes))), 0)
    if expected.crs is not None:
        same(f"{path.suffix}, CRS", CRS.from_user_input(meta["crs"]), expected.crs)
    ids = expected.levels[0]
    transform = Affine.identity() if expected.transform is None else Affine(*expected.transform)
    fields = dict(zip(meta["fields"], columns, strict=True))
    values = fields["class_id"] if "class_id" in fields else [_class_of(text) for text in fields["classification"]]
    pairs = zip(shapes, map(int, values), strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # pixels of a slide have no place
        drawn = rasterio.features.rasterize(pairs, out_shape=ids.shape, transform=transform, dtype="uint8")
    same_voxels(f"{path.suffix}, drawn again", drawn, ids)


def _class_of(classification: str) -> int:
    """Return the class id of a GeoJSON feature by its colour, which differs from class to class."""
    colour = tuple(json.loads(classification)["color"])
    return next(value for value in range(1, 8) if class_colour(value) == colour)


def check_png(path: Path, expected: Expected) -> None:
    """Compare an overview, as Pillow reads it: the colours of the finest level that fits."""
    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB"))
    ids = next(level for level in expected.levels if level.shape[-2] <= 2048 and level.shape[-1] <= 2048 - 256)
    plane = ids if ids.ndim == 2 else ids[ids.shape[0] // 2]
    colours = np.array([class_colour(value) for value in range(256)], np.uint8)
    same_voxels("PNG", picture[: plane.shape[0], : plane.shape[1]], colours[plane])


def check_ome_zarr(path: Path, expected: Expected) -> None:
    """Compare an OME-Zarr 0.4: yaozarrs finds it valid; ome-zarr-py and tensorstore read its voxels and scales."""
    yaozarrs.validate_zarr_store(str(path))
    (node,) = Reader(parse_url(str(path), fmt=FormatV04()))()
    same("OME-Zarr, levels", len(node.data), len(expected.levels))
    for k, ids in enumerate(expected.levels):
        same_voxels(f"OME-Zarr by ome-zarr-py, level {k}", np.asarray(node.data[k]), ids)
        store = {"driver": "file", "path": str(path / str(k))}
        other = tensorstore.open({"driver": "zarr", "kvstore": store}).result().read().result()
        same_voxels(f"OME-Zarr by tensorstore, level {k}", other, ids)
    scale = node.metadata["coordinateTransformations"][0][0]["scale"]
    same("OME-Zarr, scale", tuple(scale), expected.voxel_size)
    units = {axis.get("unit") for axis in node.metadata["axes"]}
    same("OME-Zarr, unit", units, {expected.unit})


CHECKS: dict[str, Callable[[Path, Expected], None]] = {
    ".tif": check_cog,
    ".ome.tif": check_ome_tiff,
    ".geojson": check_polygons,
    ".gpkg": check_polygons,
    ".png": check_png,
    ".zarr": check_ome_zarr,
}
