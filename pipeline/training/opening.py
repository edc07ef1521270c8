"""Open what a pair names: an image of any format, its target, and what says which part of it is labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.config.training import Pair
from pipeline.config.values import Ranges
from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Box
from pipeline.training.areas import Area, BoxSet, Mask, disjoint
from pipeline.training.targets import Instances
from pipeline.volume.file_image import FileImage, is_zarr, open_image
from pipeline.volume.image import Image
from pipeline.volume.mask.foreground import Foreground, Subject
from pipeline.volume.mask.polygons import ENDINGS, MaskPolygons
from pipeline.volume.mask.sampling import Sampling
from pipeline.volume.mask.volumes import MaskVolume
from pipeline.volume.sources import open_source
from pipeline.volume.sources.reading import DEFAULT, Reading
from pipeline.volume.sources.vectors import Like, open_vectors


def open_pair_image(pair: Pair, holes: str) -> Image:
    """Open the image of a pair, at its level. Errors as :func:`pipeline.volume.file_image.open_image`."""
    return _open(pair.image, _reading(pair.level, holes))


def open_pair_target(
    pair: Pair, image: Image, name: str, *, holes: str, classes: Sequence[str], instances: Instances
) -> Image:
    """Open the target of a pair: stored ids, or polygons that are drawn on the image's grid as they are read.

    A target that has not as many levels as the image was made at the level that is trained on, or does not fit it.

    Args:
        pair: the entry of the job.
        image: its image.
        name: what messages call the pair.
        holes: what a stored chunk that is missing means.
        classes: names of the class ids.
        instances: unless ``none``, each polygon is an instance.

    Raises:
        InputError: polygons on a stack; whatever opening an image raises.
    """
    if is_polygons(pair.target):
        return _drawn(pair, image, name, classes=classes, instances=instances)
    if pair.attribute is not None:
        raise InputError(
            f"{name}: attribute {pair.attribute!r} is for polygons, and the target is none; leave it out"
        )
    target = _open(pair.target, _reading(0, holes))
    if 0 < pair.level < target.level_count:
        target.close()
        target = _open(pair.target, _reading(pair.level, holes))
    return target


def is_polygons(url: str) -> bool:
    """Whether an address is one of polygons."""
    return url.lower().endswith(ENDINGS)


def open_area(pair: Pair, image: Image, name: str) -> Area | None:
    """Return which part of a pair is labelled; None for all of it.

    Raises:
        InputError: boxes that are not inside the image, a mask that does not lie over it.
    """
    if not pair.boxes and pair.within is None:
        return None
    boxes = [box_of(ranges, image, f"{name}: boxes.{i}") for i, ranges in enumerate(pair.boxes)]
    labelled = BoxSet(disjoint(boxes or [image.box]))
    if pair.within is None:
        return Area(image.shape, labelled)
    subject = Subject(image, image.box, pair.image, replace(DEFAULT, level=pair.level))
    try:
        maker = MaskPolygons if is_polygons(pair.within) else MaskVolume
        foreground: Foreground = maker(pair.within, subject)
    except VolumeError as error:
        raise InputError(f"{name}: within: {str(error).removeprefix('--mask ')}") from error
    return Area(image.shape, labelled, Mask(foreground, Sampling(image.shape, foreground.shape)))


def box_of(ranges: Ranges, image: Image, name: str) -> Box:
    """Return the box of ranges along an image's axes.

    Raises:
        InputError: another number of axes; a range that is not inside.
    """
    axes = image.space.axes
    if len(ranges) != len(axes):
        raise InputError(
            f"{name} has {len(ranges)} ranges, but the image has the axes {','.join(axes)}; give one each"
        )
    pairs = [(a or 0, n if b is None else b) for (a, b), n in zip(ranges, image.shape, strict=True)]
    for (a, b), n, axis in zip(pairs, image.shape, axes, strict=True):
        if not 0 <= a < b <= n:
            raise InputError(f"{name}: {a}:{b} along {axis} is not inside the image's 0:{n}")
    return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def _reading(level: int, holes: str) -> Reading:
    return replace(DEFAULT, level=level, holes="background" if holes == "background" else "error")


def _open(url: str, reading: Reading) -> Image:
    """Open an image; the size of its voxels need not be known."""
    if is_zarr(url):
        return open_image(url, reading)
    return FileImage(url, open_source(url, reading, sized=False), reading)


def _drawn(pair: Pair, image: Image, name: str, *, classes: Sequence[str], instances: Instances) -> Image:
    if len(image.shape) != 2:
        raise InputError(
            f"{name}: the target is polygons, which are drawn on two axes, and the image has {len(image.shape)}; make"
            " label volumes of a stack"
        )
    scale = image.scale or (1.0, 1.0)
    like = Like((image.shape[0], image.shape[1]), image.space, image.geo, (scale[0], scale[1]))
    table = {name: i for i, name in enumerate(classes)}
    apart = instances != "none"
    source = open_vectors(
        pair.target, like, attribute=pair.attribute, classes=None if apart or not table else table, apart=apart
    )
    return FileImage(pair.target, source)
