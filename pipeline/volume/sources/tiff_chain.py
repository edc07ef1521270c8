"""The chain of pages (IFDs) of a TIFF, walked before a library believes it.

Format: TIFF 6.0, section 2, and BigTIFF (Aware Systems, 2007): a header that points to the first page, and in each page
a count of tags of fixed size, and the place of the next page.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from pipeline.errors import VolumeError

MAX_PAGES = 1 << 18
"""Most pages of one file: each takes memory of its own, however small the file."""

MAX_TAGS = 4096
"""Most tags of one page; the standards name a few hundred."""


def check_chain(handle: BinaryIO, size: int, name: str) -> int:
    """Walk the pages of a TIFF, and return how many there are.

    Args:
        handle: the open file; its position is left anywhere.
        size: length of the file in bytes.
        name: what messages call it.

    Raises:
        VolumeError: no page, a page that begins or ends outside of the file, pages in a circle, too many.
    """
    order, big = _header(handle, name)
    count_form, place_form, tag_size = (f"{order}Q", f"{order}Q", 20) if big else (f"{order}H", f"{order}I", 12)
    seen: set[int] = set()
    at = _number(handle, 8 if big else 4, place_form)
    while at:
        if at in seen:
            raise VolumeError(
                f"{name}: damaged: its pages go round in a circle after page {len(seen)}, at byte {at}"
            )
        if len(seen) >= MAX_PAGES:
            raise VolumeError(f"{name}: more than {MAX_PAGES} pages, which is most that are read; split it")
        tags = _number(handle, at, count_form) if at + struct.calcsize(count_form) <= size else 0
        end = at + struct.calcsize(count_form) + tags * tag_size
        if not 0 < tags <= MAX_TAGS or end + struct.calcsize(place_form) > size:
            raise VolumeError(
                f"{name}: cut off: the page after page {len(seen)} is missing: it should begin at byte {at} with 1 to"
                f" {MAX_TAGS} tags; there are {tags}, and the file has {size} bytes"
            )
        seen.add(at)
        at = _number(handle, end, place_form)
    if not seen:
        raise VolumeError(f"{name}: a TIFF without an image")
    return len(seen)


def _header(handle: BinaryIO, name: str) -> tuple[str, bool]:
    """Return the byte order, as struct writes it, and whether it is a BigTIFF."""
    handle.seek(0)
    head = handle.read(8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise VolumeError(f"{name}: cut off: it has {len(head)} bytes, which is no TIFF")
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    return order, version == 43


def _number(handle: BinaryIO, at: int, form: str) -> int:
    """Read one number; 0 where the file ends before it."""
    handle.seek(at)
    data = handle.read(struct.calcsize(form))
    return int(struct.unpack(form, data)[0]) if len(data) == struct.calcsize(form) else 0
