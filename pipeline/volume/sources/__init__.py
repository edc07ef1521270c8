"""Images of all formats, opened lazily behind one interface: one file a format.

Each name is imported from its home when it is first used: the libraries of all formats take some 60 MiB, which a worker
that reads a Zarr does not need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.volume.sources.formats import open_source
    from pipeline.volume.sources.reading import Reading
    from pipeline.volume.sources.source import Source
    from pipeline.volume.sources.values import map_values

_HOMES = {"Reading": "reading", "Source": "source", "map_values": "values", "open_source": "formats"}

__all__ = ["Reading", "Source", "map_values", "open_source"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
