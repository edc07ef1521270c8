"""A volume: one N-D array in Zarr with axes and voxel size, read lazily, box by box."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from pipeline.errors import VolumeError
from pipeline.geometry import Box, Grid, visible_box
from pipeline.store import Place, Stat
from pipeline.volume.geo import Georeference, read_georeference
from pipeline.volume.identities import StoredIdentities
from pipeline.volume.index import Indices
from pipeline.volume.look import Look
from pipeline.volume.space import Space


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One array in Zarr, seen as channels and space: every read gives ``(c, [z,] y, x)``.

    Attributes:
        url: where it was opened, as the user named it.
        place: where the array of the chosen level lies.
        array: that Zarr array; what is missing reads as its fill value.
        checked: the same one to read through, by what holes mean, see :mod:`pipeline.volume.checked`.
        indices: of its shards.
        axes: stored axis names, for example ``"cyx"``, ``"yxc"``, ``"tczyx"``.
        space: spatial axes, voxel size, origin, unit.
        levels: path of each resolution level's array; one entry where there are no others.
        level: which of them this is.
        holes: what a stored chunk that is missing means where a reader does not say it, see :meth:`look`.
        attributes: of the image group, or of an array that is alone.
        scale: voxels of level 0 that a voxel of this level spans, along each spatial axis; empty for 1.
        bands: channels that are read, in this order, counted from 0; none for all.
        absent: keys of the stored objects that were left out on purpose: they read as the fill value, and are no holes.
    """

    url: str
    place: Place
    array: zarr.Array[Any]
    checked: Mapping[str, zarr.Array[Any]]
    indices: Indices
    axes: str
    space: Space
    levels: tuple[str, ...]
    level: int
    holes: str = "error"
    absent: Container[str] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    scale: tuple[float, ...] = ()
    bands: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in voxels, in the order of ``space.axes``."""
        return tuple(self.array.shape[self.axes.index(a)] for a in self.space.axes)

    @property
    def box(self) -> Box:
        """The whole volume."""
        return Box.of_shape(self.shape)

    @property
    def channels(self) -> int:
        """Number of channels; 1 where there is no channel axis."""
        if self.bands:
            return len(self.bands)
        return int(self.array.shape[self.axes.index("c")]) if "c" in self.axes else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the voxels, in native byte order."""
        return np.dtype(self.array.dtype).newbyteorder("=")

    @property
    def storage_grid(self) -> Grid:
        """The grid of stored objects (shards, or chunks where there are none), over all stored axes."""
        return Grid(self.array.shape, self.array.shards or self.array.chunks)

    @property
    def metadata(self) -> dict[str, Any]:
        """What identifies the array: its own Zarr metadata, without the user's attributes."""
        document = dict(self.array.metadata.to_dict())
        document.pop("attributes", None)
        if self.bands:
            document["bands"] = list(self.bands)
        return json.loads(json.dumps(document, default=str, sort_keys=True))  # type: ignore[no-any-return]

    @property
    def level_count(self) -> int:
        """Number of resolution levels that there are."""
        return len(self.levels)

    @property
    def geo(self) -> Georeference | None:
        """Where on Earth the voxels of this level lie; None of a volume that does not say it.

        Raises:
            VolumeError: what it says is damaged.
        """
        found = read_georeference(self.attributes)
        return found.scaled(self.scale) if found is not None and self.scale else found

    @property
    def pieces(self) -> tuple[int, ...]:
        """Spatial shape of the chunks that are decoded one by one."""
        return tuple(self.array.chunks[self.axes.index(a)] for a in self.space.axes)

    def decoded_along(self, axis: int, start: int, stop: int) -> int:
        """Return the voxels that are decoded along an axis for a read: chunks are small, so as many as are read."""
        return stop - start

    def read_bytes(self, shape: Sequence[int]) -> int:
        """Return the bytes of memory that a read takes beside its voxels: next to none."""
        return 0

    @property
    def open_bytes(self) -> int:
        """Bytes of memory that it takes to have the volume open: next to none."""
        return 0

    def check_holes(self) -> None:
        """Raise VolumeError where missing chunks are errors and missing inner chunks of shards could not be told."""
        if self.holes == "error":
            try:
                _ = self.indices.form
            except VolumeError as error:
                raise VolumeError(f"{self.url}: {error}") from error

    def identities(self) -> StoredIdentities:
        """Find out what every stored object is now, in one listing."""
        return StoredIdentities(self)

    def close(self) -> None:
        """Nothing is held open."""

    def look(self, box: Box, *, holes: str | None = None) -> Look:
        """Find what is stored below a box, and that it is there; then read it with :meth:`Look.shown`.

        The identities of the stored objects are taken before anything is read, so that an object that changes
        meanwhile is found to have changed.

        Args:
            box: spatial box in voxels; may reach outside the volume, which goes on as its mirror image.
            holes: what a stored chunk, or an inner chunk of a shard, that is missing means; None for what was said
                when the volume was opened: ``"error"``, or
                ``"background"`` (the fill value). An empty object counts as missing.

        Raises:
            MissingChunkError: something is missing and holes are errors.
            InputDamageError: the index of a shard does not decode.
            VolumeError: missing inner chunks could not be recognised, and holes are errors.
            StoreError: the store does not answer.
        """
        look = self._find(box, holes or self.holes)
        look.check()
        return look

    def read(self, box: Box, *, holes: str | None = None) -> npt.NDArray[Any]:
        """Read the voxels of a box inside the volume, NaN and infinity as they are.

        Args:
            box: spatial box in voxels.
            holes: what a missing stored chunk means, see :meth:`look`.

        Returns:
            ``(c, [z,] y, x)`` in the volume's dtype.

        Raises:
            MissingChunkError: a stored chunk is missing and holes are errors.
            InputDamageError: a stored chunk does not decode.
            StoreError: the store does not answer.
        """
        assert self.box.contains(box), (box, self.shape)
        return self.look(box, holes=holes).read()

    def read_shown(self, box: Box, *, holes: str | None = None) -> npt.NDArray[Any]:
        """Read what a box shows of the volume and, outside it, of its mirror image: ``(c, [z,] y, x)``.

        NaN and infinity are read as they are; :meth:`Look.shown` refuses them. Errors as :meth:`read`.
        """
        return self.look(box, holes=holes).shown(finite=False)

    def missing(self, box: Box) -> list[str]:
        """Return the keys of stored objects below ``box`` that are not there, or are shards lacking an inner chunk."""
        return self._find(box, "error").missing()

    def check_present(self, box: Box) -> None:
        """Raise MissingChunkError if a stored object below ``box``, or an inner chunk of one, is not there."""
        self.look(box)

    def stored_box(self, box: Box) -> Box:
        """Return the box over all stored axes of a spatial box: every channel of it."""
        spatial = dict(zip(self.space.axes, box, strict=True))
        pairs = [spatial.get(a, (0, n)) for a, n in zip(self.axes, self.array.shape, strict=True)]
        return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))

    def stored_keys(self, box: Box) -> list[str]:
        """Return the keys, inside the array, of all stored objects that hold a voxel of ``box``."""
        encode = self.array.metadata.encode_chunk_key
        return [encode(position) for position in self.storage_grid.overlapping(self.stored_box(box))]

    def stored_key(self, channel: int, voxel: Sequence[int]) -> str:
        """Return the key, inside the array, of the stored object that holds a voxel ``([z,] y, x)``."""
        channel = self.bands[channel] if self.bands else channel
        spatial = dict(zip(self.space.axes, voxel, strict=True)) | {"c": channel, "t": 0}
        lengths = zip(self.axes, self.storage_grid.chunk, strict=True)
        return str(self.array.metadata.encode_chunk_key(tuple(spatial[a] // n for a, n in lengths)))

    def _find(self, box: Box, holes: str) -> Look:
        inside = visible_box(box, self.shape)
        keys = self.stored_keys(inside)
        asked = [key for key in keys if key not in self.absent]
        found = dict(zip(asked, _stats(self.place, asked), strict=True))
        return Look(self, box, inside, holes, tuple(keys), tuple(found.get(key) for key in keys))


def keys_present(place: Place, keys: Sequence[str]) -> list[bool]:
    """Tell for each key at a place whether an object is stored there that is not empty."""
    return [stat is not None for stat in _stats(place, keys)]


def _stats(place: Place, keys: Sequence[str]) -> list[Stat | None]:
    """Return size and identity of objects; an empty one is missing: Zarr reads it as fill, without a word."""
    return [stat if stat is not None and stat.size else None for stat in place.stats(keys)]
