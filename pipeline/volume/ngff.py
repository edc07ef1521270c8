"""OME-NGFF metadata: what an image group says of its levels and channels (0.4 and 0.5 read and written).

Pure dictionaries in and out; the specification is https://ngff.openmicroscopy.org/0.5/, sections "multiscales",
"omero" and "image-label"; https://ngff.openmicroscopy.org/0.4/ says the same in other places.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.errors import VolumeError
from pipeline.volume.space import Space

VERSION: Final = "0.5"
OLDER: Final = "0.4"
"""Versions that are written: in Zarr v3, and in Zarr v2."""

Window = tuple[float, float]
"""Values that are shown as black and as full colour."""


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution level of a multiscale image, as its metadata tell it.

    Attributes:
        path: path of the level's array inside the group.
        axes: stored axis names, for example ``"cyx"``.
        scale: per stored axis.
        translation: per stored axis.
        units: per stored axis; None where there is none.
    """

    path: str
    axes: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]

    def space(self) -> Space:
        """Return the spatial part."""
        index = [self.axes.index(a) for a in self.axes if a in "zyx"]
        units = {self.units[i] for i in index}
        return Space(
            "".join(self.axes[i] for i in index),
            tuple(self.scale[i] for i in index),
            tuple(self.translation[i] for i in index),
            units.pop() if len(units) == 1 else None,
        )


def read_levels(attributes: Mapping[str, Any], *, where: str) -> list[Level] | None:
    """Return the levels that a group's attributes describe, finest first; None if it is no OME image.

    Raises:
        VolumeError: the metadata are there but broken.
    """
    ome = attributes.get("ome", attributes)
    multiscales = ome.get("multiscales") if isinstance(ome, Mapping) else None
    if not multiscales:
        return None
    try:
        image = multiscales[0]
        axes, units = _read_axes(image)
        outer = image.get("coordinateTransformations", [])
        return [_read_level(d, axes, units, outer) for d in image["datasets"]]
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise VolumeError(f"{where}: broken OME-NGFF metadata ({type(error).__name__}: {error})") from error


def read_version(attributes: Mapping[str, Any]) -> str | None:
    """Return the version of OME-NGFF that a group's attributes claim; None if it is no OME image."""
    ome = attributes.get("ome")
    if isinstance(ome, Mapping):
        return str(ome.get("version", VERSION))
    images = attributes.get("multiscales")
    return str(images[0].get("version", "unknown")) if images else None


def read_classes(attributes: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the class ids 0, 1, ... of a class map; None for any other image.

    An id without a name gets its number as a name.
    """
    label = attributes.get("ome", attributes).get("image-label")
    if not isinstance(label, Mapping):
        return None
    described = [*label.get("colors", []), *label.get("properties", [])]
    names = {int(d["label-value"]): str(d.get("class", d["label-value"])) for d in described}
    return [names.get(i, str(i)) for i in range(max(names, default=-1) + 1)]


def read_channels(attributes: Mapping[str, Any]) -> list[str] | None:
    """Return the names of an image's channels; None where it does not name each of them."""
    found = attributes.get("ome", attributes).get("omero")
    channels = found.get("channels") if isinstance(found, Mapping) else None
    if not isinstance(channels, list) or not channels:
        return None
    names = [channel.get("label") if isinstance(channel, Mapping) else None for channel in channels]
    return [str(name) for name in names] if all(names) else None


def channel_names(classes: Sequence[str], channels: int | None) -> tuple[str, ...] | None:
    """Return the names of channels that hold a number for each class, or for the last class alone (a sigmoid).

    Args:
        classes: names of the class ids 0, 1 ...
        channels: number of channels; None for a class map, which has none.
    """
    if channels is None or channels > len(classes):
        return None
    return tuple(classes[-1:] if channels == 1 else classes[:channels])


def image_attributes(
    name: str,
    axes: str,
    levels: Sequence[tuple[str, Space]],
    *,
    classes: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    window: Window = (0, 255),
) -> dict[str, Any]:
    """Return the ``ome`` attribute of an image of the given levels.

    Args:
        name: shown by viewers.
        axes: stored axis names, for example ``"cyx"``.
        levels: path and space of each level, finest first.
        classes: names of the class ids 0, 1, ... if the image is a class map; adds ``image-label``.
        channels: names of the channels, one each; adds ``omero``.
        window: values that viewers show as black and as full colour, of all channels; for ``channels`` only.
    """
    unit = levels[0][1].unit
    described: list[dict[str, str]] = []
    for axis in axes:
        entry = {"name": axis, "type": "channel" if axis == "c" else "space"}
        if axis != "c" and unit:
            entry["unit"] = unit
        described.append(entry)
    image = {
        "name": name,
        "axes": described,
        "datasets": [{"path": path, "coordinateTransformations": _transforms(axes, s)} for path, s in levels],
    }
    ome: dict[str, Any] = {"version": VERSION, "multiscales": [image]}
    if classes is not None:
        ome["image-label"] = _image_label(classes)
    if channels is not None:
        ome["omero"] = _omero(channels, window)
    return ome


def older_attributes(ome: Mapping[str, Any]) -> dict[str, Any]:
    """Return what version 0.4 says instead of an ``ome`` attribute of 0.5: the same, in the group's own attributes."""
    found = {key: value for key, value in ome.items() if key != "version"}
    found["multiscales"] = [{"version": OLDER, **image} for image in found["multiscales"]]
    for key in ("image-label", "omero"):
        if key in found:
            found[key] = {**found[key], "version": OLDER}
    return found


_PALETTE = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Okabe and Ito's colours, which people with colour-blindness can tell apart."""


_PRIMARY = {"red": "FF0000", "r": "FF0000", "green": "00FF00", "g": "00FF00", "blue": "0000FF", "b": "0000FF"}


def _omero(channels: Sequence[str], window: Window) -> dict[str, Any]:
    """Return names, colours and shown values of channels; red, green and blue are what they are called.

    Probabilities of classes, which begin with the background, have the colours of the classes: it is black.
    """
    first = 0 if channels[0].lower() == "background" else 1
    hues = ["FFFFFF"] if len(channels) == 1 else [colour[1:].upper() for colour in _PALETTE[first:]]
    low, high = window
    described = [
        {
            "label": name,
            "color": _PRIMARY.get(name.lower(), hues[i % len(hues)]),
            "window": {"min": low, "max": high, "start": low, "end": high},
            "active": True,
        }
        for i, name in enumerate(channels)
    ]
    return {"version": VERSION, "channels": described}


def _image_label(classes: Sequence[str]) -> dict[str, Any]:
    """Return the colours and names of class ids; class 0 is transparent."""
    colours, properties = [], []
    for i, name in enumerate(classes):
        rgb = _PALETTE[0] if i == 0 else _PALETTE[1 + (i - 1) % (len(_PALETTE) - 1)]
        rgba = [int(rgb[k : k + 2], 16) for k in (1, 3, 5)] + [0 if i == 0 else 255]
        colours.append({"label-value": i, "rgba": rgba})
        properties.append({"label-value": i, "class": name})
    return {"version": VERSION, "colors": colours, "properties": properties}


def _transforms(axes: str, space: Space) -> list[dict[str, Any]]:
    def of(values: Sequence[float], other: float) -> list[float]:
        return [values[space.axes.index(a)] if a in space.axes else other for a in axes]

    return [
        {"type": "scale", "scale": of(space.voxel_size, 1.0)},
        {"type": "translation", "translation": of(space.translation, 0.0)},
    ]


def _read_axes(image: Mapping[str, Any]) -> tuple[str, tuple[str | None, ...]]:
    """Return axis names and units; images before 0.4 name them in other ways."""
    axes = image.get("axes", list("tczyx"))
    names = [a if isinstance(a, str) else a["name"] for a in axes]
    units = tuple(None if isinstance(a, str) else a.get("unit") for a in axes)
    if any(len(n) != 1 for n in names):
        raise ValueError(f"axis names {names}")
    return "".join(names).lower(), units


def _read_level(
    dataset: Mapping[str, Any], axes: str, units: tuple[str | None, ...], outer: Sequence[Mapping[str, Any]]
) -> Level:
    """Return a level with its own transformations and then the image's applied."""
    scale, translation = [1.0] * len(axes), [0.0] * len(axes)
    for step in [*dataset.get("coordinateTransformations", []), *outer]:
        if step["type"] == "scale":
            factors = [float(v) for v in step["scale"]]
            if not all(math.isfinite(f) and f > 0 for f in factors):
                raise ValueError(f"scale {factors} is not positive")
            scale = [s * f for s, f in zip(scale, factors, strict=True)]
            translation = [t * f for t, f in zip(translation, factors, strict=True)]
        elif step["type"] == "translation":
            translation = [t + float(v) for t, v in zip(translation, step["translation"], strict=True)]
    return Level(str(dataset["path"]), axes, tuple(scale), tuple(translation), units)
