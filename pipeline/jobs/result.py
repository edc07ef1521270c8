"""A result that is taken elsewhere: opened if its run is complete, with its names and its place in the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import zarr

from pipeline.errors import InputError, OvertileError
from pipeline.reporting.recorded import parse_box
from pipeline.run.folder import PARTIAL, SEALED, SEGMENTATION, RunFolder
from pipeline.store import absolute
from pipeline.volume import Volume, open_volume
from pipeline.volume.export.shapes import VOXELS, Transform
from pipeline.volume.geo import Georeference, read_georeference
from pipeline.volume.ngff import read_channels, read_classes
from pipeline.volume.node import as_place, open_node
from pipeline.volume.state import KEY


@dataclass(frozen=True, slots=True)
class Result:
    """A result, and all that is known of it.

    Attributes:
        levels: the volume and its coarser levels.
        geo: where level 0 lies on Earth; None where nothing says it.
        names: of the class ids, or of the channels, 0, 1 ...; empty where nothing names them.
        transform: from voxels to pixels of level 0 of the image that was segmented.
        mark: what the run said of the result in its attributes: its state, holes, what a mask left out.
    """

    levels: tuple[Volume, ...]
    geo: Georeference | None
    names: tuple[str, ...]
    transform: Transform
    mark: Mapping[str, Any] = field(default_factory=dict)


def open_result(url: str, classes: Sequence[str] | None, *, holes: str = "error") -> Result:
    """Open a result and find out what is known of it.

    Args:
        url: an image group or an array.
        classes: names of the class ids 0, 1 ...; None for those that the group or the run has.
        holes: ``"background"`` takes chunks that failed, of a run that accepted it, and other stored chunks that are
            missing, for background; ``"error"`` refuses them.

    Raises:
        InputError: it cannot be opened, its run is not complete, or it has holes and they are errors.
    """
    run = _run(url, holes)
    finest = open_volume(url, holes=holes)
    levels = (finest, *(open_volume(url, level=k, holes=holes) for k in range(1, len(finest.levels))))
    node = open_node(as_place(url), url)
    attributes = dict(node.attrs) if isinstance(node, zarr.Group) else {}
    named = read_classes(attributes) or read_channels(attributes) or (run or {}).get("classes")
    names = tuple(classes or named or ())
    mark = attributes.get(KEY)
    return Result(
        levels, read_georeference(attributes), names, _transform(run), mark if isinstance(mark, dict) else {}
    )


def _run(url: str, holes: str) -> dict[str, Any] | None:
    """Return what was recorded of the run that made a result; None where there is none.

    Raises:
        InputError: it is not complete, or has holes and they are errors.
    """
    whole = absolute(url)
    around = whole.rpartition("/")[0]
    for output in (whole, around) if around.count("/") >= (3 if "://" in around else 1) else (whole,):
        folder = RunFolder(output)
        if folder.exists:
            if folder.state == PARTIAL and holes == "error":
                raise InputError(
                    f"{url}: its run finished with chunks that failed, so the result has holes. `overtile rerun"
                    f" {output}` tries them again; --holes background exports it with background in their place"
                )
            if folder.state not in (PARTIAL, SEALED):
                raise InputError(
                    f"{url}: its run is not complete, so it has holes; `overtile status {output}` says what is"
                    " lacking, and `overtile segment` again does it"
                )
            recorded = folder.read()
            return recorded if recorded.get("kind", SEGMENTATION) == SEGMENTATION else None
    return None


def _transform(run: dict[str, Any] | None) -> Transform:
    """Return where voxels lie in pixels of level 0 of the run's input: its region begins at a voxel of its level.

    Raises:
        InputError: the input's levels are needed, but it cannot be opened any more.
    """
    if run is None:
        return VOXELS
    settings, start = run["settings"], parse_box(run["plan"]["region"]).start[-2:]
    fy, fx = run["plan"].get("resolution", {}).get("finest", (1.0, 1.0))[-2:]
    if "resolution" not in run["plan"] and settings["level"]:  # recorded by an older version
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
