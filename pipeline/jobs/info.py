"""Say what an image is, whatever it is stored in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.volume.file_image import is_zarr
from pipeline.volume.file_info import file_info
from pipeline.volume.info import info as volume_info
from pipeline.volume.sources.reading import Reading


def info(path: str | Path, *, level: int = 0, axes: str | None = None) -> dict[str, Any]:
    """Return a description of a Zarr volume or of an image file, made of strings, numbers, lists and None.

    Args:
        path: a Zarr array, an OME-Zarr image, or a file of any format that can be segmented.
        level: resolution level that is described.
        axes: names of the stored axes, where nothing says them.

    Raises:
        VolumeError: it cannot be opened.
        InputError: an address of another form; a format whose extra is not installed.
        StoreError: the store does not answer.
    """
    if is_zarr(path):
        return volume_info(path, level=level, axes=axes)
    return file_info(path, Reading(axes=axes, level=level))
