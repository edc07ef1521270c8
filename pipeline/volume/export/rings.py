"""Closed boundaries become simple rings: parted where they touch themselves, measured, and begun at a fixed corner.

All rings of a chunk are done at once, as most of them are short.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Ring:
    """A ring that passes every corner once.

    Attributes:
        source: index of the closed boundary that it is of.
        doubled_area: twice its signed area in ``(x, y)``: positive for a shell, negative for a hole.
        corners: ``(k, 2)`` of x and y, no repeated last one; the first is the first by y, then x.
    """

    source: int
    doubled_area: int
    corners: Ints


def walk(following: list[int], heads: list[int]) -> list[list[int]]:
    """Return the stops of each piece from its head to where it leaves the chunk, and then of each ring.

    Args:
        following: the stop after each one; -1 where the boundary leaves.
        heads: first stops of the pieces that come in.
    """
    found, seen = [], bytearray(len(following))
    for begin in (*heads, *range(len(following))):
        if seen[begin]:
            continue
        stops, stop = [], begin
        while stop >= 0 and not seen[stop]:
            seen[stop] = 1
            stops.append(stop)
            stop = following[stop]
        found.append(stops)
    return found


def simple_rings(corners: Ints, lengths: Ints) -> list[Ring]:
    """Return the simple rings of closed boundaries.

    A boundary that touches itself is parted at that corner; the parts together have the same edges. They do not
    cross, as it turns there both times; and as the region is connected by its sides, so is its interior: its parts
    are at most one shell, and holes.

    Args:
        corners: of all boundaries, one after the other: ``(n, 2)`` of x and y, not negative.
        lengths: number of corners of each.
    """
    if not len(lengths):
        return []
    names = corners[:, 1] * (int(corners[:, 0].max()) + 1) + corners[:, 0]
    sources = np.arange(len(lengths))
    touching = _touching(names, lengths)
    if len(touching):
        order, sources, lengths = _parted(names, lengths, set(touching.tolist()))
        corners, names = corners[order], names[order]
    starts = np.cumsum(lengths) - lengths
    areas = _doubled_areas(corners, starts, lengths)
    corners = corners[_begun(names, starts, lengths)]
    made = zip(sources.tolist(), areas.tolist(), starts.tolist(), lengths.tolist(), strict=True)
    return [Ring(source, area, corners[start : start + n].copy()) for source, area, start, n in made]


def _touching(names: Ints, lengths: Ints) -> Ints:
    """Return the boundaries that pass a corner twice."""
    owners = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((names, owners))
    owners, names = owners[order], names[order]
    return np.unique(owners[1:][(names[1:] == names[:-1]) & (owners[1:] == owners[:-1])])


def _parted(names: Ints, lengths: Ints, touching: set[int]) -> tuple[Ints, Ints, Ints]:
    """Return the order of corners in which the parts follow each other, and source and length of each part."""
    parts: list[Sequence[int]] = []
    sources: list[int] = []
    start = 0
    for source, length in enumerate(lengths.tolist()):
        whole = range(start, start + length)
        found = list(_loops(names[start : start + length].tolist(), start)) if source in touching else [whole]
        parts += found
        sources += [source] * len(found)
        start += length
    order = np.fromiter((i for part in parts for i in part), np.int64)
    return order, np.array(sources), np.array([len(part) for part in parts])


def _loops(names: list[int], start: int) -> Iterator[list[int]]:
    """Yield the parts of one boundary as indices of corners, each part as soon as it comes back to a corner."""
    places: dict[int, int] = {}
    path: list[int] = []
    for i, name in enumerate(names):
        if name in places:
            loop = path[places[name] :]
            del path[places[name] :]
            for corner in loop:
                del places[names[corner]]
            yield [start + corner for corner in loop]
        places[name] = len(path)
        path.append(i)
    yield [start + corner for corner in path]


def _doubled_areas(corners: Ints, starts: Ints, lengths: Ints) -> Ints:
    """Return twice the signed area of each ring, exactly: the surveyor's formula, relative to its first corner."""
    following = np.arange(1, len(corners) + 1)
    following[starts + lengths - 1] = starts
    x, y = (corners - np.repeat(corners[starts], lengths, axis=0)).T
    return np.asarray(np.add.reduceat(x * y[following] - x[following] * y, starts))


def _begun(names: Ints, starts: Ints, lengths: Ints) -> Ints:
    """Return the order of corners in which each ring begins at the corner of its smallest name."""
    smallest = np.minimum.reduceat(names, starts)
    firsts = np.nonzero(names == np.repeat(smallest, lengths))[0] - starts
    within = np.arange(len(names)) - np.repeat(starts, lengths)
    return np.repeat(starts, lengths) + (within + np.repeat(firsts, lengths)) % np.repeat(lengths, lengths)
