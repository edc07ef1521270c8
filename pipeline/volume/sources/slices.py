"""Ingest of a stack of 2-D images, one file a slice: PNG, JPEG or TIFF, in the natural order of their names.

Natural order counts: ``s2.png`` comes before ``s10.png``. All slices have the same format, shape, channels and
dtype. The voxel size along z is in no such file, so the voxel size is what the user says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.store import list_files, open_file
from pipeline.volume.sources.images import open_image
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, check_only_level, check_own_axes
from pipeline.volume.sources.tiff import open_tiff
from pipeline.volume.space import Space

_FORMATS = {
    ".png": ("PNG", open_image),
    ".jpg": ("JPEG", open_image),
    ".jpeg": ("JPEG", open_image),
    ".tif": ("TIFF", open_tiff),
    ".tiff": ("TIFF", open_tiff),
}
"""Format and opener of a slice, by the ending of its name."""

_Kind = tuple[str, tuple[int, ...], int | None, str]
"""What all slices have in common: format, shape, channels, dtype."""


@dataclass(slots=True, eq=False)
class SliceSource(Source):
    """A stack of files. A read opens, decodes and closes the files of its slices, one after the other.

    Attributes:
        paths: address of one file a slice, z = 0 first.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    paths: tuple[str, ...]

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(c, z, y, x)``."""
        (first, last), *_ = box
        plane = Box(box.start[1:], box.stop[1:])
        out = np.empty((self.channels or 1, *box.shape), self.dtype)
        for z in range(first, last):
            with _open(self.paths[z]) as image:
                if (image.shape, image.channels, image.dtype) != (self.shape[1:], self.channels, self.dtype):
                    raise VolumeError(f"{self.paths[z]}: it was changed while it was read; begin again")
                out[:, z - first] = image.read(plane)
        return out

    def files_below(self, box: Box) -> tuple[str, ...]:
        """Return the files of the slices that a box meets."""
        return self.files[box.start[0] : box.stop[0]]

    def where(self, voxel: Sequence[int]) -> str:
        """Say in which file a voxel is, and where."""
        return f"{self.paths[voxel[0]]} (slice {voxel[0]}), voxel {voxel[1]},{voxel[2]}"


def open_slices(path: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open a folder of images, or the files that a pattern (``slices/*.png``) matches: ``zyx``, ``czyx`` if RGB.

    Files of a folder that are hidden or no images by their ending are left out.

    Raises:
        VolumeError: no images, or a slice that differs from the first one, which is named.
    """
    name = str(path)
    check_only_level(reading.level, where=name)
    files = list_slices(path)
    kind = _kind(files[0])
    for file in files[1:]:
        other = _kind(file)
        if other != kind:
            raise VolumeError(
                f"{file}: {_describe(other)}, but {open_file(files[0]).name} is {_describe(kind)}; all slices must be"
                " alike. Name the ones to take by a pattern, as FOLDER/*.png"
            )
    _, shape, channels, dtype = kind
    check_own_axes(reading.axes, "zyx" if channels is None else "czyx", where=name)
    whole = (len(files), *shape)
    source = SliceSource(name, whole, channels, np.dtype(dtype), Space.unscaled("zyx"), (1, *shape), tuple(files))
    source.files = source.paths
    return source


def list_slices(path: str | Path) -> list[str]:
    """Return the addresses of the slices in a folder or prefix, or that a pattern matches, in natural order.

    Raises:
        VolumeError: there are none.
    """
    files = [f.url for f in list_files(path) if _ending(f.name) in _FORMATS and not f.name.startswith(".")]
    if not files:
        raise VolumeError(f"{path}: no slices there; they end in {', '.join(_FORMATS)}")
    return sorted(files, key=lambda url: (natural_key(url), url))


def natural_key(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers inside of names by value."""
    parts = re.split(r"([0-9]+)", text)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _open(file: str) -> Source:
    _, opener = _FORMATS[_ending(file)]
    return opener(file)


def _kind(file: str) -> _Kind:
    """Return what a slice has in common with the others, by its header."""
    with _open(file) as image:
        if image.space.axes != "yx":
            raise VolumeError(
                f"{file}: a slice has axes y and x, but this file is a stack of its own; ingest it alone"
            )
        return _FORMATS[_ending(file)][0], image.shape, image.channels, image.dtype.name


def _describe(kind: _Kind) -> str:
    label, shape, channels, dtype = kind
    return f"{label} {shape[0]} x {shape[1]} {'grey' if channels is None else f'of {channels} channels'} {dtype}"
