"""Polygons as GeoJSON (RFC 7946) in the form that QuPath reads as objects."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TextIO

from pipeline.volume.export.colours import class_colour, class_name
from pipeline.volume.export.files import replaced
from pipeline.volume.export.shapes import Shape

CORNERS = 10_000
"""Corners of a ring that become text at once."""

ObjectType = Literal["annotation", "detection"]
"""What QuPath makes of a polygon; it shows detections faster, and people edit annotations."""


def write_geojson(
    shapes: Iterable[Shape],
    target: Path,
    *,
    names: tuple[str, ...] = (),
    object_type: ObjectType = "annotation",
    crs: str | None = None,
) -> int:
    """Write polygons one by one, a line each; memory does not grow with their number.

    Args:
        shapes: polygons as they are written.
        target: file; what is there is replaced when all is written.
        names: of the class ids 0, 1 ...
        object_type: what QuPath takes them for.
        crs: code of their coordinate system (``EPSG:32618``), written as the member ``crs`` of GeoJSON 2008, which
            RFC 7946 dropped but GDAL and QGIS read; None for pixels.

    Returns:
        The number of polygons.

    Raises:
        InputError: the target is a folder, or its folder is not there.
    """
    head: dict[str, Any] = {"type": "FeatureCollection"}
    if crs is not None:
        authority, _, code = crs.partition(":")
        head["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{authority}::{code}"}}
    count = 0
    with replaced(target) as partial, partial.open("x", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "features": [')
        for shape in shapes:
            file.write(",\n" if count else "\n")
            _write(file, shape, names, object_type)
            count += 1
        file.write("\n]}\n")
    return count


def _write(file: TextIO, shape: Shape, names: tuple[str, ...], object_type: ObjectType) -> None:
    """Write a feature ring by ring, some corners at a time: one polygon may have millions of them."""
    named = {"name": class_name(shape.value, names), "color": list(class_colour(shape.value))}
    file.write('{"type":"Feature","geometry":{"type":"Polygon","coordinates":[')
    for i, ring in enumerate(shape.rings):
        file.write(",[" if i else "[")
        for start in range(0, len(ring), CORNERS):
            file.write("," if start else "")
            file.write(_compact(ring[start : start + CORNERS].tolist())[1:-1])
        file.write("]")
    properties = {"objectType": object_type, "classification": named}
    file.write(f']}},"properties":{_compact(properties)}}}')


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
