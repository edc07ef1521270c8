"""Looks at the volumes of one run: image, prediction and target of a plane or of a place, as arrays of pixels.

What is no longer there (the image, the result) or cannot be read is left out and noted: a report never fails of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.config import ReadingFields, reading_of
from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.reporting.figures import Classes, class_ids
from pipeline.reporting.recorded import Recorded
from pipeline.reporting.views import View, Voxels, common_levels, open_view
from pipeline.volume import Space

Found = TypeVar("Found")
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a box of the result shows.

    Attributes:
        box: in the result's voxels, one voxel thick along z.
        image: ``(c, h, w)``; None where it is not there.
        prediction: class ids ``(h, w)``.
        target: class ids ``(h, w)``; None without a target.
        lacking: marks pixels ``(h, w)`` that have not been computed.
    """

    box: Box
    image: Voxels | None
    prediction: Classes
    target: Classes | None
    lacking: Marks


class Camera:
    """The volumes of a run, open as far as they are there.

    Attributes:
        notes: what could not be shown, and why.
    """

    def __init__(self, run: Recorded, target: View | None) -> None:
        self.notes: list[str] = []
        self._run, self._target = run, target
        self._image = self._try("The image is not shown", self._open_image)
        self._prediction = self._try("The result is not shown", self._open_prediction)

    @property
    def space(self) -> Space | None:
        """Axes and voxel size of the result, None where it is not there; an unpublished one has the image's."""
        if self._prediction is None:
            return None
        known = self._image if self._run.seal is None and self._image else self._prediction
        return known.volume.space

    def overview(self, plane: Box, shape: tuple[int, int]) -> Seen | None:
        """Look at a plane shrunk to ``shape`` pixels; None where the result cannot be read."""
        if (prediction := self._prediction) is None:
            return None
        target, lacking = self._target, self._run.lacking(plane, shape)
        levels = None if target is None else common_levels(prediction, target, plane=plane, shape=shape)

        def look() -> Seen:
            stored = prediction.sampled(plane, shape, level=levels and levels[0])
            truth = None if target is None else target.sampled(plane, shape, level=levels and levels[1])[0]
            return Seen(plane, None, self._ids(stored), truth, lacking)

        seen = self._try("The overview is not shown", look)
        return seen and self._with_image(seen, lambda image: image.averaged(plane, shape))

    def close(self, box: Box) -> Seen | None:
        """Look at a small box at full resolution; None where the result cannot be read."""
        if (prediction := self._prediction) is None:
            return None
        target, lacking = self._target, self._run.lacking(box, (box.shape[-2], box.shape[-1]))

        def look() -> Seen:
            truth = None if target is None else target.cut(box)[0]
            return Seen(box, None, self._ids(prediction.cut(box)), truth, lacking)

        seen = self._try(f"The place {box} is not shown", look)
        return seen and self._with_image(seen, lambda image: image.cut(box)[:3])

    def _with_image(self, seen: Seen, look: Callable[[View], Voxels]) -> Seen:
        if (image := self._image) is None:
            return seen
        shown = self._try("The image is not shown", lambda: look(image))
        return Seen(seen.box, shown, seen.prediction, seen.target, seen.lacking)

    def _open_image(self) -> View:
        settings, read = self._run.settings, self._run.plan["input"]["shape"]
        resolution = self._run.plan.get("resolution", {"level": settings["level"], "resampled": False})
        said = {name: settings[name] for name in ReadingFields.model_fields if name in settings}
        if said.get("voxel_size"):  # the job says that of level 0, if the level was chosen
            sizes = zip(resolution["voxel_size"], resolution["factor"], strict=True)
            said["voxel_size"] = [size / factor for size, factor in sizes]
        reading = reading_of(ReadingFields.model_validate(said | {"level": resolution["level"]}))
        factors = tuple(resolution["factor"][-2:]) if resolution["resampled"] else None
        view = open_view(settings["input"], reading, factors=factors, origin=self._run.region.start)
        if list(view.volume.shape) != read:
            raise VolumeError(f"{settings['input']}: has the shape {list(view.volume.shape)}, the run read {read}")
        return view

    def _open_prediction(self) -> View:
        run = self._run
        view = open_view(run.output if run.seal else f"{run.output}/{run.document['array']}")
        if view.volume.shape != run.grid.shape:
            raise VolumeError(f"{run.output}: has the shape {view.volume.shape}, the run made {run.grid.shape}")
        return view

    def _ids(self, voxels: Voxels) -> Classes:
        return class_ids(voxels, self._run.settings["kind"])

    def _try(self, what: str, take: Callable[[], Found]) -> Found | None:
        """Return what ``take`` gives, or note why it gives nothing: a damaged chunk raises what its codec raises."""
        try:
            return take()
        except Exception as error:
            note = f"{what}: {error}"
            if note not in self.notes:
                self.notes.append(note)
            return None
