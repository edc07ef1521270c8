"""A mask of polygons: GeoJSON of QuPath or QGIS, GeoPackage; a voxel whose centre lies in one is foreground."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from pipeline.geometry import Box
from pipeline.store import absolute
from pipeline.store.files import open_file
from pipeline.volume.mask.foreground import ALGORITHM, Subject
from pipeline.volume.mask.sampling import Bits
from pipeline.volume.sources.vectors import Like, open_vectors
from pipeline.volume.space import Space

ENDINGS = (".geojson", ".json", ".gpkg", ".fgb", ".shp")
"""How the names of files with polygons end."""

MOST = 1 << 28
"""Voxels that the mask of an image has at most: polygons are drawn in coarser voxels over one that has more."""

_BLOCK = 1 << 20
"""Bytes of a file that are read at once."""


class MaskPolygons:
    """Polygons that say which voxels of an image are foreground; inside their holes is outside.

    Attributes:
        url: of the polygons.
    """

    kind = "polygons"
    reason = "mask: outside polygons"
    nbytes = 0

    def __init__(self, url: str, subject: Subject) -> None:
        self.url = url
        image = subject.image
        plane = image.shape[-2:]
        factor = 1
        while math.prod(-(-n // factor) for n in plane) > MOST:
            factor *= 2
        self.shape = tuple(-(-n // factor) for n in plane)
        steps = [n / m for n, m in zip(plane, self.shape, strict=True)]
        pixels = (image.scale or (1.0,) * len(image.shape))[-2:]
        like = Like(
            (self.shape[0], self.shape[1]),
            Space.unscaled("yx"),
            None if image.geo is None else image.geo.scaled(steps),
            (steps[0] * pixels[0], steps[1] * pixels[1]),
        )
        self._drawn = open_vectors(url, like)
        self._factor = factor

    @property
    def identity(self) -> dict[str, Any]:
        """The digest of the file."""
        total = hashlib.sha256()
        with open_file(self.url).open() as file:
            while data := file.read(_BLOCK):
                total.update(data)
        return {"kind": self.kind, "algorithm": ALGORITHM, "sha256": total.hexdigest()}

    @property
    def facts(self) -> dict[str, Any]:
        """Where they are, and the voxels that they are drawn in."""
        return {"source": absolute(self.url), "method": "centre in polygon", "factor": self._factor}

    def read(self, box: Box) -> Bits:
        """Return which voxels of a box have their centre in a polygon."""
        bits: Bits = np.asarray(self._drawn.read(box)[0] != 0)
        return bits

    def close(self) -> None:
        """Let go of the polygons."""
        self._drawn.close()
