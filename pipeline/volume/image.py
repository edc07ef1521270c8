"""What a network looks at: a Zarr volume, or a file of any other format, behind one interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box
from pipeline.volume.geo import Georeference
from pipeline.volume.space import Space


class View(Protocol):
    """What was found below a box; its voxels are read when they are asked for."""

    @property
    def seen(self) -> tuple[str, ...]:
        """Short digests of the identities of what is stored below the box: what the ledger keeps."""
        ...

    def shown(self, *, finite: bool = True) -> npt.NDArray[Any]:
        """Read what the box shows of the image and, outside it, of its mirror image: ``(c, [z,] y, x)``.

        Args:
            finite: whether NaN and infinity are errors.

        Raises:
            NonFiniteError: a voxel is NaN or infinite, and must not be.
            InputDamageError: what is stored does not decode.
            StoreError: the store does not answer.
        """
        ...


class Image(Protocol):
    """One resolution level of an image. Any number of threads may read at once."""

    @property
    def url(self) -> str:
        """Where it was opened, as the user named it."""
        ...

    @property
    def axes(self) -> str:
        """Stored axis names, for example ``"cyx"``, ``"yxc"``."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in voxels, in the order of ``space.axes``."""
        ...

    @property
    def box(self) -> Box:
        """The whole image."""
        ...

    @property
    def channels(self) -> int:
        """Number of channels; 1 where there is no channel axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the voxels, in native byte order."""
        ...

    @property
    def space(self) -> Space:
        """Spatial axes, voxel size, origin and unit of this level."""
        ...

    @property
    def geo(self) -> Georeference | None:
        """Where on Earth the voxels of this level lie; None of an image that does not say it."""
        ...

    @property
    def scale(self) -> tuple[float, ...]:
        """Voxels of level 0 that a voxel of this level spans, along each spatial axis; empty where that is 1."""
        ...

    @property
    def pieces(self) -> tuple[int, ...]:
        """Spatial shape of what is decoded at once: the chunk of a Zarr, the strip or tile of a file."""
        ...

    @property
    def level(self) -> int:
        """Which resolution level this is; 0 is the finest."""
        ...

    @property
    def level_count(self) -> int:
        """Number of resolution levels that there are."""
        ...

    @property
    def metadata(self) -> dict[str, Any]:
        """What identifies the image beside its address and level, JSON-ready: its format and layout, not its voxels."""
        ...

    def look(self, box: Box, *, holes: str | None = None) -> View:
        """Find what is stored below a box, and that it is there, before anything is read.

        Args:
            box: spatial box in voxels; may reach outside the image, which goes on as its mirror image.
            holes: what a missing stored chunk means; None for what was said when the image was opened.

        Raises:
            MissingChunkError, InputDamageError, VolumeError, StoreError: it is not there as it should be.
        """
        ...

    def read(self, box: Box, *, holes: str | None = None) -> npt.NDArray[Any]:
        """Read the voxels of a box inside the image, NaN and infinity as they are: ``(c, [z,] y, x)``."""
        ...

    def decoded_along(self, axis: int, start: int, stop: int) -> int:
        """Return the stored voxels that are decoded along an axis, for a read of ``[start, stop)`` inside the image.

        More than are read where the file is decoded in pieces, or in other voxels than it is seen in.
        """
        ...

    def read_bytes(self, shape: Sequence[int]) -> int:
        """Return the bytes of memory that a read of a box of a shape takes at most, beside its voxels."""
        ...

    @property
    def open_bytes(self) -> int:
        """Bytes of memory that it takes a process to have the image open: libraries of its format, their caches."""
        ...

    def check_holes(self) -> None:
        """Raise VolumeError where missing chunks are errors and missing parts of a stored object could not be told."""
        ...

    def identities(self) -> Identities:
        """Find out what everything that the image is stored in is now, in one listing."""
        ...

    def close(self) -> None:
        """Let go of open files, when no thread reads any more."""
        ...


class ImageSpec(Protocol):
    """How an image is opened; small and picklable, and imports what its format needs only where it arrives."""

    def open(self) -> Image:
        """Open the image."""
        ...


class Identities(Protocol):
    """The identities of an image's stored objects at one moment."""

    def keys(self, box: Box) -> list[str]:
        """Return the names of the stored objects that a read of a spatial box inside the image depends on."""
        ...

    def digests(self, box: Box) -> list[str]:
        """Return the short digest of each one's identity (``HOLE`` where it is missing), in the order of ``keys``."""
        ...
