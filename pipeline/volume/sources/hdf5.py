"""Ingest of one dataset of an HDF5 file, read box by box: ``file.h5::/dataset``.

Axes come from the user or from the dataset's attributes: ``axistags`` (ilastik, vigra), ``DIMENSION_LABELS`` (HDF5's
dimension scales) or ``element_size_um`` (Fiji's HDF5 plugin, plant-seg: z, y, x in micrometres), which tells the voxel
size too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, StoreError, VolumeError
from pipeline.store import open_file
from pipeline.volume.faults import lies_in_the_bytes
from pipeline.volume.opening import KINDS
from pipeline.volume.sources.hdf5_guard import check_dataset, check_links
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, array_source, check_only_level, unreadable
from pipeline.volume.space import Space

try:
    import h5py
except ImportError:  # an extra: only those who read HDF5 need it
    h5py = None

MAGIC = (b"\x89HDF\r\n\x1a\n",)

SEPARATOR = "::"
"""Between the file and the dataset in it."""

_LISTED = 20
"""Most datasets that a message lists."""


@dataclass(frozen=True, slots=True)
class LockedDataset:
    """A dataset that any number of threads cut at once: HDF5 does one thing at a time.

    Attributes:
        dataset: of an open file.
        lock: held while the file is read.
    """

    dataset: Any
    lock: threading.Lock

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape over all axes, in voxels."""
        return tuple(self.dataset.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type as it is stored."""
        dtype: np.dtype[Any] = self.dataset.dtype
        return dtype

    def __getitem__(self, cut: tuple[slice | int, ...]) -> npt.NDArray[Any]:
        with self.lock:
            try:
                return np.asarray(self.dataset[cut])
            except Exception as error:
                cause = _cause(error)
                if cause is error:
                    raise
                raise cause from None


def split_dataset(path: str | Path) -> tuple[str, str | None]:
    """Return the file and the dataset of ``file.h5::/dataset``; a path without ``::``, or that exists, is a file."""
    text = str(path)
    if SEPARATOR not in text or Path(text).exists():
        return text, None
    file, _, dataset = text.rpartition(SEPARATOR)
    return file, dataset


def open_hdf5(path: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open a dataset of an HDF5 file; its chunks are the slab.

    Args:
        path: ``file.h5::/dataset``, or a file that holds exactly one numeric dataset; or its address.
        reading: what the user says; holds the axes where the attributes of the dataset do not say them.

    Raises:
        InputError: the extra ``hdf5`` is not installed.
        VolumeError: damaged, no such dataset, several of them, no numbers in it, axes that cannot be known; a dataset
            that lies in other files, or needs a filter that is not installed.
        StoreError: the store does not answer.
    """
    if h5py is None:
        raise InputError(f"{path}: HDF5 needs the extra 'hdf5'; install it: pip install 'overtile[hdf5]'")
    check_only_level(reading.level, where=str(path))
    place, wanted = split_dataset(path)
    handle: BinaryIO | None = None
    opened: Any = None
    try:
        lying = open_file(place)
        handle = None if lying.path is not None else lying.open()
        opened = _open_file(lying.path or handle)
        source = _open_dataset(opened, place, wanted, reading.axes)
    except Exception as error:
        for thing in (opened, handle):
            if thing is not None:
                thing.close()
        if not lies_in_the_bytes(_cause(error)):
            raise _cause(error) from None
        raise unreadable(str(path), error) from error
    source.files = (lying.url,)
    return source


def _open_file(where: Path | BinaryIO | None) -> Any:
    """Open a file of this machine, or one that is read through a handle."""
    if isinstance(where, Path):
        return h5py.File(where, "r", locking="best-effort")
    return h5py.File(where, "r")


def _cause(error: Exception) -> Exception:
    """Return the error that a remote handle raised, which HDF5 wraps into one of its own."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, StoreError | PermissionError):
            return inner
        inner = inner.__cause__ or inner.__context__
    return error


def _open_dataset(file: Any, place: str, wanted: str | None, axes: str | None) -> Source:
    """Return the source of one dataset, which closes the file."""
    dataset = _only_dataset(file, place) if wanted is None else _named_dataset(file, place, wanted)
    name = f"{place}{SEPARATOR}{dataset.name}"
    check_dataset(dataset, name)
    if not dataset.shape:
        raise VolumeError(f"{name}: a single value or none, no array; name a dataset that holds voxels")
    axes = axes or _own_axes(dataset, name)
    lock = threading.Lock()

    def closing() -> None:
        with lock:
            file.close()

    source = array_source(name, LockedDataset(dataset, lock), axes, pieces=dataset.chunks, closing=closing)
    source.space = _space(dataset.attrs, source.space.axes)
    return source


def _named_dataset(file: Any, place: str, wanted: str) -> Any:
    """Return the dataset of a name."""
    check_links(file, wanted, place)
    found = file.get(wanted) if wanted.strip("/") else None
    if not isinstance(found, h5py.Dataset):
        what = "a group, no dataset" if isinstance(found, h5py.Group) else "no dataset"
        raise VolumeError(f"{place}: {wanted!r} is {what} of this file; it holds {_listed(_datasets(file))}")
    return found


def _only_dataset(file: Any, place: str) -> Any:
    """Return the only numeric dataset."""
    found = _datasets(file)
    if len(found) != 1:
        raise VolumeError(
            f"{place}: it holds {_listed(found)}; name one dataset of numbers after the file:"
            f" {open_file(place).name}{SEPARATOR}/{next(iter(found), 'dataset')}"
        )
    return next(iter(found.values()))


def _datasets(file: Any) -> dict[str, Any]:
    """Return the datasets that hold an array of numbers, by name; links are not followed."""
    found = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape and item.dtype.kind in KINDS:
            found[name] = item

    file.visititems(visit)
    return found


def _listed(found: Mapping[str, Any]) -> str:
    """Say which datasets there are."""
    if not found:
        return "no dataset of numbers"
    names = [f"/{name} {item.shape} {item.dtype}" for name, item in found.items()]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"these datasets of numbers: {', '.join(names[:_LISTED])}{more}"


def _own_axes(dataset: Any, name: str) -> str:
    """Return the axes that the dataset's attributes say; ``yx`` for a plane that says nothing."""
    labels = _axistags(dataset.attrs) or _labels(dataset)
    if labels is not None:
        return "".join(labels)
    if dataset.ndim == 2:
        return "yx"
    if dataset.ndim == 3 and len(_element_size(dataset.attrs)) == 3:
        return "zyx"
    raise VolumeError(
        f"{name}: a dataset of shape {dataset.shape} does not name its axes; say them with --axes, for example zyx,"
        " cyx, yxc or czyx"
    )


def _axistags(attributes: Mapping[str, Any]) -> list[str] | None:
    """Return the axes that ilastik wrote."""
    try:
        tags = json.loads(attributes["axistags"])
        return [str(axis["key"]) for axis in tags["axes"]]
    except (KeyError, TypeError, ValueError):
        return None


def _labels(dataset: Any) -> list[str] | None:
    """Return HDF5's labels of the dimensions, if each is the name of an axis."""
    labels = [str(dimension.label).lower() for dimension in dataset.dims]
    return labels if all(len(label) == 1 for label in labels) else None


def _element_size(attributes: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the extents of a voxel in micrometres, z, y, x; none where they are not told."""
    try:
        sizes = np.asarray(attributes["element_size_um"], dtype="f8").ravel()
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(float(s) for s in sizes) if np.isfinite(sizes).all() and (sizes > 0).all() else ()


def _space(attributes: Mapping[str, Any], axes: str) -> Space:
    """Return the space that the attributes tell; unit voxels where they do not."""
    sizes = _element_size(attributes)
    if len(sizes) not in (len(axes), 3):
        return Space.unscaled(axes)
    return Space(axes, sizes[-len(axes) :], (0.0,) * len(axes), "micrometer")
