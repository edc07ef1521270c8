"""What an HDF5 file may not make us do: follow links into other files, load filters that are not there.

A dataset that is read lies in the file that the user named, and is decoded by filters that are installed. External
links, virtual datasets and external storage name other files, wherever the file's author wished them.
"""

from __future__ import annotations

import math
from typing import Any

from pipeline.errors import VolumeError

try:
    import h5py
except ImportError:  # an extra: only those who read HDF5 need it
    h5py = None

CHUNK_BYTES = 1 << 31
"""Largest chunk, decoded, that is read: a small file can claim any size, and a chunk is decoded whole."""

_LINKS = 32
"""Most links inside the file that are followed on the way to a dataset."""

_NAMES = {
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32026: "Blosc2",
}
"""Filters that the HDF Group lists and that people meet (HDF5 Filters, registered numbers)."""


def check_links(file: Any, wanted: str, name: str) -> None:
    """Refuse a path that leads out of the file, before anything follows it.

    Args:
        file: open.
        wanted: path of a dataset, which may not exist.
        name: what messages call the file.

    Raises:
        VolumeError: an external link on the way, or links in a circle.
    """
    left = [part for part in wanted.split("/") if part]
    at = ""
    followed = 0
    while left:
        here = f"{at}/{left.pop(0)}"
        link = file.get(here, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise VolumeError(
                f"{name}: {here} is a link into another file ({link.filename}), which is not followed; name the dataset"
                " in that file"
            )
        if isinstance(link, h5py.SoftLink):
            followed += 1
            if followed > _LINKS:
                raise VolumeError(
                    f"{name}: {wanted}: more than {_LINKS} links one after the other, or in a circle"
                )
            target = link.path if link.path.startswith("/") else f"{at}/{link.path}"
            left = [part for part in target.split("/") if part and part != "."] + left
            at = ""
            continue
        at = here


def check_dataset(dataset: Any, name: str) -> None:
    """Refuse a dataset that lies in other files, is too large to be decoded piece by piece, or needs missing filters.

    Raises:
        VolumeError: virtual, stored externally, a filter that is not installed, chunks that no memory holds.
    """
    if dataset.is_virtual:
        others = sorted({source.file_name for source in dataset.virtual_sources()})
        raise VolumeError(
            f"{name}: a virtual dataset, made of other files ({', '.join(others[:5])}); copy it into one"
        )
    if dataset.external:
        raise VolumeError(f"{name}: its voxels lie in another file ({dataset.external[0][0]}); copy them into one")
    layout = dataset.id.get_create_plist()
    for i in range(layout.get_nfilters()):
        number, *_, label = layout.get_filter(i)
        if not h5py.h5z.filter_avail(number):
            known = _NAMES.get(number) or label.decode(errors="replace") or "unknown"
            raise VolumeError(
                f"{name}: it is compressed by filter {number} ({known}), which is not installed; save it with gzip"
            )
    size = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
    if size > CHUNK_BYTES:
        raise VolumeError(
            f"{name}: its chunks have {size} bytes, and at most {CHUNK_BYTES} are decoded at once; save it with smaller"
            " ones"
        )
