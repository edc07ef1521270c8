"""Ingest of one NumPy file, memory-mapped: ``.npy``, without pickled objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import VolumeError
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, array_source, check_only_level, unreadable

MAGIC = (b"\x93NUMPY",)


def open_npy(path: Path, reading: Reading = DEFAULT) -> Source:
    """Open a ``.npy`` file; 2-D arrays are ``yx``, others need ``axes``.

    Raises:
        VolumeError: damaged, objects inside, axes that cannot be known.
    """
    check_only_level(reading.level, where=str(path))
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise unreadable(str(path), error) from error
    if reading.axes is None and array.ndim != 2:
        raise VolumeError(
            f"{path}: an array of shape {array.shape} does not name its axes; say them with --axes,"
            " for example zyx, cyx, yxc or czyx"
        )
    return array_source(str(path), array, reading.axes or "yx")
