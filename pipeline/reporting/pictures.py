"""Pictures for reports and progress pages: arrays that are small enough to look at become RGB, PNG and data URIs.

Colours follow Okabe and Ito (2008, "Color Universal Design"), which people with any form of colour blindness can tell
apart.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import InputError

Bytes = NDArray[np.uint8]

_ORANGE, _SKY, _GREEN, _YELLOW = (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)
_BLUE, _VERMILION, _PURPLE = (0, 114, 178), (213, 94, 0), (204, 121, 167)
_GREY, _WHITE, _BLACK = (190, 190, 190), (255, 255, 255), (0, 0, 0)
_CLASSES = (_ORANGE, _SKY, _GREEN, _YELLOW, _BLUE, _VERMILION, _PURPLE)
_SHADES = (1.0, 0.6, 0.8, 0.4)  # of the palette's first, second ... round

ERROR_NAMES = ("true negative", "true positive", "false positive", "false negative", "wrong class", "ignored")
"""What the codes of ``error_codes`` mean."""

ERROR_COLOURS: Bytes = np.array(
    [(*_BLACK, 0), *((*colour, 255) for colour in (_GREEN, _VERMILION, _SKY, _YELLOW, _GREY))], np.uint8
)
"""The colours of ``ERROR_NAMES`` for ``overlay``: (6, 4) RGBA; true negatives are transparent."""

STATE_COLOURS = {"pending": _GREY, "done": _BLUE, "failed": _VERMILION, "skipped": _YELLOW}
"""The colour of a chunk in each state."""


STRENGTH_COLOURS = (_GREY, _SKY, _YELLOW, _ORANGE, _VERMILION)
"""From what cannot be told, over nothing to see, to ever more."""


def class_colours(n: int) -> Bytes:
    """Colours of ``n`` classes: (n, 4) RGBA in uint8. Class 0 is transparent.

    The first seven others have the palette's colours; after them the palette comes again in darker shades, and after
    28 the colours repeat.

    Raises:
        InputError: fewer than one class.
    """
    if n < 1:
        raise InputError(f"the number of classes is {n}; it must be at least 1")
    colours = np.zeros((n, 4), np.uint8)
    for i in range(1, n):
        turn, hue = divmod(i - 1, len(_CLASSES))
        colours[i] = (*(round(v * _SHADES[turn % len(_SHADES)]) for v in _CLASSES[hue]), 255)
    return colours


def contrast(image: NDArray[Any]) -> Bytes:
    """Show any image: what lies between its 2nd and 98th percentile spans black to white.

    One channel becomes grey; two become green and magenta; of more, the first three become red, green and blue. The
    limits are those of each channel, except for exactly three, which share theirs so that colours keep their hue.
    Values that are not finite show as black, a constant image as mid grey.

    Args:
        image: ``(c, h, w)`` of any real dtype.

    Returns:
        RGB ``(h, w, 3)`` in uint8.

    Raises:
        InputError: the image is not ``(c, h, w)`` with at least one channel and one voxel.
    """
    if image.ndim != 3 or image.size == 0:
        raise InputError(f"an image to show has axes (c, h, w) and some voxels; this one has shape {image.shape}")
    shown = image[:3]
    if image.shape[0] == 3:
        scaled = _between_percentiles(shown)
    else:
        scaled = np.stack([_between_percentiles(channel) for channel in shown])
    order = {1: [0, 0, 0], 2: [1, 0, 1]}.get(image.shape[0], [0, 1, 2])
    return np.ascontiguousarray(np.moveaxis(scaled[order], 0, -1))


def overlay(image: NDArray[Any], classes: NDArray[Any], *, colours: Bytes, opacity: float = 0.5) -> Bytes:
    """Lay the colours of classes over an image.

    Args:
        image: ``(c, h, w)`` of any real dtype; shown by ``contrast``.
        classes: class of each voxel, ``(h, w)``, in any integer dtype.
        colours: ``(n, 4)`` RGBA of the classes, such as ``class_colours(n)``.
        opacity: share of a class's colour where it is opaque, from 0 to 1.

    Returns:
        RGB ``(h, w, 3)`` in uint8.

    Raises:
        InputError: classes are no integers, shapes differ, the opacity is out of range, or a class has no colour.
    """
    if classes.dtype.kind not in "iub":
        raise InputError(
            f"the classes are of {classes.dtype}; classes are whole numbers, so give an integer dtype"
        )
    if image.shape[1:] != classes.shape:
        raise InputError(
            f"the image has shape {image.shape} and its classes {classes.shape}; (h, w) must be equal"
        )
    if not 0 <= opacity <= 1:
        raise InputError(f"the opacity is {opacity}; it must lie between 0 and 1")
    below = contrast(image)
    if not 0 <= int(classes.min()) <= int(classes.max()) < len(colours):
        raise InputError(
            f"classes run from {classes.min()} to {classes.max()}, but there are colours for 0 to {len(colours) - 1}"
        )
    share = (colours[:, 3:] / 255 * opacity).astype(np.float32)
    above = (colours[:, :3] * share).astype(np.float32)
    index = classes.astype(np.intp)
    mixed: Bytes = np.rint(below * (1 - share)[index] + above[index]).astype(np.uint8)
    return mixed


def error_codes(prediction: NDArray[Any], target: NDArray[Any], *, ignore: int | None = None) -> Bytes:
    """What became of each voxel: the index of its entry in ``ERROR_NAMES``. Class 0 is the background.

    Args:
        prediction: class of each voxel, in any integer dtype.
        target: true class of each voxel, of the same shape.
        ignore: target value of voxels that do not count.

    Returns:
        Codes of the same shape, in uint8.

    Raises:
        InputError: the shapes differ.
    """
    if prediction.shape != target.shape:
        raise InputError(
            f"the prediction has shape {prediction.shape} and the target {target.shape}; they must be equal"
        )
    found, there, same = prediction != 0, target != 0, prediction == target
    codes = np.select([found & there & same, found & ~there, ~found & there, found & there], [1, 2, 3, 4], 0)
    if ignore is not None:
        codes[target == ignore] = 5
    return codes.astype(np.uint8)


def error_map(prediction: NDArray[Any], target: NDArray[Any], *, ignore: int | None = None) -> Bytes:
    """Paint what is right and wrong: RGB ``(h, w, 3)`` of ``error_codes`` on black. Same arguments and errors."""
    return ERROR_COLOURS[error_codes(prediction, target, ignore=ignore), :3]


def grid_picture(states: Sequence[str], grid_shape: tuple[int, ...], *, cell_px: int = 8) -> Bytes:
    """Paint the state of each chunk of a grid.

    Cells of at least 4 pixels are parted by white lines. The planes of a grid with more than two axes lie side by
    side in an array that is about square, one white cell apart.

    Args:
        states: keys of ``STATE_COLOURS``, one for each chunk, in C order.
        grid_shape: chunks along each axis, such as ``(y, x)`` or ``(z, y, x)``.
        cell_px: edge of a cell in pixels.

    Returns:
        RGB ``(h, w, 3)`` in uint8.

    Raises:
        InputError: an unknown state, another number of states than chunks, or a cell without pixels.
    """
    if cell_px < 1:
        raise InputError(f"a cell has {cell_px} pixels; it must have at least 1")
    if len(states) != math.prod(grid_shape) or not states:
        raise InputError(
            f"there are {len(states)} states for the chunks of a grid of {grid_shape}; give one for each"
        )
    unknown = sorted(set(states) - set(STATE_COLOURS))
    if unknown:
        raise InputError(f"chunks have the states {unknown}; known ones are {list(STATE_COLOURS)}")
    numbers = {state: i for i, state in enumerate(STATE_COLOURS)}
    codes = np.fromiter((numbers[state] for state in states), np.uint8, len(states))
    return paint_grid(codes.reshape(grid_shape), [*STATE_COLOURS.values()], cell_px=cell_px)


def paint_grid(codes: Bytes, colours: Sequence[tuple[int, int, int]], *, cell_px: int) -> Bytes:
    """Paint the cells of a grid, ``([z,] y, x)``, each in the colour of its code, as in :func:`grid_picture`."""
    empty = len(colours)
    cells = _side_by_side(codes.reshape(-1, *(1, 1, *codes.shape)[-2:]), empty=empty)
    pixels = cells.repeat(cell_px, axis=0).repeat(cell_px, axis=1)
    if cell_px >= 4:
        pixels[cell_px - 1 :: cell_px] = pixels[:, cell_px - 1 :: cell_px] = empty
    return np.array([*colours, _WHITE], np.uint8)[pixels]


def png_bytes(rgb: Bytes) -> bytes:
    """Encode a picture ``(h, w, 3)`` RGB or ``(h, w, 4)`` RGBA in uint8 as PNG.

    Raises:
        InputError: the array is not such a picture.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] not in (3, 4) or rgb.size == 0:
        raise InputError(f"a picture is (h, w, 3) or (h, w, 4) in uint8; this one is {rgb.shape} in {rgb.dtype}")
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def data_uri(rgb: Bytes) -> str:
    """Encode a picture as a PNG that a page can hold in itself. Same argument and errors as ``png_bytes``."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(rgb)).decode("ascii")


def _between_percentiles(values: NDArray[Any]) -> Bytes:
    """Spread what lies between the 2nd and the 98th percentile of the finite values over uint8."""
    finite = np.isfinite(values)
    values = values.astype(np.float64).clip(-1e300, 1e300)  # differences stay finite
    every = max(1, values.size // 2**18)  # a quarter of a million values are good enough to look at
    drawn = values.reshape(-1)[::every][finite.reshape(-1)[::every]]
    low, high = np.percentile(drawn, (2, 98)).tolist() if drawn.size else (0, 0)
    if low == high and drawn.size:
        low, high = float(drawn.min()), float(drawn.max())
    if low == high:
        return np.where(finite, np.uint8(128), np.uint8(0))
    share = (np.where(finite, values, low).clip(low, high) - low) / (high - low)
    shown: Bytes = np.rint(share * 255).astype(np.uint8)
    return shown


def _side_by_side(planes: Bytes, *, empty: int) -> Bytes:
    """Lay planes (n, y, x) out in an array that is about square, one empty cell apart: (rows, columns)."""
    n, height, width = planes.shape
    columns = min(n, max(1, math.ceil(math.sqrt(n * (height + 1) / (width + 1)))))
    rows = -(-n // columns)
    cells = np.full((rows * columns, height + 1, width + 1), empty, np.uint8)
    cells[:n, :height, :width] = planes
    laid = cells.reshape(rows, columns, height + 1, width + 1).swapaxes(1, 2)
    return laid.reshape(rows * (height + 1), columns * (width + 1))[:-1, :-1]
