"""Ingest of one PNG or JPEG file, decoded whole: grey (8 or 16 bits, or bits) and RGB.

Voxels are what Pillow decodes, neither turned by EXIF nor converted by colour profiles. An alpha channel is dropped
where it is opaque everywhere and refused otherwise: it would decide what is seen. Palettes are refused: their
indices may be class ids or mean nothing. RGB of 16 bits is refused: Pillow would silently halve its depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.store import File, open_file
from pipeline.volume.faults import lies_in_the_bytes
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, check_only_level, check_own_axes, unreadable
from pipeline.volume.space import Space

PNG = (b"\x89PNG\r\n\x1a\n",)
JPEG = (b"\xff\xd8\xff",)

LIMIT = 1 << 30
"""Most pixels of one file, which is decoded whole: 3 GiB in RGB. Pillow's own limit, 2**27.4, holds for everybody
in the process; so files are opened past it and this one is checked, before any pixel is decoded."""

DEFLATE = 1032
"""Most bytes that deflate makes of one byte (zlib's documentation)."""

JPEG_PIXELS = 1 << 12
"""Most pixels that one byte of a JPEG is believed to hold: a block of 8 x 8 takes at least one bit a component."""

_MODES: dict[str, tuple[int | None, str]] = {
    "1": (None, "?"),
    "L": (None, "u1"),
    "LA": (None, "u1"),
    "I;16": (None, "u2"),
    "I;16B": (None, "u2"),
    "RGB": (3, "u1"),
    "RGBA": (3, "u1"),
}
"""Pillow's modes: channels and dtype of the voxels."""

_HINTS = {
    "P": "its voxels are indices into a palette; save the indices as grey if they are class ids, else save it as RGB",
    "CMYK": "its channels are CMYK; convert it to RGB",
}


@dataclass(slots=True, eq=False)
class ImageSource(Source):
    """One PNG or JPEG file; every read decodes all of it, in memory of its own.

    Attributes:
        file: where it lies.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    file: File

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(c, y, x)``."""
        with _opened(self.file, self.name) as image:
            if (image.height, image.width) != self.shape:
                raise VolumeError(f"{self.name}: it was changed while it was read; begin again")
            voxels = _decode(image, self.name)
        if voxels.ndim == 2:
            voxels = voxels[:, :, np.newaxis]
        voxels = np.moveaxis(voxels[:, :, : self.channels or 1], -1, 0)
        return voxels[(slice(None), *box.slices)]


def open_image(path: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open a PNG or JPEG file: ``yx`` if it is grey, ``yxc`` if it is RGB.

    Raises:
        VolumeError: damaged, too large, an alpha channel that is not opaque, a palette, CMYK, 16 bits of RGB.
    """
    name = str(path)
    check_only_level(reading.level, where=name)
    file = open_file(path)
    with _opened(file, name) as image:
        if image.width * image.height > LIMIT:
            raise VolumeError(
                f"{name}: {image.width} x {image.height} pixels; a PNG or JPEG is decoded whole, so at most {LIMIT}"
                " are read: save it as a tiled TIFF"
            )
        channels, dtype = _layout(image, name)
        _check_claim(image, file.stat().size, name)
        if image.mode in ("LA", "RGBA"):
            _check_opaque(image, name)
        shape = (image.height, image.width)
    check_own_axes(reading.axes, "yx" if channels is None else "yxc", where=name)
    source = ImageSource(name, shape, channels, dtype, Space.unscaled("yx"), shape, file)
    source.files = (file.url,)
    return source


@contextmanager
def _opened(file: File, name: str) -> Iterator[PngImageFile | JpegImageFile]:
    """Give the image of a file whose header is read, which does not depend on how large the image is."""
    with file.open() as handle:
        try:
            is_png = handle.read(len(PNG[0])) == PNG[0]
            handle.seek(0)
            image = PngImageFile(handle) if is_png else JpegImageFile(handle)
        except Exception as error:
            if not lies_in_the_bytes(error):
                raise
            raise unreadable(name, error) from error
        with image:
            yield image


def _check_claim(image: PngImageFile | JpegImageFile, size: int, name: str) -> None:
    """Refuse an image whose header claims more pixels than the file's bytes can hold."""
    most = size * (DEFLATE * 8 if isinstance(image, PngImageFile) else JPEG_PIXELS)
    least = image.width * image.height
    if least > most:
        raise VolumeError(
            f"{name}: damaged or cut off: its header claims {image.height} x {image.width} pixels, more than {size}"
            " bytes can hold"
        )


def _layout(image: PngImageFile | JpegImageFile, name: str) -> tuple[int | None, np.dtype[Any]]:
    """Return channels and dtype, by the header."""
    if image.mode not in _MODES:
        hint = _HINTS.get(image.mode, "save it as grey or RGB")
        raise VolumeError(f"{name}: images of Pillow's mode {image.mode} are not read: {hint}")
    channels, dtype = _MODES[image.mode]
    rawmode = str(image.tile[0].args) if image.tile else ""
    if dtype == "u1" and "16" in rawmode:
        raise VolumeError(f"{name}: a PNG of 16 bits in {image.mode} would be read as 8 bits; save it as TIFF")
    return channels, np.dtype(dtype)


def _check_opaque(image: PngImageFile | JpegImageFile, name: str) -> None:
    """Refuse an image that shows something else where its alpha channel is applied."""
    alpha = _decode(image, name)[:, :, -1]
    if alpha.min() != 255:
        raise VolumeError(f"{name}: it has an alpha channel that is not opaque everywhere; flatten it first")


def _decode(image: PngImageFile | JpegImageFile, name: str) -> npt.NDArray[Any]:
    """Return the voxels, ``(y, x)`` or ``(y, x, c)`` with alpha."""
    try:
        voxels = np.asarray(image)
    except Exception as error:
        if not lies_in_the_bytes(error):
            raise
        raise unreadable(name, error) from error
    return voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
