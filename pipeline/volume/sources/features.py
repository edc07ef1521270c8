"""Read polygons of a vector file: GeoJSON (QuPath's too), GeoPackage, FlatGeobuf, Shapefile.

GeoJSON may be a FeatureCollection, a bare list of features, or one feature. Its coordinates are

1. in the system of the member ``crs`` (GeoJSON 2008, which RFC 7946 dropped and GDAL still writes); ``null`` is pixels;
2. without it, in pixels if the features are QuPath's (each has an ``objectType``);
3. without either, whatever the image makes of it: see :attr:`Features.crs`.

Other files name their system themselves, or their coordinates are pixels. As GDAL does, x comes first in every system.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, OvertileError, VolumeError
from pipeline.store import File, open_file
from pipeline.volume.sources.source import unreadable

try:
    import pyogrio
    import shapely
except ImportError:  # an extra: only those who have polygons need it
    shapely = pyogrio = None

UNCLASSIFIED = "unclassified"
"""Class of QuPath's objects that have none, where others have one."""

PIXELS: Literal["pixels"] = "pixels"
"""The system of coordinates in pixels."""

_JSON = (b"{", b"[")
_LAYERED = (b"SQLite format 3\x00", b"fgb\x03", b"\x00\x00\x27\x0a")
"""How GeoPackage, FlatGeobuf and Shapefile begin: formats of GDAL's that refer to no other place."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The polygons of a file, in its order.

    Attributes:
        name: what messages call the file.
        polygons: ``(n,)`` of shapely's Polygon and MultiPolygon, valid and not empty, in 2-D.
        numbers: which feature of the file each is, counted from 1.
        classes: name of the class of each; None where nothing tells classes.
        crs: coordinate reference system, as rasterio understands it; :data:`PIXELS`; None for a GeoJSON that says
            nothing: longitude and latitude (RFC 7946, section 4) on an image that lies on Earth, else pixels.
    """

    name: str
    polygons: npt.NDArray[Any]
    numbers: tuple[int, ...]
    classes: tuple[str, ...] | None
    crs: str | None


def read_features(url: str | Path, *, attribute: str | None = None, layer: str | None = None) -> Features:
    """Read the polygons of a vector file, whole.

    Args:
        url: the file.
        attribute: property that holds the class; None for QuPath's classification where there is one.
        layer: of a file that has several.

    Raises:
        VolumeError: missing, of another format, damaged; a feature that is no polygon or is not valid, by its number;
            no such attribute or layer.
        InputError: shapely or pyogrio is not installed.
    """
    file = open_file(url)
    if shapely is None:
        raise InputError(f"{file.url}: polygons need the extra: pip install 'overtile[geo]'")
    try:
        head = _head(file)
        if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_JSON):
            return _geojson(file, attribute, layer)
        if head.startswith(_LAYERED):
            return _layered(file, attribute, layer)
    except OvertileError:
        raise
    except FileNotFoundError as error:
        raise VolumeError(f"{file.url}: there is no such file") from error
    except Exception as error:
        raise unreadable(file.url, error) from error
    raise VolumeError(
        f"{file.url}: its content is of no vector format that is read: GeoJSON, GeoPackage (.gpkg), FlatGeobuf (.fgb),"
        " Shapefile (.shp)"
    )


def _head(file: File) -> bytes:
    with file.open() as opened:
        return opened.read(64)


def _geojson(file: File, attribute: str | None, layer: str | None) -> Features:
    if layer is not None:
        raise VolumeError(f"{file.url}: a GeoJSON has no layers; leave out the layer {layer!r}")
    with file.open() as opened:
        document = json.loads(opened.read().decode("utf-8-sig"))
    features = _features(document, file.url)
    properties = [feature.get("properties") or {} for feature in features]
    shapes = [_shape(feature.get("geometry"), number, file.url) for number, feature in enumerate(features, 1)]
    classes = _property(properties, attribute, file.url) if attribute else _classifications(properties)
    return _checked(file.url, shapes, classes, _geojson_crs(document, properties, file.url))


def _features(document: Any, name: str) -> list[dict[str, Any]]:
    """Return the features of a GeoJSON document."""
    found = document.get("features") if isinstance(document, dict) else document
    if isinstance(document, dict) and document.get("type") == "Feature":
        found = [document]
    if not isinstance(found, list) or any(not isinstance(f, dict) or f.get("type") != "Feature" for f in found):
        raise VolumeError(f"{name}: it is JSON, but neither a FeatureCollection, a list of features nor a feature")
    return found


def _shape(geometry: Any, number: int, name: str) -> Any:
    """Return a geometry of GeoJSON; None for a feature without one."""
    try:
        return None if geometry is None else shapely.from_geojson(json.dumps(geometry))
    except Exception as error:
        raise VolumeError(
            f"{name}: feature {number} has no geometry that can be read ({error}); correct it"
        ) from error


def _geojson_crs(document: Any, properties: Sequence[Mapping[str, Any]], name: str) -> str | None:
    """Return the system of a GeoJSON's coordinates, see :attr:`Features.crs`."""
    if isinstance(document, dict) and "crs" in document:
        crs = document["crs"]
        if crs is None:
            return PIXELS
        try:
            return str(crs["properties"]["name"])
        except (KeyError, TypeError) as error:
            raise VolumeError(
                f"{name}: its member crs is {json.dumps(crs)[:200]}, which names no system; write it as"
                ' {"type": "name", "properties": {"name": "EPSG:32618"}}, or leave it out'
            ) from error
    is_qupath = bool(properties) and all("objectType" in p for p in properties)
    return PIXELS if is_qupath else None


def _classifications(properties: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Return QuPath's classifications; None where no feature has one."""
    names = [_classification(p.get("classification")) for p in properties]
    return [name or UNCLASSIFIED for name in names] if any(names) else None


def _classification(found: Any) -> str | None:
    """Return the name of a classification; one that is derived from others has several."""
    if not isinstance(found, dict):
        return None
    return str(found["name"]) if found.get("name") else ": ".join(map(str, found.get("names") or ())) or None


def _property(properties: Sequence[Mapping[str, Any]], attribute: str, name: str) -> list[str]:
    """Return a property of every feature, as text."""
    for number, found in enumerate(properties, 1):
        if found.get(attribute) is None:
            known = sorted({key for p in properties for key in p})
            raise VolumeError(
                f"{name}: feature {number} has no {attribute!r}, which is to tell its class; the attributes are"
                f" {', '.join(known) or 'none'}"
            )
    return [str(found[attribute]) for found in properties]


def _layered(file: File, attribute: str | None, layer: str | None) -> Features:
    """Read a file through GDAL's vector drivers: from memory where it lies elsewhere."""
    if file.path is not None:
        data: Any = file.path
    else:
        with file.open() as opened:
            data = opened.read()
    layers = [str(name) for name, kind in pyogrio.list_layers(data) if kind is not None]
    if len(layers) != 1 if layer is None else layer not in layers:
        what = f"no layer {layer!r} in it" if layer else f"{len(layers)} layers, and one must be named"
        raise VolumeError(f"{file.url}: {what}; its layers with geometry are {', '.join(layers) or 'none'}")
    fields = [str(field) for field in pyogrio.read_info(data, layer=layer or layers[0])["fields"]]
    if attribute is not None and attribute not in fields:
        raise VolumeError(f"{file.url}: it has no attribute {attribute!r}; it has {', '.join(fields) or 'none'}")
    meta, _, geometries, columns = pyogrio.raw.read(
        data, layer=layer or layers[0], columns=[attribute] if attribute else [], force_2d=True
    )
    classes = _property([{attribute: _plain(v)} for v in columns[0]], attribute, file.url) if attribute else None
    return _checked(file.url, list(shapely.from_wkb(geometries)), classes, meta["crs"] or PIXELS)


def _plain(value: Any) -> Any:
    """Return a value of a column without its NumPy type; None for one that is missing."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if value != value else value


def _checked(name: str, shapes: Sequence[Any], classes: Sequence[str] | None, crs: str | None) -> Features:
    """Return the features that have an extent.

    Raises:
        VolumeError: a feature that is no polygon or is not valid.
    """
    kept = [i for i, shape in enumerate(shapes) if shape is not None and not shape.is_empty]
    for i in kept:
        if shapes[i].geom_type not in ("Polygon", "MultiPolygon"):
            raise VolumeError(
                f"{name}: feature {i + 1} is a {shapes[i].geom_type}; only polygons cover voxels, so take it out, or"
                " make it a polygon, for example by a buffer"
            )
        if not shapely.is_valid(shapes[i]):
            raise VolumeError(
                f"{name}: feature {i + 1} is no valid polygon ({shapely.is_valid_reason(shapes[i])}); repair it, for"
                " example with QGIS's 'Fix geometries'"
            )
    polygons = np.empty(len(kept), object)
    polygons[:] = [shapely.force_2d(shapes[i]) for i in kept]
    chosen = None if classes is None else tuple(classes[i] for i in kept)
    return Features(name, polygons, tuple(i + 1 for i in kept), chosen, crs)
