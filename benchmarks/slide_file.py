"""A slide that nobody scanned: tissue on glass, as a tiled pyramidal JPEG in BigTIFF, of any size, in seconds.

What is at a place depends on the place alone, so a file of 24 GB of pixels is written without ever holding it: tiles
of pure glass and pure tissue are drawn from a small stock of encoded ones, and only those on the outline are rendered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from scipy.ndimage import gaussian_filter

TILE = 512
"""Pixels of a tile's side."""

STOCK = 16
"""Different tiles of glass, and of tissue."""

MICRONS = 0.25
"""Size of a pixel of level 0."""

QUALITY = 80

GLASS = (243.0, 241.0, 244.0)
"""Colour of empty glass under the lamp, RGB."""

STROMA, NUCLEUS = (226.0, 164.0, 200.0), (98.0, 62.0, 140.0)
"""Eosin's pink and haematoxylin's violet, RGB."""

_PIECES = ((0.30, 0.28, 0.16, 0.11), (0.62, 0.55, 0.12, 0.17), (0.36, 0.80, 0.07, 0.06))
"""Pieces of tissue: centre (y, x) and half axes as shares of the slide's height and width."""

Pixels = npt.NDArray[np.uint8]


def tissue_share(shape: tuple[int, int], samples: int = 2000) -> float:
    """Return the share of a slide's area that is tissue."""
    rows, columns = ((np.arange(samples) + 0.5) / samples * n for n in shape)
    return float(_inside(rows[:, np.newaxis], columns, shape).mean())


def write_slide(path: Path, shape: tuple[int, int], *, steps: tuple[int, ...] = (4, 16, 64)) -> Path:
    """Write a slide unless it is there.

    Args:
        path: the file, ``.tif``.
        shape: height and width of level 0 in pixels.
        steps: how many pixels of level 0, along each axis, a pixel of each coarser level spans.
    """
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    stock = _Stock()
    with tifffile.TiffWriter(part, bigtiff=True) as tif:
        for level, step in enumerate((1, *steps)):
            height, width = (-(-n // step) for n in shape)
            per_centimetre = 1e4 / (MICRONS * step)
            tif.write(
                _tiles(stock, (height, width), step, shape),
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                compression="jpeg",
                subifds=len(steps) if level == 0 else None,
                subfiletype=1 if level else 0,
                resolution=(per_centimetre, per_centimetre),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    part.rename(path)
    return path


class _Stock:
    """Tiles that are drawn from where nothing but glass, or nothing but tissue, is."""

    def __init__(self) -> None:
        self.glass = [_noise(i, GLASS, 1.5) for i in range(STOCK)]
        self.tissue = [_tissue(i) for i in range(STOCK)]
        self.encoded = {kind: [_encode(t) for t in getattr(self, kind)] for kind in ("glass", "tissue")}


def _tiles(stock: _Stock, shape: tuple[int, int], step: int, finest: tuple[int, int]) -> Iterator[bytes]:
    """Yield a level's tiles, encoded, row by row."""
    for row in range(0, shape[0], TILE):
        for column in range(0, shape[1], TILE):
            pick = (row // TILE * 31 + column // TILE * 17) % STOCK
            inside = _inside(
                (np.arange(row, row + TILE)[:, np.newaxis] + 0.5) * step,
                (np.arange(column, column + TILE) + 0.5) * step,
                finest,
            )
            if inside.any() and not inside.all():
                yield _encode(np.where(inside[..., np.newaxis], stock.tissue[pick], stock.glass[pick]))
            else:
                yield stock.encoded["tissue" if inside.any() else "glass"][pick]


def _inside(
    rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64], shape: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Return which places, in pixels of level 0, lie in a piece of tissue; its outline is wavy."""
    y, x = rows / shape[0], columns / shape[1]
    found = np.zeros(np.broadcast_shapes(y.shape, x.shape), np.bool_)
    for cy, cx, ry, rx in _PIECES:
        dy, dx = (y - cy) / ry, (x - cx) / rx
        wave = 0.12 * np.sin(9 * dy) + 0.12 * np.sin(7 * dx)
        found |= dy * dy + dx * dx + wave < 1
    return found


def _noise(seed: int, colour: tuple[float, ...], spread: float) -> Pixels:
    random = np.random.default_rng(seed)
    return np.clip(random.normal(colour, spread, (TILE, TILE, 3)), 0, 255).astype(np.uint8)


def _tissue(seed: int) -> Pixels:
    """Return pink stroma with violet nuclei."""
    random = np.random.default_rng(1000 + seed)
    texture = gaussian_filter(random.normal(0, 1, (TILE, TILE)), 12, mode="wrap")
    nuclei = gaussian_filter(random.normal(0, 1, (TILE, TILE)), 6, mode="wrap")
    nuclear = (nuclei > 1.2 * nuclei.std())[..., np.newaxis]
    stroma = np.array(STROMA) + 12 * (texture / texture.std())[..., np.newaxis]
    pixels = np.where(nuclear, NUCLEUS, stroma) + random.normal(0, 4, (TILE, TILE, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _encode(tile: Pixels) -> bytes:
    return bytes(imagecodecs.jpeg_encode(tile, level=QUALITY, colorspace="RGB", outcolorspace="YCBCR"))
