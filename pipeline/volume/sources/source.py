"""What an image of any format looks like to ingest: a volume that is read box by box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume.boxes import read_box
from pipeline.volume.faults import lies_in_the_bytes
from pipeline.volume.geo import Georeference
from pipeline.volume.opening import KINDS
from pipeline.volume.space import Space, check_axes, check_one_time


class Source(Protocol):
    """An open image. Any number of threads may call :meth:`read` at once; :meth:`close` when none does.

    Attributes:
        name: what messages call it.
        shape: spatial shape in voxels, in the order of ``space.axes``.
        channels: None for an image without a channel axis.
        dtype: data type of the voxels, in native byte order.
        space: axes, voxel size, origin, unit; :func:`open_source` replaces it by what the user says.
        slab: spatial shape of the pieces that the file is decoded in (a strip, a tile, a whole slice): a read of a
            part costs as much as the whole piece. None where any box is cheap.
        geo: where on Earth the voxels lie; None of an image that does not say it.
        levels: number of resolution levels that the file has.
        files: addresses of the files that it is read from.
        channel_names: what the file calls its channels, one name each; None where it does not name them.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    geo: Georeference | None = None
    levels: int = 1
    files: tuple[str, ...] = ()
    channel_names: tuple[str, ...] | None = None

    def files_below(self, box: Box) -> tuple[str, ...]:
        """Return those of :attr:`files` that a read of a box depends on."""
        return self.files

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box inside the image: ``(c, [z,] y, x)``, one channel where ``channels`` is None.

        Raises:
            VolumeError: the voxels cannot be decoded; of a Zarr, see :meth:`pipeline.volume.volume.Volume.read`.
        """
        ...

    def where(self, voxel: Sequence[int]) -> str:
        """Say where a voxel is, for messages."""
        return f"{self.name}, voxel {','.join(str(int(i)) for i in voxel)}"

    def close(self) -> None:
        """Let go of open files."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True, eq=False)
class ArraySource(Source):
    """An image that can be cut by slices: a memory-mapped file, or an array that is decoded piece by piece.

    Attributes:
        array: cut by slices, from any thread.
        axes: axis names of ``array``.
        closing: lets go of the file.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    array: Any
    axes: str
    closing: Callable[[], None]

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(c, [z,] y, x)``."""
        try:
            return read_box(self.array, self.axes, box)
        except Exception as error:
            if not lies_in_the_bytes(error):  # the store does not answer, the machine failed
                raise
            raise unreadable(self.name, error, f"voxels {box}") from error

    def close(self) -> None:
        """Let go of the file."""
        self.array = None
        self.closing()


def array_source(
    name: str,
    array: Any,
    axes: str,
    *,
    pieces: Sequence[int] | None = None,
    space: Space | None = None,
    closing: Callable[[], None] = lambda: None,
) -> ArraySource:
    """Return the source of an array.

    Args:
        name: what messages call it.
        array: has ``shape`` and ``dtype`` and is cut by slices, from any thread.
        axes: axis names of ``array``.
        pieces: shape of the pieces that it is decoded in, over all its axes; None where any box is cheap.
        space: None for unit voxels.
        closing: lets go of the file.

    Raises:
        VolumeError: the axes, the shape or the dtype are none that a volume can have.
    """
    axes = check_axes(axes, len(array.shape), where=name)
    check_one_time(axes, array.shape, where=name)
    dtype = check_dtype(array.dtype, where=name)
    if 0 in array.shape:
        raise VolumeError(f"{name}: shape {tuple(array.shape)} holds no voxel")
    lengths = dict(zip(axes, array.shape, strict=True))
    spatial = "".join(a for a in "zyx" if a in axes)
    slab = None if pieces is None else tuple(int(pieces[axes.index(a)]) for a in spatial)
    return ArraySource(
        name=name,
        shape=tuple(int(lengths[a]) for a in spatial),
        channels=int(lengths["c"]) if "c" in lengths else None,
        dtype=dtype,
        space=space or Space.unscaled(spatial),
        slab=slab,
        array=array,
        axes=axes,
        closing=closing,
    )


def check_dtype(dtype: Any, *, where: str) -> np.dtype[Any]:
    """Return a dtype in native byte order.

    Raises:
        VolumeError: it is not numeric.
    """
    if not isinstance(dtype, np.dtype) or dtype.kind not in KINDS:
        raise VolumeError(f"{where}: data type {dtype} is not numeric; a volume holds bool, integers or floats")
    return dtype.newbyteorder("=")


def check_own_axes(axes: str | None, own: str, *, where: str) -> None:
    """Raise VolumeError if the user names other axes than a format, whose axes are certain, has."""
    if axes is not None and axes.lower() != own:
        raise VolumeError(f"{where}: its axes are {own}, not {axes!r}; leave --axes out")


def check_only_level(level: int, *, where: str) -> None:
    """Raise VolumeError if another level than 0 is asked of a format that has no levels."""
    if level != 0:
        raise VolumeError(f"{where}: there is no level {level}; this format has level 0 only")


def unreadable(name: str, error: Exception, what: str = "it") -> VolumeError:
    """Return the error for a file that a library cannot decode."""
    return VolumeError(f"{name}: {what} cannot be read ({type(error).__name__}: {error}); the file may be damaged")
