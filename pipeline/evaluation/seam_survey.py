"""Measures the seams of a volume while its chunks go by, in any order, each one once.

A border of tiles lies inside a chunk and is compared there. A border of two chunks has half of its voxels in each::

    chunk A                                        chunk B
    ......|..........|..........|..............a b][c d..............|..........|..........|......
        nearby 2   nearby 1                     border            nearby 1   nearby 2

The half that comes first is kept until the other one comes: two voxels of each line, and the gaps nearby. In a grid
that is passed row by row these are the borders of one row. How many strips a border has at most is chosen so that all
borders together take no more than :data:`WAITING` bytes, in whatever order chunks come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.seam_cuts import NEARBY_MOST, Cut, Half, Met, room
from pipeline.evaluation.seam_gaps import SCALES, SIDE, STRIP, Bits, Gaps, Voxels
from pipeline.evaluation.seams import BORDERS, LIMIT, Cells, Finding, compare, contrasts
from pipeline.geometry import Box, Grid, Layout

STRIPS_MOST, STRIPS_LEAST = 256, 2
"""Strips of a border."""

WAITING = 64 << 20
"""Bytes of borders that wait for their other half, about, if all of them did."""

PLANES_MOST = 16
"""Borders of tiles that are looked at along each axis of a chunk, about; of more, evenly spaced ones."""

STEP, STEP_LEAST = 16, 4
"""Voxels between a border and the first plane nearby at least: where there is room, and where there is not."""

_CHUNK, _TILE = (BORDERS.index(name) for name in ("chunk", "tile"))


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        grid: chunks of the volume.
        axes: names of its spatial axes.
        kind: ``labels``, ``probabilities`` or ``logits``.
        voxel_bytes: of a stored voxel, all channels.
        strides: the network's stride along each axis; 1 where it is not known.
        layout: tiles, in the input's voxels; None where they are not known, and only chunks are measured.
        origin: voxel of the input that voxel 0 lies over.
        inside: says which voxels of a box are foreground, over the last axes: a border is looked at where all of it
            is. None where everything is.
    """

    grid: Grid
    axes: str
    kind: str
    voxel_bytes: int
    strides: tuple[int, ...]
    layout: Layout | None = None
    origin: tuple[int, ...] = ()
    inside: Callable[[Box], Bits] | None = None

    def edges(self, core: Box, axis: int) -> tuple[int, ...]:
        """Return where tiles meet inside a chunk along an axis, and the chunk's own ends, in voxels of the chunk.

        Along an axis that the network does not look along, every voxel is a tile, and none has a border.
        """
        if self.layout is None or self.layout.tile[axis] == 1:
            return (0, core.shape[axis])
        moved = core.shift(self.origin)
        inner = (k - moved.start[axis] for k in self.layout.borders(moved)[axis])
        return (0, *inner, core.shape[axis])


class SeamSurvey:
    """Sums up the seams of a volume. Any number of threads may add chunks at once.

    Args:
        subject: what is measured.

    Attributes:
        steps: voxels from a border to the first plane nearby, along each axis.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        grid, ndim = subject.grid, len(subject.grid.shape)
        self.steps = tuple(_step(subject, axis) for axis in range(ndim))
        self._most = _strips_most(subject)
        self._waiting: dict[tuple[int, int], Half] = {}
        self._lock = threading.Lock()
        self._cells = Cells(grid.shape)
        self._seen, self._compared = np.zeros((2, len(BORDERS), ndim), np.bool_)
        self._profile = np.zeros((len(BORDERS), ndim, 2 * NEARBY_MOST + 1, len(SCALES), 2))
        self._chunks = np.zeros((len(grid), len(SCALES), 2), np.float32)

    def add(self, chunk: int, voxels: Voxels) -> None:
        """Take in a chunk.

        Args:
            chunk: its number.
            voxels: as they are stored: ``(c, [z,] y, x)``, or ``([z,] y, x)`` for class ids.
        """
        subject, core = self._subject, self._subject.grid.core(chunk)
        shown = voxels if voxels.ndim > core.ndim else voxels[None]
        inside = None if subject.inside is None else np.broadcast_to(subject.inside(core), core.shape)
        for axis in range(core.ndim):
            cut = Cut(shown, inside, core, axis=axis, most=self._most, kind=subject.kind)
            edges = subject.edges(core, axis)
            self._add_tiles(chunk, cut, edges)
            self._add_halves(chunk, cut, edges)

    def finding(self, limit: float = LIMIT) -> Finding:
        """Return what the chunks so far say.

        Args:
            limit: share from which a seam counts, from ½ (any) to 1 (none ever does).
        """
        axes, found = self._subject.axes, contrasts(self._cells, self._subject.axes)
        told = {(each.borders, each.axis) for each in found}
        unmeasured = [
            (borders, name, self._reason(kind, axis))
            for kind, borders in enumerate(BORDERS)
            for axis, name in enumerate(axes)
            if self._seen[kind, axis] and (borders, name) not in told
        ]
        return Finding(tuple(found), tuple(unmeasured), limit)

    def profile(self) -> list[dict[str, object]]:
        """Return the mean gap at borders and nearby, JSON-ready: offsets in voxels, and a mean for each scale."""
        found: list[dict[str, object]] = []
        for kind, axis in np.ndindex(*self._seen.shape):
            sums, counts = np.moveaxis(self._profile[kind, axis], -1, 0)
            some = counts[:, 0] > 0
            if not some.any():
                continue
            means = {name: (sums[some, i] / counts[some, i]).tolist() for i, name in enumerate(SCALES)}
            offsets = ((np.flatnonzero(some) - NEARBY_MOST) * self.steps[axis]).tolist()
            found.append({"borders": BORDERS[kind], "axis": self._subject.axes[axis], "offsets": offsets, **means})
        return found

    def map(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the strips that count and the sum of their signs, on the grid of chunks: ``(2, [z,] y, x)``, by scale.

        Of all borders of a chunk and its tiles; one that two chunks share counts for both.
        """
        found = self._chunks.reshape(*self._subject.grid.counts, len(SCALES), 2)
        strips, signs = np.moveaxis(found, (-1, -2), (0, 1))
        return strips, signs

    def _reason(self, kind: int, axis: int) -> str:
        if not self._compared[kind, axis]:
            return "no room beside these borders for planes to compare them with"
        return "too few places where the prediction changes"

    def _add_tiles(self, chunk: int, cut: Cut, edges: Sequence[int]) -> None:
        """Compare the borders of tiles inside a chunk, as far as two voxels lie on both of their sides."""
        every, step = -(-max(1, len(edges) - 2) // PLANES_MOST), self.steps[cut.axis]
        for before, plane, after in list(zip(edges, edges[1:], edges[2:], strict=False))[::every]:
            if min(plane - before, after - plane) < SIDE:
                continue
            left, right = room(plane - before, step), room(after - plane, step)
            nearby, valid = cut.nearby(plane, [*range(-left, 0), *range(1, right + 1)], step)
            self._take(_TILE, cut, plane, Met(cut.gaps(plane), nearby, valid), (chunk,))

    def _add_halves(self, chunk: int, cut: Cut, edges: Sequence[int]) -> None:
        """Keep the sides of the borders that a chunk shares with others, or compare where the other side is there."""
        axis, step, position = cut.axis, self.steps[cut.axis], list(self._subject.grid.position(chunk))
        ends = ((0, edges[1]), (edges[-1], edges[-1] - edges[-2]))
        for (plane, distance), towards in zip(ends, (-1, 1), strict=True):
            beside = position[axis] + towards
            if not 0 <= beside < self._subject.grid.counts[axis] or cut.length < SIDE:
                continue
            other = self._subject.grid.number([*position[:axis], beside, *position[axis + 1 :]])
            half = cut.half(plane, [-towards * (j + 1) for j in range(room(distance, step))], step)
            with self._lock:
                first = self._waiting.pop((axis, min(chunk, other)), None)
                if first is None:
                    self._waiting[axis, min(chunk, other)] = half
            if first is not None:
                low, high = (first, half) if towards < 0 else (half, first)
                self._take(_CHUNK, cut, plane, low.meet(high, self._subject.kind), (chunk, other))

    def _take(self, kind: int, cut: Cut, plane: int, met: Met, chunks: Sequence[int]) -> None:
        """Sum up what a border says."""
        with self._lock:
            self._seen[kind, cut.axis] = True
            places = paired(met.nearby)
            if not places:
                return
            self._compared[kind, cut.axis] = True
            found = compare(met.border, [met.nearby[place] for place in places], met.valid)
            self._cells.add(kind, cut.axis, cut.places(plane), found)
            self._chunks[list(chunks)] += found.totals
            for place, gap in [(0, met.border), *((place, met.nearby[place]) for place in places)]:
                self._profile[kind, cut.axis, place + NEARBY_MOST] += _sums(gap, met.valid)


def paired(nearby: Iterable[int]) -> list[int]:
    """Return the places nearby that have one on the other side as well; all of them where none has.

    Along a slope of the gaps, planes on both sides are as good as the border itself.
    """
    places = sorted(nearby)
    return [place for place in places if -place in places] or places


def _sums(gap: Gaps, valid: Bits) -> npt.NDArray[np.float64]:
    """Return the sum of the gaps of the strips that are valid, and their number, ``(2, 2)``."""
    return np.stack([gap.sum(axis=(1, 2), where=valid), np.full(len(SCALES), float(valid.sum()))], axis=-1)


def _step(subject: Subject, axis: int) -> int:
    """Return the voxels from a border to the first plane nearby: a multiple of the stride, 16 where there is room."""
    stride, edges = subject.strides[axis], subject.edges(subject.grid.core(0), axis)
    usual, least = (-(-wanted // stride) * stride for wanted in (STEP, STEP_LEAST))
    spacing = float(np.median(np.diff(edges)))
    return usual if room(int(spacing), usual) else least


def _strips_most(subject: Subject) -> int:
    """Return how many strips a border has at most."""
    borders = len(subject.grid) * len(subject.grid.shape)
    a_strip = STRIP * SIDE * subject.voxel_bytes
    return min(STRIPS_MOST, max(STRIPS_LEAST, WAITING // (borders * a_strip)))
