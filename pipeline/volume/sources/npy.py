"""One NumPy file without pickled objects (``.npy``): memory-mapped, elsewhere read by ranges."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from pipeline.errors import VolumeError
from pipeline.store import File, Stat, open_file
from pipeline.volume.faults import lies_in_the_bytes
from pipeline.volume.sources.raw import RawArray, Transposed
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, array_source, check_only_level, unreadable

MAGIC = (b"\x93NUMPY",)


def open_npy(path: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open a ``.npy`` file; 2-D arrays are ``yx``, others need ``axes``.

    Raises:
        VolumeError: damaged or cut off, objects inside, axes that cannot be known.
        StoreError: the store does not answer.
    """
    file, name = open_file(path), str(path)
    check_only_level(reading.level, where=name)
    try:
        array = _open(file, file.stat())
    except Exception as error:
        if not lies_in_the_bytes(error):
            raise
        raise unreadable(name, error) from error
    if reading.axes is None and len(array.shape) != 2:
        raise VolumeError(
            f"{path}: an array of shape {tuple(array.shape)} does not name its axes; say them with --axes,"
            " for example zyx, cyx, yxc or czyx"
        )
    source = array_source(name, array, reading.axes or "yx")
    source.files = (file.url,)
    return source


def _open(file: File, stat: Stat) -> Any:
    """Return an array that is read as it is cut, once the header is known to say what the file can hold."""
    with file.open() as handle:
        shape, fortran, dtype = _header(handle)
        offset = handle.tell()
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read: loading them may run code")
    end = offset + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or end > stat.size:
        raise ValueError(
            f"cut off: shape {shape} of {dtype} ends at byte {end}, but the file has {stat.size} bytes"
        )
    if file.path is not None and 0 not in shape:
        return np.memmap(file.path, dtype, "r", offset, shape, "F" if fortran else "C")
    if fortran:
        return Transposed(RawArray(file, stat, offset, dtype, shape[::-1]))
    return RawArray(file, stat, offset, dtype, shape)


def _header(handle: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the first axis varies fastest, and dtype."""
    version = npy_format.read_magic(handle)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the format; save it with numpy.save")
    shape, fortran, dtype = read(handle)
    return shape, fortran, dtype
