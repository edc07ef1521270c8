"""The pictures of a report: layers that lie over each other, as data that a page can hold in itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.geometry import Box
from pipeline.reporting.pictures import ERROR_COLOURS, class_colours, contrast, data_uri, error_codes
from pipeline.reporting.places import borders
from pipeline.reporting.views import Voxels
from pipeline.reporting.words import NO_BREAK, round_length, symbol
from pipeline.volume import Space

Classes = npt.NDArray[np.integer]

_FILL, _RIGHT, _IGNORED = 130, 80, 120
"""How opaque (of 255) the inside of a class, rightly found voxels and ignored ones are; edges and errors are wholly."""

_LACKING = ((128, 128, 128, 170), (100, 100, 100, 170))
"""Stripes over what has not been computed."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale bar.

    Attributes:
        length: in pixels of the picture.
        text: what it stands for.
    """

    length: float
    text: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One place, as layers of equal size.

    Attributes:
        name: unique on the page.
        width: in pixels.
        height: in pixels.
        image: data URI of the volume; None where it is not there.
        prediction: data URI of the classes' colours.
        errors: data URI of what is right and wrong; None without a target.
        scale: the scale bar.
        caption: where it is.
    """

    name: str
    width: int
    height: int
    image: str | None
    prediction: str
    errors: str | None
    scale: Scale
    caption: str


def class_ids(voxels: Voxels, kind: str) -> Classes:
    """Return the class of each voxel ``(h, w)`` of a result ``(c, h, w)``.

    Args:
        voxels: stored values.
        kind: ``labels``, ``probabilities`` or ``logits``; one channel of the latter two is a sigmoid.
    """
    even = 0.0 if kind == "logits" else 127.5 if voxels.dtype == np.uint8 else 0.5
    ids: Classes
    if kind == "labels":
        ids = voxels[0]
    elif voxels.shape[0] > 1:
        ids = voxels.argmax(axis=0).astype(np.uint8)
    else:
        ids = (voxels[0] > even).astype(np.uint8)
    return ids


def photo(image: Voxels) -> str:
    """Return an image ``(c, h, w)`` as the data URI of a JPEG: small, and close enough to look at."""
    stream = io.BytesIO()
    Image.fromarray(contrast(image)).save(stream, format="JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def colouring(classes: Classes, *, names: int, lacking: npt.NDArray[np.bool_]) -> str:
    """Return the classes ``(h, w)`` as a transparent picture: a light fill with a firm edge.

    Args:
        classes: class ids.
        names: number of classes; further ids get colours too.
        lacking: marks what has not been computed; striped grey.
    """
    picture = class_colours(max(names, int(classes.max(initial=0)) + 1))[classes.astype(np.intp)]
    inside = ~borders(classes) & (picture[..., 3] > 0)
    picture[inside, 3] = _FILL
    if lacking.any():
        y, x = np.indices(classes.shape)
        stripes = np.array(_LACKING, np.uint8)[(y + x) // 8 % 2]
        picture[lacking] = stripes[lacking]
    return data_uri(picture)


def error_colouring(
    prediction: Classes, target: Classes, *, ignore: int | None, lacking: npt.NDArray[np.bool_]
) -> str:
    """Return what is right and wrong as a transparent picture; nothing where the prediction is lacking.

    The other arguments are those of :func:`pipeline.reporting.pictures.error_codes`.
    """
    colours = ERROR_COLOURS.copy()
    colours[1, 3], colours[5, 3] = _RIGHT, _IGNORED
    picture = colours[error_codes(prediction, target, ignore=ignore)]
    picture[lacking] = 0
    return data_uri(picture)


def wrong_pixels(prediction: Classes, target: Classes, *, ignore: int | None) -> npt.NDArray[np.bool_]:
    """Mark the pixels ``(h, w)`` whose class is not the target's, where that counts."""
    wrong: npt.NDArray[np.bool_] = prediction != target
    return wrong if ignore is None else wrong & (target != ignore)


def scale_bar(space: Space, length: int, pixels: int) -> Scale:
    """Return a scale bar of about a fifth of a picture's width.

    Args:
        space: of the result.
        length: voxels along x that the picture shows.
        pixels: its width.
    """
    voxel = space.voxel_size[-1] if space.unit is not None else 1.0
    extent = round_length(length * voxel / 4)
    return Scale(extent / voxel / length * pixels, f"{extent:,.15g}{NO_BREAK}{symbol(space.unit)}")


def place_text(box: Box, axes: str) -> str:
    """Say where a box is: ``y 1,024–1,408 · x 2,048–2,432``; an axis of one voxel by its index."""
    parts = [
        f"{axis}{NO_BREAK}{a:,}" if b == a + 1 else f"{axis}{NO_BREAK}{a:,}–{b:,}"
        for (a, b), axis in zip(box, axes, strict=True)
    ]
    return " · ".join(parts)


def fitted(shape: Sequence[int], pixels: int) -> tuple[int, int]:
    """Return the size ``(h, w)`` of a picture of a plane: its own, or ``pixels`` along the longer side."""
    height, width = shape[-2:]
    share = min(1.0, pixels / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))
