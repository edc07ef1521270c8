"""Ingest of whole slides: Aperio SVS and other tiled pyramids in TIFF, read tile by tile.

Only the tiles under a box are decoded. The resolution levels are those of the first image; thumbnail, label and macro
image are none of them and are left out. A tile that was never scanned, which takes no bytes, reads as 0. How large a
pixel is, at level 0, is taken from the first of these that tells:

1. ``MPP = 0.499`` in the description, as Aperio writes it: micrometres a pixel;
2. OME-XML, or resolution tags in centimetres up to :data:`pipeline.volume.sources.tiff_space.PRINT`;
3. resolution tags in inches, up to :data:`INCH_LIMIT`: no printer and no flatbed scanner is as fine, a slide is.

Nothing else is believed: a slide that tells nothing is refused by :func:`pipeline.volume.sources.open_source`, unless
the user says the voxel size. A level's pixel is level 0's times the real ratio of their shapes, along each axis.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import tifffile

from pipeline.store import open_file
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source
from pipeline.volume.sources.tiff import open_tiff, parse_tiff
from pipeline.volume.sources.tiff_space import level_space
from pipeline.volume.space import Space

INCH_LIMIT = 2.0
"""Largest pixel, in micrometres, that resolution tags in inches are believed: 12,700 dpi, or a lens of 5x."""

_INCH = 25_400.0
_MPP = re.compile(r"(?:^|\|)\s*MPP\s*=\s*([^|\s]+)")
_PLANE = set("YXSC")


def is_slide(path: str | Path) -> bool:
    """Say whether a TIFF is a slide: tiled, and Aperio's or a pyramid of one plane.

    Raises:
        Exception: whatever tifffile raises of a damaged file.
    """
    file = open_file(path)
    with parse_tiff(file, file.stat()) as tif:
        if not tif.pages.first.is_tiled:
            return False
        finest = tif.series[0]
        return bool(tif.is_svs) or (len(finest.levels) > 1 and set(finest.axes) <= _PLANE)


def open_slide(path: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open one resolution level of a slide: ``yxc`` in most, with the tiles as slab.

    Args:
        path: a file that :func:`is_slide` knows, or its address.
        reading: what the user says; holds the axes where the file does not say them, and the level.

    Returns:
        a source in micrometres; in unit voxels without a unit where the file does not tell the size of a pixel.

    Raises:
        VolumeError: damaged or cut off, no such level, colours that are not RGB.
    """
    source = open_tiff(path, reading)
    try:
        file = open_file(path)
        with parse_tiff(file, file.stat()) as tif:
            first = tif.series[0].keyframe
            pixel = _description_size(first) or (None if source.space.unit else _inch_size(first))
            if pixel is not None and source.space.axes == "yx":
                finest = Space("yx", pixel, (0.0, 0.0), "micrometer")
                source.space = level_space(finest, source.shape, (first.imagelength, first.imagewidth))
    except Exception:
        source.close()
        raise
    return source


def _description_size(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Return the extent of a pixel, (y, x) in micrometres, that the description tells."""
    found = _MPP.search(page.description)
    try:
        size = float(found.group(1)) if found else 0.0
    except ValueError:
        return None
    return (size, size) if math.isfinite(size) and size > 0 else None


def _inch_size(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Return the extent of a pixel, (y, x) in micrometres, that resolution tags in inches tell, if they can be so."""
    unit = page.tags.valueof("ResolutionUnit")
    resolutions = [page.tags.valueof(name) for name in ("YResolution", "XResolution")]
    if unit != tifffile.RESUNIT.INCH or any(r is None or min(r) <= 0 for r in resolutions):
        return None
    y, x = (_INCH * denominator / numerator for numerator, denominator in resolutions)
    return (y, x) if max(y, x) <= INCH_LIMIT else None
