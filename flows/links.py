"""Where a browser finds a file of a run: a page cannot link to a file, but to a web server that shows it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

LINKS = "OVERTILE_LINKS"
"""Variable of the workers: folders or prefixes and the addresses that show them, ``/data=https://files.example.org``."""


def link_to(place: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the address at which a browser can open a file or an object; None where none is known.

    Args:
        place: path, or address of an object.
        environment: variables; :data:`LINKS` holds ``PREFIX=ADDRESS``, several of them parted by commas. The longest
            prefix that fits counts.
    """
    if place.startswith(("http://", "https://")):
        return place
    full = place if "://" in place else str(Path(place).absolute())
    pairs = [entry.partition("=") for entry in environment.get(LINKS, "").split(",")]
    known = {prefix.strip().rstrip("/"): address.strip().rstrip("/") for prefix, _, address in pairs}
    fitting = [prefix for prefix, address in known.items() if address and full.startswith(f"{prefix}/")]
    if not fitting:
        return None
    prefix = max(fitting, key=len)
    return known[prefix] + quote(full.removeprefix(prefix))
