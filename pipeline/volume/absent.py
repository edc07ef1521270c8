"""Stored objects that a published image leaves out on purpose: where a mask says that there is nothing.

The image group's attribute ``overtile.absent`` says which shards of level 0 they are. A shard of a coarser level is
absent where every shard of level 0 below it is. What is absent reads as the fill value, 0, and nothing is asked of the
store; any other shard that is not there stays an error::

    level 0     # # . .        level 1     # .        . absent    # stored
                # . . .                    # .
                # . . .
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import VolumeError
from pipeline.geometry import Grid
from pipeline.volume.create import ArraySpec
from pipeline.volume.state import KEY

ATTRIBUTE = "absent"
"""Name of the attribute, in the group's attribute ``overtile``."""

Bits = npt.NDArray[np.bool_]
"""For each shard of a level, by its position on the level's spatial grid, whether it is absent."""


@dataclass(frozen=True, slots=True, eq=False)
class Absent:
    """The absent shards of an image.

    Attributes:
        bits: those of level 0, over the grid of its shards ``([z,] y, x)``.
        levels: spatial grid of the shards of each level, finest first.
    """

    bits: Bits
    levels: tuple[Grid, ...]

    def __post_init__(self) -> None:
        assert self.bits.dtype == np.bool_, self.bits.dtype
        assert self.bits.shape == self.levels[0].counts, (self.bits.shape, self.levels[0])

    def of_level(self, level: int) -> Bits:
        """Return which shards of a level are absent, over the grid of its shards ``([z,] y, x)``."""
        return self.bits if level == 0 else absent_above(self.bits, self.levels[0], self.levels[level])

    def to_attribute(self) -> dict[str, Any]:
        """Return the attribute: the levels' grids and the bits of level 0, packed, deflated and in base 64."""
        packed = zlib.compress(np.packbits(self.bits).tobytes(), 9)
        return {
            "levels": [{"shape": list(grid.shape), "shard": list(grid.chunk)} for grid in self.levels],
            "count": int(self.bits.sum()),
            "bits": base64.b64encode(packed).decode(),
        }


def absent_shards(skipped: npt.NDArray[np.bool_], grid: Grid, specs: Sequence[ArraySpec]) -> Absent:
    """Return the shards that skipped chunks leave out.

    Args:
        skipped: of each chunk, by its number.
        grid: chunks of the result, each of which is a whole number of shards.
        specs: layout of each level, finest first.
    """
    levels = tuple(Grid(spec.shape, spec.shard) for spec in specs)
    bits = skipped.reshape(grid.counts)
    for axis, (chunk, shard) in enumerate(zip(grid.chunk, levels[0].chunk, strict=True)):
        assert chunk % shard == 0, (grid, levels[0])
        bits = bits.repeat(chunk // shard, axis)
    return Absent(bits[tuple(slice(count) for count in levels[0].counts)].copy(), levels)


def absent_above(bits: Bits, finest: Grid, coarse: Grid) -> Bits:
    """Return which shards of a coarser level are absent: those with nothing but absent shards of level 0 below them.

    Args:
        bits: of level 0.
        finest: grid of the shards of level 0.
        coarse: grid of the coarser level's shards; each axis was halved some times, a last voxel for itself rounded up.
    """
    for axis, (fine, above) in enumerate(zip(_axes(finest), _axes(coarse), strict=True)):
        starts, stops = _below(fine, above)
        counted = np.insert(np.cumsum(~bits, axis=axis, dtype=np.int64), 0, 0, axis=axis)
        bits = np.take(counted, stops, axis=axis) == np.take(counted, starts, axis=axis)
    return bits


def read_absent(attributes: Mapping[str, Any], *, where: str = "image") -> Absent | None:
    """Return what an image group's attributes say is absent; None where nothing is.

    Args:
        attributes: of the group.
        where: what messages call it.

    Raises:
        VolumeError: the attribute is damaged.
    """
    mark = attributes.get(KEY)
    said = mark.get(ATTRIBUTE) if isinstance(mark, Mapping) else None
    if said is None:
        return None
    try:
        levels = tuple(_grid(level["shape"], level["shard"]) for level in said["levels"])
        size = math.prod(levels[0].counts)
        bits = _unpack(said["bits"], size)
    except (KeyError, TypeError, ValueError, IndexError, zlib.error, binascii.Error) as error:
        raise VolumeError(
            f"{where}: its attribute {KEY}.{ATTRIBUTE}, which says what a mask left out, is damaged"
            f" ({type(error).__name__}: {error}); run the segmentation again, which writes it anew"
        ) from error
    return Absent(bits.reshape(levels[0].counts), levels)


class AbsentKeys:
    """Tells of the keys of an array's stored objects whether they are absent; costs a bit a shard.

    Args:
        bits: of the array's level.
        axes: stored axis names of the array.
        space: its spatial axes, in the order of ``bits``.
        prefix: what every key begins with in the store, before the array's own key.
    """

    def __init__(self, bits: Bits, axes: str, space: str, prefix: str = "") -> None:
        self._bits = bits
        self._order = [axes.index(axis) for axis in space]
        self._axes = len(axes)
        self._prefix = f"{prefix}/" if prefix else ""

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, str), key
        own = key.removeprefix(self._prefix)
        numbers = [int(part) for part in own.replace(".", "/").split("/") if part.isdecimal()]
        if len(numbers) != self._axes:
            return False
        return bool(self._bits[tuple(numbers[i] for i in self._order)])


def _axes(grid: Grid) -> list[tuple[int, int]]:
    return list(zip(grid.shape, grid.chunk, strict=True))


def _below(fine: tuple[int, int], above: tuple[int, int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first and behind the last shard of level 0 below each shard of a coarser level, along one axis."""
    (length, shard), (coarse_length, coarse_shard) = fine, above
    factor = _factor(length, coarse_length)
    edges = np.minimum(
        np.arange(-(-coarse_length // coarse_shard) + 1, dtype=np.int64) * coarse_shard, coarse_length
    )
    voxels = np.minimum(edges * factor, length)
    return voxels[:-1] // shard, -(-voxels[1:] // shard)


def _factor(length: int, coarse: int) -> int:
    """Return how many voxels one joins of an axis that was halved some times, rounded up each time."""
    factor = 1
    while -(-length // factor) > coarse:
        factor *= 2
    return factor


def _grid(shape: Sequence[int], shard: Sequence[int]) -> Grid:
    """Return a grid of what an attribute says; ValueError where that is none."""
    if not shape or len(shape) != len(shard) or min(*shape, *shard) < 1:
        raise ValueError(f"shape {shape} in shards {shard}")
    return Grid(tuple(map(int, shape)), tuple(map(int, shard)))


def _unpack(text: str, size: int) -> Bits:
    """Return so many bits; never inflates more than they take."""
    count = -(-size // 8)
    inflated = zlib.decompressobj()
    data = inflated.decompress(base64.b64decode(text, validate=True), count + 1)
    if len(data) != count:
        raise ValueError(f"{len(data)} bytes of bits instead of {count}")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=size).astype(np.bool_)
