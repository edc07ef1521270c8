"""What a result says of itself in its attributes: unfinished, whole, or whole but for the holes that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.store import Place

GROUP = "zarr.json"

KEY = "overtile"
"""Attribute of the image group that tells the state of the run that made it."""


def read_attributes(place: Place) -> dict[str, Any]:
    """Return the attributes of a Zarr v3 group or array; none where there is no such thing."""
    try:
        document = json.loads(place.get(GROUP))
    except (FileNotFoundError, ValueError):
        return {}
    attributes = document.get("attributes") if isinstance(document, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def set_attributes(place: Place, changes: Mapping[str, Any], *, without: Sequence[str] = ()) -> None:
    """Change attributes of a Zarr v3 group in one step: readers see all of the change or nothing of it.

    Args:
        place: the group.
        changes: attributes that are set.
        without: attributes that are taken away.
    """
    document = json.loads(place.get(GROUP))
    kept = {k: v for k, v in (document.get("attributes") or {}).items() if k not in without}
    attributes = kept | dict(changes)
    if attributes != document.get("attributes"):
        place.put(GROUP, json.dumps(document | {"attributes": attributes}, indent=2).encode())
