"""A result that is taken elsewhere: opened if its run is complete, with its names and its place in the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zarr

from pipeline.errors import InputError, OvertileError
from pipeline.reporting.recorded import parse_box
from pipeline.run.folder import RunFolder
from pipeline.store import absolute
from pipeline.volume import Volume, open_volume
from pipeline.volume.export.shapes import VOXELS, Transform
from pipeline.volume.geo import Georeference, read_georeference
from pipeline.volume.ngff import read_classes
from pipeline.volume.node import as_place, open_node


@dataclass(frozen=True, slots=True)
class Result:
    """A result, and all that is known of it.

    Attributes:
        levels: the volume and its coarser levels.
        geo: where level 0 lies on Earth; None where nothing says it.
        names: of the class ids, or of the channels, 0, 1 ...; empty where nothing names them.
        transform: from voxels to pixels of level 0 of the image that was segmented.
    """

    levels: tuple[Volume, ...]
    geo: Georeference | None
    names: tuple[str, ...]
    transform: Transform


def open_result(url: str, classes: Sequence[str] | None) -> Result:
    """Open a result and find out what is known of it.

    Args:
        url: an image group or an array.
        classes: names of the class ids 0, 1 ...; None for those that the group or the run has.

    Raises:
        InputError: it cannot be opened, or its run is not complete.
    """
    run = _run(url)
    finest = open_volume(url)
    levels = (finest, *(open_volume(url, level=k) for k in range(1, len(finest.levels))))
    node = open_node(as_place(url), url)
    attributes = dict(node.attrs) if isinstance(node, zarr.Group) else {}
    names = tuple(classes or read_classes(attributes) or (run or {}).get("classes") or ())
    return Result(levels, read_georeference(attributes), names, _transform(run))


def _run(url: str) -> dict[str, Any] | None:
    """Return what was recorded of the run that made a result; None where there is none.

    Raises:
        InputError: it is not complete.
    """
    whole = absolute(url)
    around = whole.rpartition("/")[0]
    for output in (whole, around) if around.count("/") >= (3 if "://" in around else 1) else (whole,):
        folder = RunFolder(output)
        if folder.exists:
            if not folder.is_sealed:
                raise InputError(
                    f"{url}: its run is not complete, so it has holes; `overtile status {output}` says what is"
                    " lacking, and `overtile segment` again does it"
                )
            return folder.read()
    return None


def _transform(run: dict[str, Any] | None) -> Transform:
    """Return where voxels lie in pixels of level 0 of the run's input: its region begins at a voxel of its level.

    Raises:
        InputError: the input's levels are needed, but it cannot be opened any more.
    """
    if run is None:
        return VOXELS
    settings, start = run["settings"], parse_box(run["plan"]["region"]).start[-2:]
    fy, fx = 1.0, 1.0
    if settings["level"]:
        axes = settings.get("axes")
        try:
            fine, coarse = (
                open_volume(settings["input"], level=level, axes=axes).space.voxel_size[-2:]
                for level in (0, settings["level"])
            )
        except OvertileError as error:
            raise InputError(
                f"the result is of level {settings['level']} of {settings['input']}, which is needed to tell where it"
                f" lies in level 0: {error}"
            ) from error
        fy, fx = coarse[0] / fine[0], coarse[1] / fine[1]
    return (fx, 0, start[1] * fx, 0, fy, start[0] * fy)
