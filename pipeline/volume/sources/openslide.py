"""Whole slides that the reader of TIFF slides does not read rightly or at all, through OpenSlide (extra ``slides``).

MIRAX (.mrxs), Hamamatsu (.vms, .vmu, .ndpi), Leica (.scn), Ventana (.bif), Philips TIFF, Sakura (.svslide), Zeiss
(.czi) and DICOM: their tiles overlap, are placed one by one, or lie in several files. OpenSlide gives one canvas.

Where a slide tells the bounds of what was scanned, only that is the image, and its first voxel is their upper left
corner, as in QuPath. Where the canvas is not opaque, the slide's background colour shows (white, if it tells none).

Law: any box has the same voxels. A coarse level is no whole number of times coarser, so that OpenSlide moves what it
reads by a part of a voxel; it reads whole blocks of a fixed partition, so that this does not depend on the box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageColor

from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Box, Grid
from pipeline.store import open_file
from pipeline.volume.faults import lies_in_the_bytes
from pipeline.volume.sources.handles import Handles
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.source import Source, check_own_axes, unreadable
from pipeline.volume.sources.tiff_space import level_space
from pipeline.volume.space import Space

try:
    import openslide
except ImportError:  # an extra: only those who have such slides need it
    openslide = None  # type: ignore[assignment]

BLOCK = 512
"""Pixels along each axis of the blocks that are read whole."""

_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_OTHERS = (b"[Virtual Microscope Specimen]", b"[Uncompressed Virtual Microscope Specimen]", b"ZISRAWFILE")
_DATABASE = b"SQLite format 3\x00"
_DICOM = slice(128, 132)
_HEAD = 132


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a level shows of a slide.

    Attributes:
        level: number of the level.
        start: upper left corner of the bounds, ``(y, x)`` in pixels of level 0.
        downsample: pixels of level 0 along one of this level.
        background: red, green, blue.
    """

    level: int
    start: tuple[int, int]
    downsample: float
    background: tuple[int, int, int]


@dataclass(slots=True, eq=False)
class CanvasSource(Source):
    """One resolution level of a slide, RGB.

    Attributes:
        canvas: what of the slide it is.
        handles: of the slide. OpenSlide refuses every read after one that failed, so that a handle is then given up.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    canvas: Canvas
    handles: Handles
    levels: int = field()  # these two are not the defaults that Source has
    files: tuple[str, ...] = field()

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(3, y, x)``."""
        out = np.empty((3, *box.shape), np.uint8)
        blocks = Grid(self.shape, (BLOCK, BLOCK))
        try:
            with self.handles.lend() as slide:
                for position in blocks.overlapping(box):
                    core = blocks.core(blocks.number(position))
                    seen = core.intersect(box)
                    block = _read(slide, self.canvas, core)[seen.relative_to(core.start).slices]
                    out[(slice(None), *seen.relative_to(box.start).slices)] = block.transpose(2, 0, 1)
        except Exception as error:
            if not lies_in_the_bytes(error):
                raise
            raise unreadable(self.name, error, f"voxels {box}") from error
        return out

    def close(self) -> None:
        """Close the handles."""
        self.handles.close()


def is_canvas(url: str | Path) -> bool:
    """Say whether a file is a slide of a format that is read here, by its content; MIRAX by its name.

    Raises:
        Exception: whatever tifffile raises of a damaged file.
    """
    file = open_file(url)
    if file.name.lower().endswith(".mrxs"):
        return True
    with file.open() as opened:
        head = opened.read(_HEAD)
        if head.startswith(_TIFF):
            opened.seek(0)
            with tifffile.TiffFile(opened) as tif:
                return bool(tif.is_ndpi or tif.is_scn or tif.is_bif or tif.is_philips)
    is_sakura = head.startswith(_DATABASE) and file.name.lower().endswith(".svslide")
    return head.startswith(_OTHERS) or head[_DICOM] == b"DICM" or is_sakura


def open_canvas(url: str | Path, reading: Reading = DEFAULT) -> Source:
    """Open one resolution level of a slide through OpenSlide: ``cyx``, RGB.

    Args:
        url: a file that OpenSlide knows, on this machine.
        reading: what the user says; holds the level.

    Returns:
        a source in micrometres; in unit voxels without a unit where the slide does not tell the size of a pixel.

    Raises:
        VolumeError: elsewhere, damaged, of a format that OpenSlide does not know, no such level, other axes.
        InputError: openslide is not installed.
    """
    file = open_file(url)
    if openslide is None:
        raise InputError(f"{file.url}: slides of this format need the extra: pip install 'overtile[slides]'")
    if file.path is None:
        raise VolumeError(f"{file.url}: OpenSlide reads files of this machine only; copy the slide here first")
    path = file.path
    check_own_axes(reading.axes, "cyx", where=file.url)
    try:
        if openslide.OpenSlide.detect_format(path) is None:
            raise VolumeError(f"{file.url}: it is no slide that OpenSlide knows, or a part of it is not there")
        handles = Handles(lambda: openslide.OpenSlide(path))
        with handles.lend() as slide:
            return _source(slide, path, reading.level, handles)
    except Exception as error:
        if not lies_in_the_bytes(error):
            raise
        raise unreadable(file.url, error) from error


def _source(slide: Any, path: Path, level: int, handles: Handles) -> CanvasSource:
    """Return the source of a level of an open slide."""
    if not 0 <= level < slide.level_count:
        raise VolumeError(f"{path}: there is no level {level}; it has levels 0 to {slide.level_count - 1}")
    width, height = slide.dimensions
    start, finest = _bounds(slide.properties, (height, width))
    downsample = slide.level_downsamples[level]
    shape = (max(1, round(finest[0] / downsample)), max(1, round(finest[1] / downsample)))
    colour = ImageColor.getrgb("#" + slide.properties.get("openslide.background-color", "ffffff"))
    size = tuple(_positive(slide.properties, f"openslide.mpp-{axis}") for axis in "yx")
    space = Space("yx", size, (0.0, 0.0), "micrometer") if all(size) else Space.unscaled("yx")
    return CanvasSource(
        name=str(path),
        shape=shape,
        channels=3,
        dtype=np.dtype(np.uint8),
        space=level_space(space, shape, finest),
        slab=(BLOCK, BLOCK),
        canvas=Canvas(level, start, downsample, (colour[0], colour[1], colour[2])),
        handles=handles,
        levels=slide.level_count,
        files=tuple(str(part) for part in _parts(path)),
    )


def _bounds(properties: Mapping[str, str], whole: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return corner and shape of what was scanned, in pixels of level 0: the whole canvas where it is not told."""
    names = ("y", "x", "height", "width")
    try:
        y, x, height, width = (int(properties[f"openslide.bounds-{name}"]) for name in names)
    except (KeyError, ValueError):
        return (0, 0), whole
    found = Box.of_shape(whole).intersect(Box((y, x), (y + max(height, 0), x + max(width, 0))))
    if found.is_empty:
        return (0, 0), whole
    return (found.start[0], found.start[1]), (found.shape[0], found.shape[1])


def _positive(properties: Mapping[str, str], name: str) -> float:
    """Return a property that is a positive number; 0 where it is none."""
    try:
        value = float(properties.get(name, 0))
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


def _parts(path: Path) -> list[Path]:
    """Return the files that a slide is read from."""
    ending = path.suffix.lower()
    beside: list[Path] = []
    if ending == ".mrxs":
        beside = [p for p in path.with_suffix("").rglob("*") if p.is_file()]
    elif ending in (".vms", ".vmu"):
        text = path.read_text("utf-8", "replace")
        beside = [p for p in path.parent.iterdir() if p != path and p.name in text]
    elif ending == ".dcm":
        beside = [p for p in path.parent.iterdir() if p != path and p.suffix.lower() == ending]
    return [path, *sorted(beside)]


def _read(slide: Any, canvas: Canvas, block: Box) -> npt.NDArray[np.uint8]:
    """Read a block of a level: ``(y, x, 3)``, its transparent parts over the background."""
    top, left = (round(s + i * canvas.downsample) for s, i in zip(canvas.start, block.start, strict=True))
    region = slide.read_region((left, top), canvas.level, block.shape[::-1])
    image = Image.new("RGB", region.size, canvas.background)
    image.paste(region, mask=region.getchannel("A"))
    return np.asarray(image)
