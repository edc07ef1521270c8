"""A look at the files below a box of an image, before its voxels are read: are they there, and which ones are they.

The same as :mod:`pipeline.volume.look` does for what a Zarr is stored in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pipeline.errors import InputDamageError, MissingChunkError, OvertileError, StoreError
from pipeline.geometry import Box
from pipeline.store import Stat, open_file
from pipeline.volume.faults import lies_in_the_bytes
from pipeline.volume.look import HOLE, NAMED, identity_digest, seen_of
from pipeline.volume.shown import show
from pipeline.volume.sources.source import Source

if TYPE_CHECKING:
    from pipeline.volume.file_image import FileImage


@dataclass(frozen=True, slots=True, eq=False)
class FileLook:
    """The files below a box; its voxels are read when they are asked for.

    Attributes:
        image: where.
        box: spatial box in voxels; may reach outside the image.
        inside: the box inside the image whose voxels it shows.
        files: addresses of the files that a read depends on.
        stats: of each file of the image that was asked; None where it is not there.
    """

    image: FileImage
    box: Box
    inside: Box
    files: tuple[str, ...]
    stats: Mapping[str, Stat | None]

    @property
    def seen(self) -> tuple[str, ...]:
        """Short digests of the files' identities, see :func:`pipeline.volume.look.seen_of`."""
        return seen_of(_digests(self.files, self.stats))

    def check(self) -> None:
        """Raise if a file is gone, or another one than when the image was opened.

        Raises:
            MissingChunkError, InputDamageError: so it is.
        """
        if gone := [name for name in self.files if self.stats[name] is None]:
            raise self._gone(gone)
        if changed := [name for name in self.files if self.stats[name] != self.image.opened.get(name)]:
            raise InputDamageError(
                f"{self.image.url}: below voxels {self.inside}, {len(changed)} file(s) changed since the image was"
                f" opened ({_some(changed)}). Bring them back, or run again when nothing writes to them"
            )

    def read(self) -> npt.NDArray[Any]:
        """Read the voxels of ``inside``: ``(c, [z,] y, x)``.

        Raises:
            MissingChunkError: a file vanished since the look.
            InputDamageError: voxels do not decode, or a file changed while they were read.
            StoreError: the store does not answer.
            MemoryError, OSError: of the machine, as they are.
        """
        try:
            voxels = self.image.source.read(self.inside)
        except Exception as error:
            raise self._failed(error) from error
        FileLook(self.image, self.box, self.inside, self.files, file_stats(self.files)).check()
        return voxels

    def shown(self, *, finite: bool = True) -> npt.NDArray[Any]:
        """Read what the box shows of the image and, outside it, of its mirror image: ``(c, [z,] y, x)``.

        Args:
            finite: whether NaN and infinity are errors.

        Raises:
            NonFiniteError: a voxel is NaN or infinite, and must not be.
            InputDamageError: see :meth:`read`, as for all others.
        """
        named = (self.image.url, self._where) if finite else None
        return show(self.read(), inside=self.inside, box=self.box, shape=self.image.shape, finite=named)

    def _where(self, channel: int, voxel: tuple[int, ...]) -> str:
        return self.image.source.where(voxel)

    def _gone(self, gone: Sequence[str]) -> MissingChunkError:
        return MissingChunkError(
            f"{self.image.url}: {len(gone)} file(s) below voxels {self.inside} are missing ({_some(gone)}). Restore"
            " them and run again"
        )

    def _failed(self, error: Exception) -> Exception:
        """Return what a failed read means: by the first error that it came from that was not of the bytes."""
        for link in _chain(error):
            if isinstance(link, FileNotFoundError):
                return self._gone(
                    [name for name, stat in file_stats(self.files).items() if stat is None] or self.files
                )
            if isinstance(link, StoreError | MemoryError):
                return link
            if not isinstance(link, OvertileError) and not lies_in_the_bytes(link):
                return link
        return InputDamageError(
            f"{self.image.url}: voxels {self.inside} do not decode ({error}). Restore the file from the original and"
            " run again"
        )


class FileIdentities:
    """The identities of all files of an image at the moment when this was made."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stats = file_stats(source.files)

    def keys(self, box: Box) -> list[str]:
        """Return the addresses of the files that a read of a box depends on."""
        return list(self._source.files_below(box))

    def digests(self, box: Box) -> list[str]:
        """Return the short digest of each one's identity, in the order of :meth:`keys`."""
        return _digests(self.keys(box), self._stats)


def file_stats(files: Iterable[str]) -> dict[str, Stat | None]:
    """Return size and identity of files; None of one that is not there."""
    found: dict[str, Stat | None] = {}
    for name in files:
        try:
            found[name] = open_file(name).stat()
        except (FileNotFoundError, NotADirectoryError):
            found[name] = None
    return found


def _digests(files: Iterable[str], stats: Mapping[str, Stat | None]) -> list[str]:
    found = (stats.get(name) for name in files)
    return [HOLE if stat is None else identity_digest(stat.identity) for stat in found]


def _chain(error: BaseException) -> Iterable[Exception]:
    """Yield an error and those that it was raised from, outermost first."""
    link: BaseException | None = error
    while isinstance(link, Exception):
        yield link
        link = link.__cause__


def _some(files: Sequence[str]) -> str:
    return ", ".join(files[:NAMED]) + (" ..." if len(files) > NAMED else "")
