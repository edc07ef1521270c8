"""``--mask auto``: what foreground is, by the kind of the image; one rule for the whole of it.

::

    three colours in 8 bits, nowhere on Earth     tissue: saturation above Otsu's threshold (tissue.py)
    a raster with a nodata value                  any band is not nodata (blocks.py)
    any other image                               any channel is not the fill value (blocks.py)
"""

from __future__ import annotations

import numpy as np

from pipeline.volume.mask.blocks import Data
from pipeline.volume.mask.foreground import Foreground, Subject
from pipeline.volume.mask.polygons import ENDINGS, MaskPolygons
from pipeline.volume.mask.tissue import Tissue
from pipeline.volume.mask.volumes import MaskVolume


def open_foreground(mask: str, subject: Subject) -> Foreground:
    """Open what ``--mask`` names; nothing is read but what says whether it fits.

    Args:
        mask: ``"auto"``, or the address of polygons or of a mask volume.
        subject: what is segmented.

    Raises:
        VolumeError: it cannot be opened, or does not lie over the image.
        InputError: an address of another form; a format whose extra is not installed.
        StoreError: the store does not answer.
    """
    if mask == "auto":
        return Tissue(subject) if is_slide(subject) else Data(subject)
    polygons = mask.lower().endswith(ENDINGS)
    return MaskPolygons(mask, subject) if polygons else MaskVolume(mask, subject)


def is_slide(subject: Subject) -> bool:
    """Whether an image is one of colours in 8 bits, in the plane and nowhere on Earth."""
    image = subject.image
    return image.channels == 3 and image.dtype == np.uint8 and len(image.shape) == 2 and image.geo is None
