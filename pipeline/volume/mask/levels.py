"""Which resolution level of an image a mask is made from: a coarse one, that shows the whole at little cost."""

from __future__ import annotations

from dataclasses import replace

from pipeline.volume.file_image import open_image
from pipeline.volume.image import Image
from pipeline.volume.mask.foreground import Subject

LEAST_SIDE = 1024
"""The coarsest level whose longer side has so many voxels shows tissue well: about 50 um a voxel of a whole slide."""


def open_level(subject: Subject, level: int) -> Image:
    """Open a level of the image that is segmented, in its own voxels.

    The voxel size that a user says is of the level that is segmented, and so stays out; a mask asks for none.
    """
    unit = (1.0,) * len(subject.image.shape)
    said = replace(subject.reading, level=level, voxel_size=unit, unit=None)
    return open_image(subject.url, said)


def open_coarse(subject: Subject) -> Image:
    """Open the coarsest level whose longer side along y and x is at least 1024 voxels; the finest if none is."""
    for level in range(subject.image.level_count - 1, 0, -1):
        image = open_level(subject, level)
        if max(image.shape[-2:]) >= LEAST_SIDE:
            return image
        image.close()
    return open_level(subject, 0)
