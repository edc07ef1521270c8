"""From an address to a Zarr array or group: where it lies, and why it cannot be opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import zarr

from pipeline.errors import VolumeError
from pipeline.store import LocalPlace, Place, WebPlace, open_place, place_of_store
from pipeline.volume.faults import lies_in_the_bytes, store_faults

DOCUMENTS = ("zarr.json", ".zarray", ".zgroup")
"""Objects that make a folder or a prefix a Zarr node."""

Node = zarr.Array[Any] | zarr.Group


def as_place(where: str | Path | Place) -> Place:
    """Return the place of what a caller names: an address, a path, or a place already."""
    return open_place(where) if isinstance(where, str | Path) else where


def array_place(array: zarr.Array[Any]) -> Place:
    """Return the place of an array that Zarr opened in a folder or in a bucket."""
    root = place_of_store(array.store)
    return root.at(array.path) if array.path else root


def open_node(place: Place, url: str) -> Node:
    """Open what lies at a place, for reading.

    Args:
        place: where.
        url: what messages call it.

    Raises:
        VolumeError: nothing is there, it is not Zarr, its document is broken or names a dtype that is no number.
        StoreError: the store does not answer.
    """
    stats = place.stats(DOCUMENTS)
    name = next((name for name, stat in zip(DOCUMENTS, stats, strict=True) if stat is not None), None)
    if name is None:
        raise VolumeError(_absence(place, url))
    try:
        document = place.get(name)
    except IsADirectoryError:
        raise VolumeError(_absence(place, url)) from None
    _check_document(document, name, url)
    try:
        with store_faults(url):
            return zarr.open(store=place.zarr_store(read_only=True), mode="r", use_consolidated=False)
    except Exception as error:
        if not lies_in_the_bytes(error):
            raise
        raise VolumeError(f"{url}: cannot be opened as Zarr ({type(error).__name__}: {error})") from error


def open_child(group: zarr.Group, path: str, url: str) -> zarr.Array[Any]:
    """Open an array of a group that its metadata name.

    Raises:
        VolumeError: it is not there, or is no array.
        StoreError: the store does not answer.
    """
    try:
        with store_faults(url):
            found = group.get(path)
    except Exception as error:
        if not lies_in_the_bytes(error):
            raise
        raise VolumeError(
            f"{url}: its level {path!r} cannot be opened ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(found, zarr.Array):
        raise VolumeError(f"{url}: level {path!r} is named in the metadata but is not there")
    return found


def array_names(group: zarr.Group, url: str) -> list[str]:
    """Return the names of a group's arrays.

    Raises:
        VolumeError: one of them cannot be opened, or they lie behind https.
        StoreError: the store does not answer.
    """
    if isinstance(place_of_store(group.store), WebPlace):
        raise VolumeError(
            f"{url}: what lies behind https cannot be listed; name one array of the group, as {url}/NAME"
        )
    try:
        with store_faults(url):
            return sorted(name for name, _ in group.arrays())
    except Exception as error:
        if not lies_in_the_bytes(error):
            raise
        raise VolumeError(f"{url}: an array in it cannot be opened ({type(error).__name__}: {error})") from error


def _absence(place: Place, url: str) -> str:
    """Say what is wrong where there is no document."""
    if isinstance(place, LocalPlace):
        if not place.root.exists():
            return f"{url}: there is no such file or folder"
    elif not isinstance(place, WebPlace) and next(iter(place.entries()), None) is None:
        return f"{url}: nothing is stored there; check the bucket and the prefix"
    return f"{url}: not a Zarr array or group (no zarr.json, .zarray or .zgroup); `overtile ingest` makes one"


def _check_document(document: bytes, name: str, url: str) -> None:
    """Refuse an object dtype before Zarr looks for a codec that may run code."""
    try:
        content = json.loads(document)
    except ValueError as error:
        raise VolumeError(f"{url}: {name} is not readable JSON ({error})") from error
    if not isinstance(content, dict):
        raise VolumeError(f"{url}: {name} is no Zarr metadata")
    dtype = content.get("dtype", content.get("data_type", ""))
    if not isinstance(dtype, str) or dtype.endswith("O"):
        raise VolumeError(
            f"{url}: data type {dtype!r} is not numeric; a volume holds bool, integer or float voxels"
        )
