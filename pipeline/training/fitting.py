"""Do an image, its target and the network fit each other: refused by name before anything is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import InputError
from pipeline.model.architecture import UNetArchitecture
from pipeline.volume import Volume
from pipeline.volume.geo import Georeference
from pipeline.volume.image import Image
from pipeline.volume.sources.units import METRES

SIZE_TOLERANCE = 1e-3
"""Relative difference of two voxel sizes that are the same."""

PLACE_TOLERANCE = 0.5
"""Voxels by which the corners of two volumes may lie apart that are the same."""


def check_network(name: str, image: Image, architecture: UNetArchitecture) -> None:
    """Raise InputError if a network cannot look at an image."""
    if image.channels != architecture.in_channels:
        raise InputError(
            f"{name}: the image has {image.channels} channel(s) (axes {image.axes}, shape {image.shape}), but"
            f" architecture.in_channels is {architecture.in_channels}; make it {image.channels}"
        )
    if architecture.dims > len(image.shape):
        raise InputError(
            f"{name}: the image has the spatial axes {image.space.axes}, but the network is {architecture.dims}-D;"
            " a 3-D network needs a stack: set architecture.dims to 2"
        )


def check_alike(names: Sequence[str], images: Sequence[Image]) -> None:
    """Raise InputError if images differ in channels or axes, so that no one network could look at all of them."""
    for name, image in zip(names, images, strict=True):
        for what, found, first in (
            ("channel(s)", image.channels, images[0].channels),
            ("spatial axes", image.space.axes, images[0].space.axes),
        ):
            if found != first:
                raise InputError(
                    f"{name}: the image has {found} {what}, that of {names[0]} has {first}; one network looks at all"
                    " of them: train on images of one kind"
                )


def check_stored(name: str, target: Image) -> None:
    """Raise InputError if a target cannot hold class ids."""
    if target.dtype.kind not in "iub":
        raise InputError(
            f"{name}: the target is of {target.dtype}; class ids are whole numbers: store them in an integer dtype"
            " (`overtile ingest` has --threshold and a map of values)"
        )
    if target.channels != 1:
        raise InputError(f"{name}: the target has {target.channels} channels; class ids have one")


def check_fits(names: Sequence[str], images: Sequence[Image], targets: Sequence[Image]) -> None:
    """Raise InputError if a target does not lie on its image: in shape, voxel size, place or CRS.

    Where two targets would fit if they changed places, the message says so.
    """
    for i, (name, image, target) in enumerate(zip(names, images, targets, strict=True)):
        reason = misfit(image, target)
        if reason is not None:
            raise InputError(f"{name}: {reason}{_exchanged(i, names, images, targets)}")


def misfit(image: Image, target: Image) -> str | None:
    """Return why a target does not lie on an image; None where it does, as far as they say."""
    if (image.space.axes, image.shape) != (target.space.axes, target.shape):
        return (
            f"the image has {image.shape} voxels along {image.space.axes}, the target {target.shape} along"
            f" {target.space.axes}; they must be the same"
        )
    sizes = [_metres(each, each.space.voxel_size) for each in (image, target)]
    if sizes[0] is None or sizes[1] is None:
        return _misplaced(image, target)
    if not np.allclose(sizes[0], sizes[1], rtol=SIZE_TOLERANCE, atol=0):
        return (
            f"a voxel of the image is {image.space.voxel_size} {image.space.unit}, one of the target"
            f" {target.space.voxel_size} {target.space.unit}; they must be the same: correct the metadata of one"
        )
    places = [_metres(each, each.space.translation) for each in (image, target)]
    apart = np.abs(np.array(places[0]) - np.array(places[1]))
    if (apart > PLACE_TOLERANCE * np.array(sizes[0])).any():
        return (
            f"the image begins at {image.space.translation} {image.space.unit}, the target at"
            f" {target.space.translation} {target.space.unit}; they must lie on each other: correct the metadata of one"
        )
    return _misplaced(image, target)


def check_present(name: str, images: Sequence[Image]) -> None:
    """Raise InputError if a stored chunk of a volume is missing, where that is no background."""
    for volume in images:
        if not isinstance(volume, Volume) or volume.holes != "error":
            continue
        missing = volume.missing(volume.box)
        if missing:
            raise InputError(
                f"{name}: {volume.url} lacks {len(missing)} stored chunk(s) ({', '.join(missing[:3])}), which would be"
                " learnt from as if they were real; restore them, or set `holes: background`"
                " if chunks were left out because they hold nothing but the fill value"
            )


def _misplaced(image: Image, target: Image) -> str | None:
    """Return how an image and a target lie apart on Earth; None where they do not, or one does not say."""
    one, other = image.geo, target.geo
    if one is None or other is None:
        return None
    if one.crs != other.crs and (one.code or one.name) != (other.code or other.name):
        return (
            f"the image is in {one.code or one.name}, the target in {other.code or other.name}; bring them to one"
            " coordinate reference system"
        )
    apart = max(_apart(one, other, corner) for corner in _corners(image.shape[-2:]))
    if apart > PLACE_TOLERANCE:
        return (
            f"the image's transform is {one.transform}, the target's {other.transform}: their corners lie"
            f" {apart:.3g} voxels apart; they must lie on each other: warp one onto the other's grid"
        )
    return None


def _corners(shape: Sequence[int]) -> list[tuple[float, float]]:
    return [(float(y), float(x)) for y in (0, shape[0]) for x in (0, shape[1])]


def _apart(one: Georeference, other: Georeference, corner: tuple[float, float]) -> float:
    """Return how far a corner of one grid lies from the same corner of another, in voxels."""
    places = [each.shifted(corner).transform for each in (one, other)]
    size = min(one.voxel_size)
    return max(abs(places[0][i] - places[1][i]) for i in (2, 5)) / size


def _exchanged(i: int, names: Sequence[str], images: Sequence[Image], targets: Sequence[Image]) -> str:
    """Say with which other pair's target this one's may have been exchanged, if with any."""
    for j, name in enumerate(names):
        if j != i and misfit(images[i], targets[j]) is None and misfit(images[j], targets[i]) is None:
            return f". The targets of this pair and of {name} would fit each other's images: are they exchanged?"
    return ""


def _metres(image: Image, lengths: Sequence[float]) -> tuple[float, ...] | None:
    """Return lengths along an image's axes in metres, or None where its unit is not known."""
    metre = METRES.get(image.space.unit or "")
    return None if metre is None else tuple(length * metre for length in lengths)
