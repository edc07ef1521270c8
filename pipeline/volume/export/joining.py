"""Regions joined across chunks: a union-find over what is still open, and rings linked by the names of their edges.

Chunks come in C order. A region is open as long as one of its voxels goes on behind a face whose other side has not
come; then its rings are closed and it leaves. What is held is the boundaries of open regions and one line of voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pipeline.volume.export.rings import Ints, Ring, simple_rings
from pipeline.volume.export.trace import Chain, Traced


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """One 4-connected region of one class, as a valid polygon.

    Rings are simple, have corners only, no repeated last one, and begin at the corner that is first by y, then x. The
    shell has a positive area in ``(x, y)``, holes a negative one; rings may touch each other at corners.

    Attributes:
        value: class id.
        size: voxels.
        shell: corners ``(k, 2)`` of x and y, in voxels; voxel 0 spans 0 to 1.
        holes: rings of the same form.
    """

    value: int
    size: int
    shell: Ints
    holes: tuple[Ints, ...]


@dataclass(slots=True)
class _Region:
    """An open region: how many of its voxels at faces wait for the other side, and its boundary so far."""

    value: int
    size: int = 0
    waiting: int = 0
    members: list[int] = field(default_factory=list)
    rings: list[Ring] = field(default_factory=list)
    chains: list[Chain] = field(default_factory=list)


class Joiner:
    """Takes the chunks of one grid in C order and gives each region back when it is whole.

    Args:
        width: voxels of the volume along x.
    """

    def __init__(self, width: int) -> None:
        self._above = np.zeros(width, np.int64)  # components that go on downwards, by column
        self._before = np.zeros(0, np.int64)  # that go on to the right, by row of the current band
        self._parents: dict[int, int] = {}
        self._regions: dict[int, _Region] = {}
        self._count = 0

    @property
    def open(self) -> int:
        """Number of regions that are not whole yet."""
        return len(self._regions)

    def add(self, chunk: Traced) -> Iterator[Polygon]:
        """Take the next chunk, and yield what is whole now."""
        base, self._count = self._count, self._count + len(chunk.classes)
        top, left, bottom, right = chunk.faces
        columns = slice(chunk.start[1], chunk.start[1] + len(top))
        before = self._before if chunk.start[1] else np.zeros(len(left), np.int64)
        parts = _parts(chunk)
        touched = set()
        for number in np.unique(np.concatenate(chunk.faces)).tolist():
            if number:
                parts[number - 1].members.append(base + number)
                self._parents[base + number] = base + number
                self._regions[base + number] = parts[number - 1]
                touched.add(base + number)
        for face in (bottom, right):
            for number, voxels in zip(*np.unique(face[face > 0], return_counts=True), strict=True):
                parts[number - 1].waiting += int(voxels)
        for face, others in ((top, self._above[columns]), (left, before)):
            self._join(face[face > 0] + base, others[face > 0])
        self._above[columns] = np.where(bottom > 0, bottom + base, 0)
        self._before = np.where(right > 0, right + base, 0)
        for part in parts:
            if not part.members:
                yield _polygon(part)
        for root in sorted({self._root(member) for member in touched}):
            if self._regions[root].waiting == 0:
                yield self._take(root)

    def _join(self, components: Ints, others: Ints) -> None:
        """Unite components with the ones that waited for them at a face, voxel by voxel."""
        assert others.all(), "a region that goes on behind a face has come from there"
        pairs, voxels = np.unique(np.stack([components, others]), axis=1, return_counts=True)
        for (one, other), count in zip(pairs.T.tolist(), voxels.tolist(), strict=True):
            root = self._unite(self._root(one), self._root(other))
            self._regions[root].waiting -= count

    def _root(self, component: int) -> int:
        parents = self._parents
        while parents[component] != component:
            parents[component] = component = parents[parents[component]]
        return component

    def _unite(self, one: int, other: int) -> int:
        """Put the smaller region into the larger one."""
        if one == other:
            return one
        sizes = [len(self._regions[i].members) + len(self._regions[i].chains) for i in (one, other)]
        small, large = (one, other) if sizes[0] < sizes[1] else (other, one)
        self._parents[small] = large
        into, part = self._regions[large], self._regions.pop(small)
        into.size += part.size
        into.waiting += part.waiting
        into.members += part.members
        into.rings += part.rings
        into.chains += part.chains
        return large

    def _take(self, root: int) -> Polygon:
        region = self._regions.pop(root)
        for member in region.members:
            del self._parents[member]
        return _polygon(region)


def _parts(chunk: Traced) -> list[_Region]:
    """Return each component of a chunk with its pieces of boundary."""
    parts = [_Region(v, n) for v, n in zip(chunk.classes.tolist(), chunk.sizes.tolist(), strict=True)]
    for chain in chunk.chains:
        parts[chain.component - 1].chains.append(chain)
    for component, ring in chunk.rings:
        parts[component - 1].rings.append(ring)
    return parts


def _polygon(region: _Region) -> Polygon:
    """Close the rings of a region that is whole: one of them is its shell, the others are holes."""
    rings = [*region.rings, *_linked(region.chains)]
    shells = [ring.corners for ring in rings if ring.doubled_area > 0]
    assert len(shells) == 1, (region.value, len(shells))
    assert sum(ring.doubled_area for ring in rings) == 2 * region.size, (region.value, region.size)
    holes = sorted((ring.corners for ring in rings if ring.doubled_area < 0), key=_first)
    return Polygon(region.value, region.size, shells[0], tuple(holes))


def _linked(chains: list[Chain]) -> list[Ring]:
    """Return the rings that pieces of different chunks make."""
    heads = {chain.head: chain for chain in chains}
    pieces, lengths = [], []
    while heads:
        _, chain = heads.popitem()
        lengths.append(len(chain.corners))
        pieces.append(chain.corners)
        while chain.exit in heads:
            chain = heads.pop(chain.exit)
            lengths[-1] += len(chain.corners)
            pieces.append(chain.corners)
    return simple_rings(np.concatenate(pieces), np.array(lengths)) if pieces else []


def _first(ring: Ints) -> tuple[int, int]:
    """Return a sort key of holes: no two of them begin at the same corner, as one voxel of a hole is below it."""
    return int(ring[0, 1]), int(ring[0, 0])
