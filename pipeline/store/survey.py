"""What is there of objects whose keys are known: from one listing, or one by one where nothing can be listed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from pipeline.store.objects import WebPlace
from pipeline.store.place import Entry, Place

ASKED = 1024
"""Objects that are asked for before the first of them is told."""


def survey(place: Place, keys: Iterable[str]) -> Iterator[Entry]:
    """Yield the objects that are there.

    Args:
        place: where.
        keys: those that are of interest; each costs a request where the place cannot be listed.

    Yields:
        at least those of ``keys`` that are there, in any order; from a listing, others too.
    """
    if not isinstance(place, WebPlace):
        yield from place.entries()
        return
    rest = iter(keys)
    while batch := list(islice(rest, ASKED)):
        for key, stat in zip(batch, place.stats(batch), strict=True):
            if stat is not None:
                yield Entry(key, stat)
