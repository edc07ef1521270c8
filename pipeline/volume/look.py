"""A look at the stored objects below a box, before its voxels are read: are they there, and which ones are they.

What Zarr reads silently as fill is an error here: a stored object that is not there, an inner chunk that a shard leaves
out. What does not decode is named by its key. So a chunk is made from real voxels, or it fails and says why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputDamageError, MissingChunkError, VolumeError
from pipeline.geometry import Box
from pipeline.store import Stat
from pipeline.volume.boxes import read_box
from pipeline.volume.faults import lies_in_the_bytes, store_faults
from pipeline.volume.index import MISSING, Index, IndexForm
from pipeline.volume.shown import show

if TYPE_CHECKING:
    from pipeline.volume.volume import Volume

HOLE = "00000000"
"""Stands for the identity of an object that is not there."""

SEPARATE = 64
"""Most objects whose identities are told one by one."""

NAMED = 3
"""Stored objects that a message names."""


def identity_digest(identity: str) -> str:
    """Return the short digest (8 hexadecimal digits) of a stored object's identity."""
    return hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()


def seen_of(digests: Sequence[str]) -> tuple[str, ...]:
    """Return what the ledger keeps of the identities below a window: each one, or one digest of more than 64.

    Args:
        digests: of each stored object from :func:`identity_digest`, :data:`HOLE` where there is none, in the order
            of ``Volume.stored_keys``.
    """
    if len(digests) <= SEPARATE:
        return tuple(digests)
    return (hashlib.blake2b(" ".join(digests).encode(), digest_size=8).hexdigest(),)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What was found below a box; its voxels are read when they are asked for.

    Attributes:
        volume: where.
        box: spatial box in voxels; may reach outside the volume.
        inside: the box inside the volume whose voxels it shows.
        holes: what a missing stored chunk means: ``"error"`` or ``"background"`` (the fill value).
        keys: of all stored objects below ``inside``, inside the array.
        stats: size and identity of each; None where it is not there, or empty, or absent: left out on purpose, which
            is no hole (see :mod:`pipeline.volume.absent`).
    """

    volume: Volume
    box: Box
    inside: Box
    holes: str
    keys: tuple[str, ...]
    stats: tuple[Stat | None, ...]

    @property
    def seen(self) -> tuple[str, ...]:
        """Short digests of the identities of what is stored below the box, see :func:`seen_of`."""
        return seen_of([HOLE if stat is None else identity_digest(stat.identity) for stat in self.stats])

    def check(self) -> None:
        """Raise if something is missing, or if a shard is not whole as far as its index tells.

        Raises:
            MissingChunkError: a stored object, or an inner chunk of a shard, is missing and holes are errors.
            InputDamageError: the index of a shard does not decode.
            VolumeError: missing inner chunks could not be recognised, and holes are errors.
            StoreError: the store does not answer.
        """
        if self.holes == "error":
            self._refuse(self._missing_objects(), "stored chunk(s)", "chunks")
            inner = [f"inner chunk {number} of {key}" for key, number in self._missing_inner()]
            self._refuse(inner, "inner chunk(s) of shards", "inner chunks")
            return
        try:
            form = self.volume.indices.form
        except VolumeError:
            return
        if form is not None:
            self._check_sizes(form)
            if form.at_start:  # the end of a shard can be lost behind an index that is whole
                self._indices()

    def missing(self) -> list[str]:
        """Return the keys of stored objects that are not there, or that are shards which lack an inner chunk.

        Raises:
            InputDamageError, VolumeError, StoreError: as :meth:`check`.
        """
        found = {*self._missing_objects(), *(key for key, _ in self._missing_inner())}
        return [key for key in self.keys if key in found]

    def read(self) -> npt.NDArray[Any]:
        """Read the voxels of ``inside``: ``(c, [z,] y, x)`` in the volume's dtype.

        Raises:
            InputDamageError: a stored chunk does not decode.
            MissingChunkError: a stored chunk vanished since the look.
            StoreError: the store does not answer.
        """
        volume = self.volume
        array = volume.checked[self.holes]
        try:
            with store_faults(volume.url):
                voxels = read_box(array, volume.axes, self.inside)
                return voxels[list(volume.bands)] if volume.bands else voxels
        except Exception as error:
            if not lies_in_the_bytes(error):
                raise
            failed = error
        raise self._damage(array, failed) from failed

    def shown(self, *, finite: bool = True) -> npt.NDArray[Any]:
        """Read what the box shows of the volume and, outside it, of its mirror image: ``(c, [z,] y, x)``.

        Args:
            finite: whether NaN and infinity are errors.

        Raises:
            NonFiniteError: a voxel is NaN or infinite, and must not be.
            InputDamageError: see :meth:`read`, as for all others.
        """
        named = (self.volume.url, self.volume.stored_key) if finite else None
        return show(self.read(), inside=self.inside, box=self.box, shape=self.volume.shape, finite=named)

    def _refuse(self, missing: Sequence[str], what: str, short: str) -> None:
        if missing:
            raise MissingChunkError(
                f"{self.volume.url}: {len(missing)} {what} below voxels {self.inside} are missing ({_some(missing)})."
                f" Restore them, or pass --holes background if {short} were left out because they hold nothing but"
                " the fill value"
            )

    def _missing_objects(self) -> list[str]:
        absent = self.volume.absent
        return [k for k, stat in zip(self.keys, self.stats, strict=True) if stat is None and k not in absent]

    def _missing_inner(self) -> list[tuple[str, str]]:
        """Return the inner chunks that shards leave out: the shard's key, and the chunk's position in it."""
        try:
            form = self.volume.indices.form
        except VolumeError as error:
            raise VolumeError(f"{self.volume.url}: {error}") from error
        if form is None:
            return []
        self._check_sizes(form)
        indices = self._indices()
        inner = [s // n for s, n in zip(self.volume.storage_grid.chunk, form.counts, strict=True)]
        parts = ((key, part.relative_to(origin)) for key, part, origin in self._parts() if key in indices)
        return [
            (key, number) for key, part in parts for number in _left_out(indices[key], part.align(inner), inner)
        ]

    def _indices(self) -> dict[str, Index]:
        shards = {key: stat for key, stat in zip(self.keys, self.stats, strict=True) if stat is not None}
        return self.volume.indices.read(shards, f"{self.volume.url}, voxels {self.inside}")

    def _check_sizes(self, form: IndexForm) -> None:
        short = [
            f"{key}: {stat.size} bytes, its index alone has {form.nbytes}"
            for key, stat in zip(self.keys, self.stats, strict=True)
            if stat is not None and stat.size < form.nbytes
        ]
        if short:
            raise InputDamageError(
                f"{self.volume.url}: {len(short)} shard(s) below voxels {self.inside} are cut short ({_some(short)})."
                " Restore them from the original and run again"
            )

    def _damage(self, array: Any, failed: Exception) -> Exception:
        """Return the error that names the stored chunks that do not decode, found by reading each one alone."""
        damaged = []
        for key, part, _ in self._parts():
            try:
                with store_faults(self.volume.url):
                    array[part.slices]
            except Exception as error:
                if not lies_in_the_bytes(error):
                    raise
                damaged.append(f"{key}: {type(error).__name__}: {error}")
        if not damaged and isinstance(failed, MemoryError):
            return failed
        what = f"{len(damaged)} stored chunk(s) do not decode ({_some(damaged)})"
        if not damaged:
            what = f"stored chunks did not decode ({failed}), and did later: they changed while they were read"
        return InputDamageError(
            f"{self.volume.url}: below voxels {self.inside}, {what}. Restore them from the original and run again"
        )

    def _parts(self) -> Iterator[tuple[str, Box, tuple[int, ...]]]:
        """Yield each stored object's key, the part of its box below ``inside`` and its origin, over stored axes."""
        grid, stored = self.volume.storage_grid, self.volume.stored_box(self.inside)
        for key, position in zip(self.keys, grid.overlapping(stored), strict=True):
            core = grid.core(grid.number(position))
            yield key, core.intersect(stored), core.start


def _left_out(index: Index, box: Box, inner: Sequence[int]) -> Iterator[str]:
    """Yield the positions of inner chunks that an index leaves out, of those in a box that their edges divide."""
    low = [a // c for a, c in zip(box.start, inner, strict=True)]
    high = [b // c for b, c in zip(box.stop, inner, strict=True)]
    entries = index[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    for hole in np.argwhere((entries == MISSING).all(axis=-1)):
        yield ",".join(str(a + int(i)) for a, i in zip(low, hole, strict=True))


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:NAMED]) + (" ..." if len(items) > NAMED else "")
