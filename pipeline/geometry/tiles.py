"""The tiles of a chunk: which network inputs cover its core, on the lattice of the network's stride.

Along one axis, with stride 16, a halo of 4 voxels for the picture's sake, and two tiles::

    core (what the chunk writes)             |ccccccccccccccccccccc|
    aligned core (edges on the lattice)   |aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa|
    tile cores (one fixed length)         |---------------|---------------|
    tile inputs (tile core + halo)    |-----------------------|
                                                      |-----------------------|
    read box                          |.......................................|

Every tile has the same input shape: one shape gives the same bits wherever the tile lies (measured in float32
and bfloat16), and one compiled network serves all. The last tile of an axis moves back inside the aligned core
where there is room, and reaches past it where there is not. The lattice is anchored at the volume's voxel 0,
never at the chunk or the region, so the result does not depend on either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from pipeline.geometry.box import Box
from pipeline.geometry.reach import Reach


@dataclass(frozen=True, slots=True)
class Tile:
    """One network input and the part of its output that is kept, in the volume's voxels.

    Attributes:
        input: box that the network sees.
        core: exact part of the output, inside ``input``.
        crop: output voxels in front of ``core`` along each axis.
    """

    input: Box
    core: Box
    crop: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TileLayout:
    """How chunks of a volume are covered by tiles of one shape.

    Attributes:
        reaches: the network's reach along each spatial axis of the volume.
        tile: length of a tile's core along each axis; a multiple of the stride.
    """

    reaches: tuple[Reach, ...]
    tile: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.reaches) == len(self.tile), self
        assert all(t >= 1 and t % r.stride == 0 for t, r in zip(self.tile, self.reaches, strict=True)), self

    @property
    def strides(self) -> tuple[int, ...]:
        """The network's stride along each axis."""
        return tuple(r.stride for r in self.reaches)

    @property
    def before(self) -> tuple[int, ...]:
        """Voxels of a tile's input in front of its core."""
        return tuple(r.before for r in self.reaches)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of every network input."""
        return tuple(r.input_length(t) for r, t in zip(self.reaches, self.tile, strict=True))

    @property
    def after(self) -> tuple[int, ...]:
        """Voxels of a tile's input behind its core."""
        return tuple(r.after(t) for r, t in zip(self.reaches, self.tile, strict=True))

    def along(self, axis: int) -> TileLayout:
        """Return the layout of one axis alone."""
        return TileLayout((self.reaches[axis],), (self.tile[axis],))

    def tile_cores(self, core: Box) -> Iterator[Box]:
        """Yield the tile cores that together cover ``core``, in C order.

        Law: their union contains ``core``; all have the shape ``tile``; all start on the lattice.
        """
        starts = [_starts(a, b, t) for (a, b), t in zip(core.align(self.strides), self.tile, strict=True)]
        for start in product(*starts):
            yield Box(start, tuple(a + t for a, t in zip(start, self.tile, strict=True)))

    def tiles(self, core: Box) -> Iterator[Tile]:
        """Yield the tiles that cover ``core``, in C order."""
        crop = tuple(r.crop for r in self.reaches)
        for tile_core in self.tile_cores(core):
            yield Tile(tile_core.grow(self.before, self.after), tile_core, crop)

    def count(self, core: Box) -> int:
        """Return the number of tiles that cover ``core``."""
        total = 1
        for (a, b), t in zip(core.align(self.strides), self.tile, strict=True):
            total *= len(_starts(a, b, t))
        return total

    def borders(self, core: Box) -> tuple[tuple[int, ...], ...]:
        """Return where tiles meet inside ``core``, per axis: the first voxel of each tile but the first one's.

        Where two tiles share voxels, those of the later one are kept.
        """
        edges = zip(core, core.align(self.strides), self.tile, strict=True)
        return tuple(
            tuple(start for start in _starts(low, high, t)[1:] if a < start < b)
            for (a, b), (low, high), t in edges
        )

    def read_box(self, core: Box) -> Box:
        """Return the smallest box that holds every tile's input; it may reach outside the volume."""
        aligned = core.align(self.strides)
        stop = tuple(max(b, a + t) for (a, b), t in zip(aligned, self.tile, strict=True))
        return Box(aligned.start, stop).grow(self.before, self.after)

    def longest_read(self, axis: int, length: int) -> int:
        """Return the voxels that a core of ``length`` voxels reads along an axis at most, wherever it lies."""
        stride = self.strides[axis]
        # A core that does not begin on the lattice can touch one more step of it.
        aligned = -(-(length + stride - 1) // stride) * stride
        return max(aligned, self.tile[axis]) + self.before[axis] + self.after[axis]

    def usual_tiles(self, axis: int, length: int) -> float:
        """Return the tiles along an axis for a core of ``length`` voxels that begins on the lattice."""
        return -(-length // self.tile[axis])


def _starts(start: int, stop: int, tile: int) -> Sequence[int]:
    """Return where tiles of one axis begin, so that they cover ``[start, stop)``."""
    last = max(start, stop - tile)
    return [*range(start, last, tile), last]
