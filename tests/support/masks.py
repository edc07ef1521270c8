"""Images with and without something on them, and what is asked of a mask over them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from volumes import create_filled, small_spec

from pipeline.geometry import Box, Grid
from pipeline.volume import Space, publish
from pipeline.volume.file_image import open_image
from pipeline.volume.mask.foreground import Subject
from pipeline.volume.mask.stored import Area
from pipeline.volume.sources.reading import DEFAULT


def subject(url: Path | str, region: Box | None = None, **said: Any) -> Subject:
    """Return what a mask is asked for of an image."""
    reading = replace(DEFAULT, **said)
    image = open_image(url, reading)
    return Subject(image, region or image.box, str(url), reading)


def area(of: Subject, chunk: tuple[int, ...]) -> Area:
    """Return the part of an image that is segmented, in chunks."""
    return Area(of.image.shape, of.region, Grid(of.region.shape, chunk))


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray[Any, Any]:
    y, x = np.indices(shape)
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2


def slide(shape: tuple[int, int], tissue: np.ndarray[Any, Any], *, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return a slide like one stained with H&E, ``(3, y, x)``: pink and purple tissue on bright, grey, noisy glass."""
    chance = np.random.default_rng(seed)
    voxels = np.full((3, *shape), 240.0)
    stain = chance.random(shape) < 0.3
    for channel, (pink, purple) in enumerate(((225, 120), (150, 80), (190, 150))):
        voxels[channel][tissue] = np.where(stain, purple, pink)[tissue]
    return np.clip(voxels + chance.normal(0, 2, voxels.shape), 0, 255).astype(np.uint8)


def save_slide(path: Path, voxels: np.ndarray[Any, Any], *, size: float | None = 10.0, shard: int = 64) -> Path:
    """Store an image ``(c, y, x)`` in voxels of so many micrometres, or of a size that is not known."""
    shape = voxels.shape[1:]
    space = Space.unscaled("yx") if size is None else Space("yx", (size, size), (0.0, 0.0), "micrometer")
    spec = small_spec(shape, channels=voxels.shape[0], shard=(shard, shard), space=space)
    create_filled(path, spec, voxels)
    publish(path, name="slide", axes=spec.axes, levels=[("0", space)], classes=None)
    return path
