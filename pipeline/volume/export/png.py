"""An overview of a result as one picture with a legend, read from the level that fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import InputError
from pipeline.geometry import Box
from pipeline.volume.export.ahead import read
from pipeline.volume.export.colours import BACKGROUND, Colour, class_colour, class_name
from pipeline.volume.export.files import replaced
from pipeline.volume.volume import Volume

LONGEST = 2048
"""Pixels of the picture with its legend along the longer side, at most."""

BAND = 64 << 20
"""Bytes of voxels that are read at once; at least one row of voxels."""

LEGEND, LINE, SWATCH, SHOWN = 256, 22, 14, 28
"""Pixels of the legend's width, of a line in it, of a colour; and classes that it shows at most."""

WHITE: Colour = (255, 255, 255)
NAME = 30
"""Letters of a class's name that are shown."""

Pixels = npt.NDArray[np.uint8]


def write_png(levels: Sequence[Volume], target: Path, *, names: tuple[str, ...] = ()) -> tuple[int, int]:
    """Write a picture of a class map in its classes' colours, or of probabilities, with a legend beside it.

    The finest level that fits is shown; where none does, evenly spaced voxels of the coarsest one: class ids and
    probabilities stay what they are. Of a 3-D volume the middle plane is shown. Probabilities of several classes mix
    the classes' colours, those of one (a sigmoid) go from black to white.

    Args:
        levels: the volume and its coarser levels.
        target: file; what is there is replaced when all is written.
        names: of the class ids, or of the channels, 0, 1 ...

    Returns:
        Rows and columns of the picture, without its legend.

    Raises:
        InputError: floats that are no probabilities; the target is a folder, or its folder is not there.
        MissingChunkError: a stored chunk is missing.
        InputDamageError: a stored chunk does not decode.
    """
    volume = _fitting(levels)
    voxels = _sampled(volume)
    values: list[int] = []
    if "c" not in volume.axes and volume.dtype.kind in "iub":
        values = np.unique(voxels).tolist()
        picture = _classes(voxels[0], values)
    elif len(voxels) == 1:
        picture = np.repeat(np.rint(_shares(voxels, volume) * 255).astype(np.uint8)[0, ..., None], 3, axis=2)
    else:
        values = list(range(len(voxels)))
        picture = _mixed(_shares(voxels, volume))
    image = Image.fromarray(picture)
    if values:
        image = _with_legend(image, [(class_name(v, names), class_colour(v)) for v in values])
    with replaced(target) as partial:
        image.save(partial, format="PNG")
    return picture.shape[0], picture.shape[1]


def _fits(shape: Sequence[int]) -> bool:
    return shape[-2] <= LONGEST and shape[-1] <= LONGEST - LEGEND


def _fitting(levels: Sequence[Volume]) -> Volume:
    """Return the finest level that fits, else the coarsest one."""
    return next((level for level in levels if _fits(level.shape)), levels[-1])


def _sampled(volume: Volume) -> npt.NDArray[Any]:
    """Return evenly spaced voxels ``(c, h, w)`` of a plane, as many as fit; read in bands of rows."""
    height, width = volume.shape[-2:]
    step = max(1, -(-height // LONGEST), -(-width // (LONGEST - LEGEND)))
    middles = np.arange(min(step // 2, height - 1), height, step)
    columns = slice(min(step // 2, width - 1), None, step)
    found = []
    for box in _bands(volume):
        rows = middles[(middles >= box.start[-2]) & (middles < box.stop[-2])]
        if len(rows):
            band = read(volume, box)
            band = band.reshape(volume.channels, -1, width)
            found.append(band[:, rows - box.start[-2], columns].copy())
    return np.concatenate(found, axis=1)


def _bands(volume: Volume) -> Iterator[Box]:
    """Yield bands of rows of the volume, or of its middle plane, that follow each other."""
    *depth, height, width = volume.shape
    middle = tuple(n // 2 for n in depth)
    stored = volume.storage_grid.chunk[volume.axes.index("y")]
    most = max(1, BAND // (width * volume.channels * volume.dtype.itemsize))
    rows = max(1, most // stored * stored) if most >= stored else most
    for y in range(0, height, rows):
        yield Box((*middle, y, 0), (*(m + 1 for m in middle), min(y + rows, height), width))


def _classes(ids: npt.NDArray[Any], values: list[int]) -> Pixels:
    colours = np.array([class_colour(value) for value in values], np.uint8)
    picture: Pixels = colours[np.searchsorted(values, ids)]
    return picture


def _shares(voxels: npt.NDArray[Any], volume: Volume) -> npt.NDArray[np.float32]:
    """Return probabilities from 0 to 1."""
    if voxels.dtype == np.uint8:
        return voxels.astype(np.float32) / np.float32(255)
    if voxels.dtype.kind != "f" or not (voxels.min() >= 0 and voxels.max() <= 1.001):  # NaN is neither
        raise InputError(
            f"{volume.url}: its {voxels.dtype} values run from {voxels.min()} to {voxels.max()}; probabilities are"
            " uint8, or floats from 0 to 1. Segment with --kind labels or probabilities for an overview"
        )
    return voxels.astype(np.float32).clip(0, 1)


def _mixed(shares: npt.NDArray[np.float32]) -> Pixels:
    """Return the mean of the classes' colours, each weighted by its probability."""
    mixed = np.zeros((*shares.shape[1:], 3), np.float32)
    for value, share in enumerate(shares):
        mixed += share[..., None] * np.array(class_colour(value), np.float32)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def _with_legend(picture: Image.Image, classes: Sequence[tuple[str, Colour]]) -> Image.Image:
    """Return a picture with a column of the classes' colours and names to its right."""
    shown = list(classes[:SHOWN])
    if len(classes) > SHOWN:
        shown.append((f"and {len(classes) - SHOWN} more", WHITE))
    height = max(picture.height, LINE * (len(shown) + 1))
    whole = Image.new("RGB", (picture.width + LEGEND, height), WHITE)
    whole.paste(picture, (0, 0))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=SWATCH)
    left = picture.width + LINE // 2
    for i, (name, colour) in enumerate(shown):
        top = LINE // 2 + i * LINE
        draw.rectangle((left, top, left + SWATCH, top + SWATCH), fill=colour)
        draw.text((left + LINE, top - 2), name[:NAME], fill=BACKGROUND, font=font)
    return whole
