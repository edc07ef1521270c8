"""The mask that a run uses, beside its result: a plain Zarr array of 0 and 1, written once, checked by its digest.

::

    OUT.zarr.run/mask.zarr    uint8, ([z,] y, x), at the mask's own resolution; what holds no foreground is not stored
        attributes            overtile: kind, method, threshold, level, share of foreground, digest ... ; absent shards

The attributes are written last: a mask without them is not whole, and is made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import VolumeError
from pipeline.geometry import Box, Grid
from pipeline.store import Place
from pipeline.volume.absent import ATTRIBUTE, Absent, read_absent
from pipeline.volume.create import ArraySpec, array_document
from pipeline.volume.mask.foreground import Foreground
from pipeline.volume.mask.sampling import Bits, Sampling
from pipeline.volume.node import as_place
from pipeline.volume.opening import open_volume
from pipeline.volume.space import Space
from pipeline.volume.state import GROUP, KEY, read_attributes, set_attributes
from pipeline.volume.write import ShardWriter

FORMAT = "overtile-mask/1"

SHARD = {2: (1024, 1024), 3: (32, 256, 256)}
"""Voxels of a shard, by the mask's axes: a million or two, of which a chunk reads few."""

Part = tuple[Box, Bits]
"""A box of a mask, and which of its voxels are foreground."""


@dataclass(frozen=True, slots=True)
class Area:
    """The part of an image that is segmented, as a mask is asked about it.

    Attributes:
        image: spatial shape of the whole image, at the resolution that is segmented.
        region: the part that is segmented.
        grid: its chunks; chunk voxel 0 is the region's first.
    """

    image: tuple[int, ...]
    region: Box
    grid: Grid


class Survey:
    """What is found out of a mask as its parts go by: its digest, its share, and the chunks that have foreground.

    Attributes:
        chunks: for each chunk, by its number, whether one of its core's voxels is foreground.
        digest: over all foreground, by shards.
        foreground: share of the mask below the region that is foreground.
    """

    def __init__(self, shape: tuple[int, ...], area: Area) -> None:
        self._sampling = Sampling(area.image, shape)
        self._area = area
        self._below = self._sampling.below(area.region)
        self._flags = np.zeros(area.grid.counts[-len(shape) :], np.bool_)
        self._total = hashlib.blake2b(digest_size=16)
        self._set = 0

    @property
    def chunks(self) -> Bits:
        """For each chunk, by its number, whether it has foreground."""
        return np.broadcast_to(self._flags, self._area.grid.counts).reshape(-1)

    @property
    def digest(self) -> str:
        """Digest of the mask."""
        return self._total.hexdigest()

    @property
    def foreground(self) -> float:
        """Share of the mask that is foreground, of the part below the region."""
        return self._set / self._below.size

    def add(self, number: int, part: Part) -> None:
        """Take in a part of the mask: the shard of a number; those without foreground may be left out."""
        box, bits = part
        if not bits.any():
            return
        self._total.update(number.to_bytes(8, "big") + np.packbits(bits).tobytes())
        seen = box.intersect(self._below)
        self._set += int(bits[seen.relative_to(box.start).slices].sum())
        grid, origin = self._area.grid, self._area.region.start
        chunks, found = self._sampling.any_of(bits, box, grid=grid, origin=origin)
        self._flags[chunks.slices] |= found


def survey(foreground: Foreground, area: Area, *, wrote: Callable[[Part], None] | None = None) -> Survey:
    """Find out about a mask, without or before storing it.

    Args:
        foreground: the mask.
        area: what it is asked about.
        wrote: given each part that has foreground, in order.
    """
    found = Survey(foreground.shape, area)
    for number, box in _shards(foreground.shape, area):
        part = box, foreground.read(box)
        found.add(number, part)
        if wrote is not None and part[1].any():
            wrote(part)
    return found


def store_mask(place: Place, foreground: Foreground, area: Area, *, facts: Mapping[str, Any]) -> Survey:
    """Make a mask and store it, durably; whatever was in its place is removed first.

    Args:
        place: of the array.
        foreground: the mask.
        area: what it is asked about; only shards below the region are made.
        facts: what else its attributes say; JSON-ready.
    """
    for entry in list(place.entries()):
        place.delete(entry.key)
    grid = _grid(foreground.shape)
    space = Space.unscaled("zyx"[-len(grid.shape) :])
    spec = ArraySpec(grid.shape, None, np.dtype(np.uint8), grid.chunk, grid.chunk, space)
    place.put(GROUP, array_document(spec))
    writer = ShardWriter(place)
    absent = np.ones(grid.counts, np.bool_)

    def write(part: Part) -> None:
        box, bits = part
        writer.write(box, bits.view(np.uint8))
        absent[tuple(a // c for a, c in zip(box.start, grid.chunk, strict=True))] = False

    found = survey(foreground, area, wrote=write)
    said = {
        "format": FORMAT,
        **foreground.identity,
        **foreground.facts,
        **facts,
        "foreground": round(found.foreground, 6),
        "skipped": int((~found.chunks).sum()),
        "chunks": len(area.grid),
        "reason": foreground.reason,
        "digest": found.digest,
        ATTRIBUTE: Absent(absent, (grid,)).to_attribute(),
    }
    set_attributes(place, {KEY: said})
    return found


def read_facts(place: Place) -> dict[str, Any] | None:
    """Return what a stored mask says of itself; None where there is none, or none that is whole."""
    said = read_attributes(place).get(KEY)
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        return None
    return {key: value for key, value in said.items() if key != ATTRIBUTE}


def survey_stored(place: Place, area: Area) -> Survey:
    """Find out about a stored mask, which is whole, by reading all of it.

    Raises:
        MissingChunkError, InputDamageError, VolumeError: it is damaged.
    """
    mask = Stored(place, area.image)
    found = Survey(mask.shape, area)
    for number, box in _shards(mask.shape, area):
        if not mask.is_absent(number):
            found.add(number, (box, mask.bits(box)))
    return found


class Stored:
    """A stored mask over an image. Any number of threads may read at once.

    Args:
        place: of the array.
        image: spatial shape of the image, at the resolution that is segmented.

    Raises:
        VolumeError: it is not there, or not whole.
    """

    def __init__(self, place: Place, image: tuple[int, ...]) -> None:
        attributes = read_attributes(place)
        found = read_absent(attributes, where=place.url)
        if found is None:
            raise VolumeError(f"{place.url}: the run's mask is not there, or not whole; run again to make it anew")
        self._absent = found.bits
        self._volume = open_volume(place, absent=found.bits)
        self._sampling = Sampling(image, self._volume.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mask."""
        return self._volume.shape

    def is_absent(self, number: int) -> bool:
        """Whether a shard holds no foreground, and is not stored."""
        return bool(self._absent.reshape(-1)[number])

    def bits(self, box: Box) -> Bits:
        """Return the foreground of a box of the mask."""
        return np.asarray(self._volume.read(box)[0] != 0)

    def of_image(self, box: Box) -> Bits:
        """Return the foreground of a box of the image, over the mask's axes.

        Raises:
            MissingChunkError, InputDamageError, StoreError: it cannot be read.
        """
        return self._sampling.spread(self.bits(self._sampling.below(box)), box)

    def apply(self, voxels: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
        """Return a prediction with background, 0, wherever the mask has none; errors as :meth:`of_image`.

        Args:
            voxels: of ``box``, ``([c,] [z,] y, x)``.
            box: of the image.
        """
        return np.where(self.of_image(box), voxels, voxels.dtype.type(0))


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """A run's mask, for the workers; small and picklable.

    Attributes:
        url: of its array.
        image: spatial shape of the image, at the resolution that is segmented.
    """

    url: str
    image: tuple[int, ...]

    def open(self) -> Stored:
        """Open the mask, in a worker process."""
        return Stored(as_place(self.url), self.image)


def _grid(shape: tuple[int, ...]) -> Grid:
    return Grid(shape, tuple(min(s, n) for s, n in zip(SHARD[len(shape)], shape, strict=True)))


def _shards(shape: tuple[int, ...], area: Area) -> Iterator[tuple[int, Box]]:
    """Yield the shards of a mask below a region: number and box."""
    grid = _grid(shape)
    for position in grid.overlapping(Sampling(area.image, shape).below(area.region)):
        number = grid.number(position)
        yield number, grid.core(number)
