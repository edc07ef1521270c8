"""Files that claim what they do not hold: TIFFs made tag by tag, and other formats cut, lied about or linked away."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16

GREY = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 277: 1}
"""Width, length, bits, compression, photometric, samples: a page of 64 x 64 grey pixels."""

TILED = {**GREY, 322: 64, 323: 64}
"""The same in one tile; offsets (324) and byte counts (325) are missing."""


def tiff(
    *pages: Mapping[int, Any], big: bool = False, following: Sequence[int] | None = None, data: bytes = b""
) -> bytes:
    """Return a TIFF of pages of tags.

    Args:
        pages: value or list of values by tag; written as LONG (LONG8 in a BigTIFF).
        big: whether it is a BigTIFF.
        following: number of the page after each page in place of the next one; -1 ends, others are taken as offsets
            if they are larger than the number of pages.
        data: lies behind the header, at byte 8 (16 in a BigTIFF).
    """
    word, kind, size = ("Q", LONG8, 8) if big else ("I", LONG, 4)
    head = 16 if big else 8
    at = head + len(data)
    starts, bodies = [], []
    for tags in pages:
        starts.append(at)
        count = (8 if big else 2) + len(tags) * (20 if big else 12) + size
        extra = b""
        entries = b""
        for tag, value in sorted(tags.items()):
            values = value if isinstance(value, list | tuple) else [value]
            packed = struct.pack(f"<{len(values)}{word}", *values)
            if len(packed) > size:
                place = struct.pack(f"<{word}", at + count + len(extra))
                extra += packed
                packed = place
            entries += struct.pack(f"<HH{word}", tag, kind, len(values)) + packed.ljust(size, b"\0")
        bodies.append((struct.pack("<Q" if big else "<H", len(tags)), entries, extra))
        at += count + len(extra)
    out = [
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, starts[0]) if big else struct.pack("<2sHI", b"II", 42, starts[0]),
        data,
    ]
    for number, (count, entries, extra) in enumerate(bodies):
        after = number + 1 if following is None else following[number]
        place = 0 if after < 0 else starts[after] if after < len(starts) else 0 if following is None else after
        out += [count, entries, struct.pack(f"<{word}", place), extra]
    return b"".join(out)


def one_tile(data: bytes, compression: int, **tags: int) -> bytes:
    """Return a TIFF of one tile of 64 x 64 grey pixels, or what ``tags`` (t256=...) say, with these bytes in it."""
    changed = {int(name[1:]): value for name, value in tags.items()}
    return tiff({**TILED, 259: compression, 324: 8, 325: len(data), **changed}, data=data)


def png_header(rows: int, columns: int, *, data: bytes = b"") -> bytes:
    """Return a PNG of 8-bit grey that claims a size; ``data`` is deflated into it."""
    body = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", body), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def encoded(form: str, rows: int, columns: int, **options: Any) -> bytes:
    """Return a small image that Pillow encodes."""
    file = io.BytesIO()
    voxels = (np.indices((rows, columns)).sum(0) % 251).astype("u1")
    Image.fromarray(voxels).save(file, form, **options)
    return file.getvalue()


def npy_header(shape: str, dtype: str = "|u1", version: int = 1) -> bytes:
    """Return a .npy file of a header and 64 bytes."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text + b"\0" * 64
