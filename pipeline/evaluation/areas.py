"""Areas that are measured apart: polygons by an attribute, or a volume that holds the number of each voxel's area."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.evaluation.comparison import class_names
from pipeline.evaluation.window import Ids
from pipeline.geometry import Box
from pipeline.store import absolute
from pipeline.store.files import open_file
from pipeline.volume import Volume
from pipeline.volume.file_image import absolute_image, image_spec
from pipeline.volume.image import Image, ImageSpec
from pipeline.volume.mask.foreground import digest
from pipeline.volume.mask.polygons import ENDINGS
from pipeline.volume.sources.reading import DEFAULT
from pipeline.volume.sources.vectors import Like, VectorSource, open_vectors
from pipeline.volume.space import Space

INSIDE = "inside"
"""The area of polygons that have no classes."""

_BLOCK = 1 << 20
"""Bytes of a file that are read at once."""


@dataclass(frozen=True, slots=True)
class PolygonAreas:
    """Polygons over a prediction: a voxel is in the area of the polygon that its centre lies in; small and picklable.

    Attributes:
        url: of the polygons.
        attribute: that tells a polygon's area; None for QuPath's class.
        like: the grid of the prediction.
        identity: everything that decides the areas.
        labels: names of areas by their number.
    """

    url: str
    attribute: str | None
    like: Like
    identity: dict[str, Any]
    labels: Mapping[int, str]

    def open(self) -> PolygonReader:
        """Open them."""
        return PolygonReader(open_vectors(self.url, self.like, attribute=self.attribute))


class PolygonReader:
    """Open polygons; they hold for every slice of a stack."""

    def __init__(self, drawn: VectorSource) -> None:
        self._drawn = drawn

    def read(self, box: Box) -> Ids:
        """Return the number of the area of each voxel of a box; 0 for none."""
        plane = Box(box.start[-2:], box.stop[-2:])
        return np.broadcast_to(self._drawn.read(plane)[0], box.shape)


@dataclass(frozen=True, slots=True)
class VolumeAreas:
    """A volume of the prediction's shape that holds the number of each voxel's area; small and picklable.

    Attributes:
        image: how it is opened.
        identity: everything that decides the areas.
        labels: names of areas by their number.
    """

    image: ImageSpec
    identity: dict[str, Any]
    labels: Mapping[int, str]

    def open(self) -> VolumeReader:
        """Open it."""
        return VolumeReader(self.image.open())


class VolumeReader:
    """An open volume of areas."""

    def __init__(self, image: Image) -> None:
        self._image = image

    def read(self, box: Box) -> Ids:
        """Return the number of the area of each voxel of a box; 0 for none."""
        return np.asarray(self._image.read(box)[0])


def open_areas(url: str, attribute: str | None, prediction: Volume) -> PolygonAreas | VolumeAreas:
    """Find areas, and that they lie over a prediction.

    Args:
        url: of polygons or of a volume.
        attribute: of the polygons.
        prediction: what is measured.

    Raises:
        InputError: they cannot be opened, or do not lie over it.
    """
    if url.lower().endswith(ENDINGS):
        return _polygons(url, attribute, prediction)
    if attribute is not None:
        raise InputError(
            f"--group-attribute {attribute}: is of polygons, and --groups {url} is a volume; leave it out"
        )
    return _volume(url, prediction)


def _polygons(url: str, attribute: str | None, prediction: Volume) -> PolygonAreas:
    plane = prediction.shape[-2:]
    factors = (prediction.scale or (1.0,) * len(prediction.shape))[-2:]
    like = Like((plane[0], plane[1]), Space.unscaled("yx"), prediction.geo, (factors[0], factors[1]))
    with open_vectors(url, like, attribute=attribute) as drawn:
        labels = {number: name for name, number in drawn.classes.items()} or {1: INSIDE}
    total = hashlib.sha256()
    with open_file(url).open() as file:
        while data := file.read(_BLOCK):
            total.update(data)
    identity = {"kind": "polygons", "sha256": total.hexdigest(), "attribute": attribute}
    return PolygonAreas(absolute(url), attribute, like, identity, labels)


def _volume(url: str, prediction: Volume) -> VolumeAreas:
    # What areas do not store is their fill value: Zarr leaves out what is empty.
    spec = image_spec(absolute_image(url), replace(DEFAULT, holes="background"))
    image = spec.open()
    try:
        if image.shape != prediction.shape or image.channels != 1 or image.dtype.kind not in "iub":
            raise InputError(
                f"--groups {url}: has the shape {image.shape}, {image.channels} channel(s) and {image.dtype}; areas are"
                f" whole numbers, one for each voxel of the prediction, of the shape {prediction.shape}"
            )
        identity = {
            "kind": "volume",
            "path": absolute_image(url),
            "array": digest(image.metadata),
            "stored": digest(image.identities().digests(image.box)),
        }
        names = class_names(image) if isinstance(image, Volume) else None
    finally:
        image.close()
    return VolumeAreas(spec, identity, dict(enumerate(names or ())))
