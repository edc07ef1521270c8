"""From what a user writes to a place."""

from __future__ import annotations

from pathlib import Path

from zarr.abc.store import Store
from zarr.storage import LocalStore, ObjectStore

from pipeline.store.address import SCHEMES, parse_address
from pipeline.store.local import LocalPlace
from pipeline.store.objects import ObjectPlace, WebPlace
from pipeline.store.place import Place

__all__ = ["SCHEMES", "absolute", "open_place", "place_of_store", "same_place"]


def open_place(url: str | Path) -> Place:
    """Return the place of a path or an address. Nothing is read or written; a web server's name is looked up.

    Raises:
        InputError: an address of another form, see :func:`pipeline.store.address.parse_address`; a store that is not
            set up; a web server that is not allowed.
    """
    address = parse_address(url)
    if address.is_local:
        return LocalPlace(address.key)
    kind = WebPlace if address.scheme in ("http", "https") else ObjectPlace
    return kind(address.root, address.key, scheme=address.scheme)


def place_of_store(store: Store) -> Place:
    """Return the place of a store that :meth:`Place.zarr_store` gave, or that is like one."""
    if isinstance(store, LocalStore):
        return LocalPlace(store.root)
    assert isinstance(store, ObjectStore), store
    client = store.store
    if (url := getattr(client, "url", None)) is not None:
        return open_place(str(url))
    config = dict(client.config)
    scheme = {"S3Store": "s3", "GCSStore": "gs", "AzureStore": "az"}[type(client).__name__]
    root = str(config.get("bucket") or config["container_name"])
    return ObjectPlace(root, str(client.prefix or ""), scheme=scheme)


def absolute(url: str | Path) -> str:
    """Return an address that means the same in any process: a path is made absolute, an address is kept.

    Args:
        url: a path, an address, or a pattern of them.

    Raises:
        InputError: an address of another form.
    """
    address = parse_address(url, pattern=True)
    return str(Path(address.key).resolve()) if address.is_local else address.url


def same_place(one: str | Path, other: str | Path) -> bool:
    """Whether two addresses are one place, or one lies inside the other."""
    a, b = absolute(one).rstrip("/") + "/", absolute(other).rstrip("/") + "/"
    return a.startswith(b) or b.startswith(a)
