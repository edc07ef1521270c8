"""An image of any format as the network looks at it: the files below a box are identified before they are read."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.geometry import Box, visible_box
from pipeline.store import LocalPlace, absolute, open_place
from pipeline.store.address import has_pattern
from pipeline.volume.file_look import FileIdentities, FileLook, file_stats
from pipeline.volume.geo import Georeference
from pipeline.volume.image import Image, ImageSpec
from pipeline.volume.sources.formats import open_source
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source
from pipeline.volume.space import Space
from pipeline.volume.zarr_spec import ZarrSpec

PIECE_COPIES = 4
"""Times that a strip, tile or whole image lies in memory while a part of it is read: as the library decodes it, as an
array of it, and as what is cut out of it."""

LIBRARIES = 80 << 20
"""Bytes of memory of the libraries of all formats: 70 MiB on Linux (GDAL 30, TensorStore 17, HDF5 11), measured as they
are imported one after the other."""

_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")

_CHOICES = ("bands", "crs", "snap", "warp", "resampling")
"""What a user may say that decides which voxels there are."""


class FileImage:
    """One resolution level of an image in files. Any number of threads may read at once.

    Attributes:
        url: where it was opened, as the user named it.
        source: reads it; closed by :meth:`close`, or with the last that knows the image (a plan, a worker).
        reading: what the user says of it.
    """

    def __init__(self, url: str, source: Source, reading: Reading = DEFAULT) -> None:
        self.url = url
        self.source = source
        self.reading = reading
        self.opened = file_stats(source.files)
        self._scale: tuple[float, ...] | None = None
        self._lock = threading.Lock()
        self._closing = weakref.finalize(self, source.close)

    @property
    def axes(self) -> str:
        """Axis names of what is read."""
        return self.source.space.axes if self.source.channels is None else f"c{self.source.space.axes}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in voxels."""
        return self.source.shape

    @property
    def box(self) -> Box:
        """The whole image."""
        return Box.of_shape(self.shape)

    @property
    def channels(self) -> int:
        """Number of channels; 1 where there is no channel axis."""
        return self.source.channels or 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the voxels."""
        return self.source.dtype

    @property
    def space(self) -> Space:
        """Spatial axes, voxel size, origin and unit of this level."""
        return self.source.space

    @property
    def geo(self) -> Georeference | None:
        """Where on Earth the voxels of this level lie."""
        return self.source.geo

    @property
    def scale(self) -> tuple[float, ...]:
        """Voxels of level 0 that a voxel of this level spans; found out by opening level 0 for a moment."""
        if self.level == 0:
            return ()
        with self._lock:
            if self._scale is None:
                unit = (1.0,) * len(self.shape)
                finest = replace(self.reading, level=0, voxel_size=unit, unit=None)
                with open_source(self.url, finest) as source:
                    self._scale = tuple(n / m for n, m in zip(source.shape, self.shape, strict=True))
            return self._scale

    @property
    def pieces(self) -> tuple[int, ...]:
        """Spatial shape of what is decoded at once; single voxels where any box is cheap."""
        return self.source.slab or (1,) * len(self.shape)

    @property
    def level(self) -> int:
        """Which resolution level this is."""
        return self.reading.level

    @property
    def level_count(self) -> int:
        """Number of resolution levels that there are."""
        return self.source.levels

    @property
    def metadata(self) -> dict[str, Any]:
        """What identifies the image beside its address and level: its layout, and what the user chose of it."""
        chosen = {name: getattr(self.reading, name) for name in _CHOICES}
        said = {name: value for name, value in chosen.items() if value != getattr(DEFAULT, name)}
        return {
            "shape": list(self.shape),
            "channels": self.source.channels,
            "dtype": self.dtype.name,
            "reading": {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()},
        }

    def look(self, box: Box, *, holes: str | None = None) -> FileLook:
        """Identify the files below a box, before anything is read.

        Args:
            box: spatial box in voxels; may reach outside the image.
            holes: has no meaning here: a file that is missing is always an error.

        Raises:
            MissingChunkError: a file is not there any more.
            InputDamageError: a file is another one than when the image was opened.
            StoreError: the store does not answer.
        """
        inside = visible_box(box, self.shape)
        files = self.source.files_below(inside)
        look = FileLook(self, box, inside, files, file_stats(files))
        look.check()
        return look

    def read(self, box: Box, *, holes: str | None = None) -> npt.NDArray[Any]:
        """Read the voxels of a box inside the image, NaN and infinity as they are. Errors as :meth:`look`."""
        assert self.box.contains(box), (box, self.shape)
        return self.look(box).read()

    def decoded_along(self, axis: int, start: int, stop: int) -> int:
        """Return the voxels that are decoded along an axis for a read: whole pieces."""
        piece = self.pieces[axis]
        return min(-(-stop // piece) * piece, self.shape[axis]) - start // piece * piece

    def read_bytes(self, shape: Sequence[int]) -> int:
        """Return the bytes of memory that a read takes beside its voxels: of the pieces in hand."""
        if self.source.slab is None:
            return 0
        piece = math.prod(min(p, n) for p, n in zip(self.pieces, self.shape, strict=True))
        return PIECE_COPIES * piece * self.channels * self.dtype.itemsize

    @property
    def open_bytes(self) -> int:
        """Bytes of memory that it takes to have the image open."""
        return LIBRARIES

    def check_holes(self) -> None:
        """Files have no chunks that could be missing without a word: nothing to check."""

    def identities(self) -> FileIdentities:
        """Find out what every file is now."""
        return FileIdentities(self.source)

    def close(self) -> None:
        """Let go of the files."""
        self._closing()


def open_image(url: str | Path, reading: Reading = DEFAULT) -> Image:
    """Open one resolution level of an image of any format, for a network to look at.

    Args:
        url: a Zarr (v2, v3, OME-Zarr), on disk or in an object store; or any file, folder or pattern that
            :func:`pipeline.volume.sources.open_source` reads.
        reading: what the user says of it.

    Returns:
        A :class:`pipeline.volume.volume.Volume` of a Zarr, a :class:`FileImage` of anything else.

    Raises:
        VolumeError: it cannot be opened, or what the user says does not fit it.
        InputError: an address of another form; a format whose extra is not installed.
        StoreError: the store does not answer.
    """
    return image_spec(url, reading).open()


@dataclass(frozen=True, slots=True)
class FileSpec:
    """How an image in files is opened; small and picklable.

    Attributes:
        url: its address.
        reading: what the user says of it.
    """

    url: str
    reading: Reading

    def open(self) -> FileImage:
        """Open it; errors as :func:`open_image`."""
        return FileImage(self.url, open_source(self.url, self.reading), self.reading)


def image_spec(url: str | Path, reading: Reading) -> ImageSpec:
    """Return how an image is opened: looks at what there is, and opens nothing. Errors as :func:`open_image`."""
    return (ZarrSpec if is_zarr(url) else FileSpec)(str(url), reading)


def absolute_image(url: str | Path) -> str:
    """Return the address of an image that means the same in any process, a dataset (``::/name``) behind it."""
    file, dataset = split_address(url)
    return absolute(file) + dataset


def split_address(url: str | Path) -> tuple[str, str]:
    """Return the address of an image's file, folder or pattern, and the dataset behind it (``::/name``, or "")."""
    text = str(url)
    if "::" not in text or Path(text).exists():
        return text, ""
    file, mark, dataset = text.rpartition("::")
    return file, mark + dataset


def is_zarr(url: str | Path) -> bool:
    """Whether there is a Zarr, or a name that ends as one's does."""
    file, dataset = split_address(url)
    if dataset or has_pattern(file):
        return False
    place = open_place(file)
    if str(file).rstrip("/").endswith(".zarr") or (isinstance(place, LocalPlace) and place.root.is_file()):
        return not (isinstance(place, LocalPlace) and place.root.is_file())
    return any(stat is not None for stat in place.stats(_ZARR_FILES))
