"""What a compressed tile says of its own size, before it is decoded: a few bytes may claim any number of pixels.

Codecs of images allocate what the header claims, so the claim is read first, without decoding: T.81 (JPEG), T.800
(JPEG 2000), the PNG and WebP specifications, ISO 18181 (JPEG XL). All other compressions that are read write into
memory of the tile's size and stop there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

Claim = tuple[int, int, int | None]
"""Rows, columns, and channels where the header tells them simply."""

_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA

J2K_START = b"\xff\x4f\xff\x51"
_J2K_TILES = 1024
"""Most tiles inside one JPEG 2000 codestream that is a tile itself: its decoder keeps tables for each."""

_XL_RATIOS = (None, (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


class HeaderError(ValueError):
    """A compressed tile whose header says nothing, or too much."""


def jpeg_claim(data: bytes) -> Claim | None:
    """Return what a JPEG claims; None if no frame begins before its first scan (as in tables alone)."""
    at = 2 if data[:2] == b"\xff\xd8" else 0
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or marker in _JPEG_ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAMES and at + 10 <= len(data):
            rows, columns, channels = struct.unpack_from(">HHB", data, at + 5)
            return rows, columns, channels
        if marker == _JPEG_SCAN:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def jpeg2000_claim(data: bytes) -> Claim | None:
    """Return what a JPEG 2000 codestream, or the first one in a JP2 file, claims."""
    at = data.find(J2K_START)
    if at < 0 or at + 42 > len(data):
        return None
    columns, rows, x, y, tile_columns, tile_rows, tile_x, tile_y = struct.unpack_from(">8I", data, at + 8)
    (channels,) = struct.unpack_from(">H", data, at + 40)
    if 0 in (tile_columns, tile_rows) or columns <= x or rows <= y:
        raise HeaderError("a JPEG 2000 header without pixels")
    tiles = -(-(columns - tile_x) // tile_columns) * -(-(rows - tile_y) // tile_rows)
    if tiles > _J2K_TILES:
        raise HeaderError(f"a JPEG 2000 header of {tiles} tiles in one")
    return rows - y, columns - x, channels


def png_claim(data: bytes) -> Claim | None:
    """Return what a PNG claims."""
    if data[12:16] != b"IHDR" or len(data) < 24:
        return None
    columns, rows = struct.unpack_from(">II", data, 16)
    return rows, columns, None


def webp_claim(data: bytes) -> Claim | None:
    """Return what a WebP claims: the largest of its canvas and its first frame."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        columns, rows = (1 + int.from_bytes(data[i : i + 3], "little") for i in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        columns, rows = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        columns, rows = (v & 0x3FFF for v in struct.unpack_from("<HH", data, 26))
    else:
        return None
    return rows, columns, None


def jpegxl_claim(data: bytes) -> Claim | None:
    """Return what a JPEG XL codestream, alone or in a container's first codestream box, claims."""
    if data[:2] != b"\xff\x0a":
        kind = next((k for k in (b"jxlc", b"jxlp") if k in data), None)
        if kind is None:
            return None
        data = data[data.index(kind) + (4 if kind == b"jxlc" else 8) :]
    if data[:2] != b"\xff\x0a" or len(data) < 12:
        return None
    bits = _Bits(int.from_bytes(data[2:12], "little"))
    small = bits.take(1)
    rows = _xl_length(bits, small)
    ratio = _XL_RATIOS[bits.take(3)]
    columns = _xl_length(bits, small) if ratio is None else rows * ratio[0] // ratio[1]
    return rows, columns, None


class _Bits:
    """Numbers of few bits, the lowest first."""

    def __init__(self, value: int) -> None:
        self._value = value

    def take(self, count: int) -> int:
        number = self._value & ((1 << count) - 1)
        self._value >>= count
        return number


def _xl_length(bits: _Bits, small: int) -> int:
    return (bits.take(5) + 1) * 8 if small else bits.take((9, 13, 18, 30)[bits.take(2)]) + 1


CLAIMS: dict[int, Callable[[bytes], Claim | None]] = {
    **dict.fromkeys((6, 7, 33007, 34892), jpeg_claim),
    **dict.fromkeys((33003, 33004, 33005, 34712), jpeg2000_claim),
    34933: png_claim,
    50001: webp_claim,
    **dict.fromkeys((50002, 52546), jpegxl_claim),
}
"""TIFF compressions whose tiles are images of their own, and what reads their claims."""

BOUNDED = frozenset((1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000, 50013))
"""TIFF compressions whose decoders stop at the size of the tile.

None, CCITT, LZW, deflate, PackBits, LZMA, Zstandard.
"""


def check_claim(compression: int, data: bytes, whole: tuple[int, int, int], seen: tuple[int, int]) -> None:
    """Raise HeaderError if a compressed tile claims another size than it may have.

    Args:
        compression: as TIFF numbers it.
        data: the compressed tile; of a JPEG whose header lies elsewhere, that header.
        whole: rows, columns and channels of a tile.
        seen: rows and columns of it that lie inside the image: a tile at the edge may hold no more.
    """
    reader = CLAIMS.get(compression)
    if reader is None:
        return
    claim = reader(data)
    if claim is None:
        raise HeaderError("a compressed tile without a header that tells its size")
    rows, columns, channels = claim
    fits = rows in range(seen[0], whole[0] + 1) and columns in range(seen[1], whole[1] + 1)
    if not fits or channels not in (None, whole[2]):
        what = "" if channels is None else f" of {channels} channels"
        raise HeaderError(
            f"its header claims {rows} x {columns} pixels{what}, where {whole[0]} x {whole[1]} of {whole[2]} belong"
        )
