"""The boundaries of one chunk's regions, as exact voxel edges: the pure part of polygons.

A boundary is made of directed unit edges, each one side of a voxel, with the voxel to its right as a picture is shown
(rows downwards), so that outer rings have a positive area in ``(x, y)``::

          side 0 ->                  v: the voxel of the edge       k = 0
        +-----------+                a: the voxel ahead              n b
    ^   |           |   |            b: the voxel ahead, outside    ---->
    3   |     v     |   1                                            v a
    |   |           |   v            a is another:  turn around v    side k + 1 of v
        +-----------+                b is another:  go on            side k of a
          <- side 2                  both as v:     turn outwards    side k - 1 of b

The successor of an edge follows from the classes of ``a`` and ``b`` alone, so the pieces of a boundary that crosses
chunks fit together by the names of their edges. Where a region touches itself at a corner, the boundary stays with
the voxel, as regions are connected by their sides only. Straight runs are never walked edge by edge: what is linked
is where they stop, at a corner or at the chunk's face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.measure import label

from pipeline.volume.export.rings import Ints, Ring, simple_rings, walk

Bools = npt.NDArray[np.bool_]

_AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))
_OUT = ((-1, 0), (0, 1), (1, 0), (0, -1))
_END = ((0, 1), (1, 1), (1, 0), (0, 0))
"""Row and column steps to the next voxel along a side, to the one across it, and from the voxel to the side's end."""

_LEAVES = 2
"""Of a stop: it turns around its voxel (0), turns outwards (1), or leaves the chunk straight on (2)."""


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A piece of a boundary that comes in from another chunk and leaves again.

    Attributes:
        component: number of its region in the chunk, from 1.
        corners: ``(k, 2)`` of x and y, in voxels of the volume; there may be none.
        head: name of its first edge.
        exit: name of the edge, in another chunk, with which the boundary goes on.
    """

    component: int
    corners: Ints
    head: int
    exit: int


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """What is kept of a chunk: its regions' classes and boundaries, and where they go on.

    Attributes:
        start: first voxel of the chunk, ``(row, column)``.
        classes: class of each component 1, 2 ...
        sizes: voxels of each component.
        chains: pieces of their boundaries.
        rings: boundaries that are whole in this chunk, each with its component.
        faces: of the first row, first column, last row and last column: the component of each voxel that goes on
            behind the face, else 0.
    """

    start: tuple[int, int]
    classes: Ints
    sizes: Ints
    chains: list[Chain]
    rings: list[tuple[int, Ring]]
    faces: tuple[Ints, Ints, Ints, Ints]


def trace(padded: npt.NDArray[Any], start: tuple[int, int], width: int) -> Traced:
    """Find the 4-connected regions of a chunk and trace their boundaries.

    Args:
        padded: class ids ``(y, x)`` of the chunk and one voxel around it; 0 outside the volume. Class 0 is left out.
        start: first voxel of the chunk, without what is around it.
        width: voxels of the volume along x: names of edges are the same in all its chunks.
    """
    if padded.dtype == np.uint64:
        padded = padded.view(np.int64)
    elif padded.dtype == np.bool_:
        padded = padded.view(np.uint8)
    components: npt.NDArray[Any] = label(padded[1:-1, 1:-1], background=0, connectivity=1)  # type: ignore[no-untyped-call]
    sizes = np.bincount(components.reshape(-1))
    classes = np.zeros(len(sizes), np.int64)
    classes[components] = padded[1:-1, 1:-1]
    chains, rings = _Edges(padded, components, start, width).boundaries()
    faces = _faces(padded, components)
    return Traced(start, classes[1:], sizes[1:].astype(np.int64), chains, rings, faces)


def nothing(start: tuple[int, int], shape: tuple[int, int]) -> Traced:
    """Return what is kept of a chunk ``(y, x)`` of background."""
    none = np.zeros(0, np.int64)
    rows, columns = (np.zeros(length, np.int64) for length in shape)
    return Traced(start, none, none, [], [], (columns, rows, columns, rows))


def _faces(padded: npt.NDArray[Any], components: npt.NDArray[Any]) -> tuple[Ints, Ints, Ints, Ints]:
    def going_on(inside: npt.NDArray[Any], outside: npt.NDArray[Any], numbers: npt.NDArray[Any]) -> Ints:
        return np.where(inside == outside, numbers, 0).astype(np.int64)

    return (
        going_on(padded[1, 1:-1], padded[0, 1:-1], components[0]),
        going_on(padded[1:-1, 1], padded[1:-1, 0], components[:, 0]),
        going_on(padded[-2, 1:-1], padded[-1, 1:-1], components[-1]),
        going_on(padded[1:-1, -2], padded[1:-1, -1], components[:, -1]),
    )


class _Edges:
    """The stops of all boundaries of a chunk, and how they follow each other.

    Stops are numbered side by side; those of one side in the order of rows (sides 0 and 2) or columns (1 and 3).
    """

    def __init__(
        self, padded: npt.NDArray[Any], components: npt.NDArray[Any], start: tuple[int, int], width: int
    ) -> None:
        self._components, self._start, self._width = components, start, width
        found = [_side(padded, k) for k in range(4)]
        self._places = [
            _flat(np.nonzero(_along(stops, k)), self._shape, k) for k, (stops, _, _) in enumerate(found)
        ]
        self._firsts = np.cumsum([0, *map(len, self._places)])
        self._heads = [np.nonzero(heads) for _, _, heads in found]
        self.sides = np.repeat(np.arange(4), [len(p) for p in self._places])
        voxels = [_unflat(places, self._shape, k) for k, places in enumerate(self._places)]
        self.rows = np.concatenate([rows for rows, _ in voxels])
        self.columns = np.concatenate([columns for _, columns in voxels])
        self.kinds = np.concatenate([kinds[v] for (_, kinds, _), v in zip(found, voxels, strict=True)])

    @property
    def _shape(self) -> tuple[int, int]:
        return self._components.shape

    def boundaries(self) -> tuple[list[Chain], list[tuple[int, Ring]]]:
        """Return the pieces of boundaries that cross faces, and the boundaries that are whole."""
        following, exits = self._following()
        heads, names = self._entries()
        walks = walk(following.tolist(), heads.tolist())
        order = np.fromiter((stop for stops in walks for stop in stops), np.int64)
        lengths = np.array([len(stops) for stops in walks], np.int64)
        ends = np.array(_END)[self.sides]
        corners = np.stack(
            [self.columns + ends[:, 1] + self._start[1], self.rows + ends[:, 0] + self._start[0]], 1
        )
        corners, turns = corners[order], self.kinds[order] != _LEAVES
        owners = self._components[self.rows, self.columns]
        chains, first = [], 0
        for head, stops in zip(names.tolist(), walks, strict=False):
            last = first + len(stops)
            part = corners[first:last] if turns[last - 1] else corners[first : last - 1]
            chains.append(Chain(int(owners[stops[0]]), part.copy(), head, int(exits[stops[-1]])))
            first = last
        rings = simple_rings(corners[first:], lengths[len(chains) :])
        return chains, [(int(owners[walks[len(chains) + ring.source][0]]), ring) for ring in rings]

    def _following(self) -> tuple[Ints, Ints]:
        """Return each stop's successor in the chunk, or -1, and the name of the edge that it leads to."""
        ahead, out = np.array(_AHEAD)[self.sides], np.array(_OUT)[self.sides]
        steps = np.where((self.kinds == 0)[:, None], 0, ahead + np.where((self.kinds == 1)[:, None], out, 0))
        rows, columns = self.rows + steps[:, 0], self.columns + steps[:, 1]
        sides = (self.sides + np.array([1, 3, 0])[self.kinds]) % 4
        height, width = self._shape
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        following = np.full(len(rows), -1, np.int64)
        following[inside] = self._stops(rows[inside], columns[inside], sides[inside])
        return following, self._names(rows, columns, sides)

    def _entries(self) -> tuple[Ints, Ints]:
        """Return, of each boundary that comes in from another chunk, its first stop and the name of its first edge."""
        rows = np.concatenate([heads[0] for heads in self._heads])
        columns = np.concatenate([heads[1] for heads in self._heads])
        sides = np.repeat(np.arange(4), [len(heads[0]) for heads in self._heads])
        return self._stops(rows, columns, sides), self._names(rows, columns, sides)

    def _stops(self, rows: Ints, columns: Ints, sides: Ints) -> Ints:
        """Return where the straight run of each edge stops: the next stop in the direction of its side."""
        found = np.empty(len(rows), np.int64)
        for k, places in enumerate(self._places):
            mine = sides == k
            at = _flat((rows[mine], columns[mine]), self._shape, k, voxels=True)
            number = np.searchsorted(places, at) if k < 2 else np.searchsorted(places, at, side="right") - 1
            found[mine] = number + self._firsts[k]
        return found

    def _names(self, rows: Ints, columns: Ints, sides: Ints) -> Ints:
        return ((rows + self._start[0]) * self._width + columns + self._start[1]) * 4 + sides


def _side(padded: npt.NDArray[Any], k: int) -> tuple[Bools, npt.NDArray[np.uint8], Bools]:
    """Return where the edges of side ``k`` stop, the kind of each stop, and where they come in from another chunk."""
    inner = padded[1:-1, 1:-1]
    (dy, dx), (oy, ox) = _AHEAD[k], _OUT[k]
    edges = (inner != 0) & (_moved(padded, oy, ox) != inner)
    goes_on = _moved(padded, dy, dx) == inner
    outwards = goes_on & (_moved(padded, dy + oy, dx + ox) == inner)
    kinds = np.where(goes_on, np.where(outwards, np.uint8(1), np.uint8(_LEAVES)), np.uint8(0))
    last, first, rim = (_line(inner.shape, *step) for step in ((dy, dx), (-dy, -dx), (oy, ox)))
    comes_on = edges & (_moved(padded, -dy, -dx) == inner)
    heads = comes_on & (first | (rim & (_moved(padded, oy - dy, ox - dx) == inner)))
    return edges & ((kinds != _LEAVES) | last), kinds, heads


def _moved(padded: npt.NDArray[Any], dy: int, dx: int) -> npt.NDArray[Any]:
    """Return, for each voxel of the chunk, the one ``(dy, dx)`` from it."""
    height, width = padded.shape
    return padded[1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]


def _line(shape: tuple[int, ...], dy: int, dx: int) -> Bools:
    """Return the voxels from which a step ``(dy, dx)`` along one axis leaves the chunk."""
    mask = np.zeros(shape, np.bool_)
    if dy:
        mask[-1 if dy > 0 else 0] = True
    else:
        mask[:, -1 if dx > 0 else 0] = True
    return mask


def _along(mask: Bools, k: int) -> Bools:
    """Return a mask whose last axis runs along side ``k``."""
    return mask.T if k % 2 else mask


def _flat(index: tuple[npt.NDArray[Any], ...], shape: tuple[int, int], k: int, *, voxels: bool = False) -> Ints:
    """Return positions along the lines of side ``k``, of an index into :func:`_along`, or of rows and columns."""
    first, second = (index[1], index[0]) if voxels and k % 2 else index
    return np.asarray(first * shape[0 if k % 2 else 1] + second, np.int64)


def _unflat(places: Ints, shape: tuple[int, int], k: int) -> tuple[Ints, Ints]:
    """Return rows and columns: the inverse of :func:`_flat`."""
    first, second = np.divmod(places, shape[0 if k % 2 else 1])
    return (second, first) if k % 2 else (first, second)
