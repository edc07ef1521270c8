"""Read what the measures of a chunk see: both volumes, the mask and the areas around its core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputDamageError, MissingChunkError, VolumeError
from pipeline.evaluation.alignment import Offset
from pipeline.evaluation.window import Bits, Ids, Window, known_of
from pipeline.geometry import Box, Grid
from pipeline.volume import Volume, open_volume
from pipeline.volume.mask.stored import MaskSpec, Stored

Voxels = npt.NDArray[Any]

Holes = Mapping[str, tuple[str, ...]]
"""Keys of stored objects that are missing, by ``"prediction"`` and ``"target"``."""

NAMED = 3
"""Stored objects that a message names."""


class AreaSpec(Protocol):
    """How areas are opened; small and picklable."""

    def open(self) -> AreaReader:
        """Open them."""
        ...


class AreaReader(Protocol):
    """Areas of the prediction's voxels. Any number of threads may read at once."""

    def read(self, box: Box) -> Ids:
        """Return the number of the area of each voxel of a box ``([z,] y, x)``; 0 for none."""
        ...


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """How a volume is opened; small and picklable.

    Attributes:
        url: its address.
        level: of its resolution levels.
        holes: what a stored chunk that is missing means.
    """

    url: str
    level: int
    holes: str

    def open(self) -> Volume:
        """Open it."""
        return open_volume(self.url, level=self.level, holes=self.holes)


@dataclass(frozen=True, slots=True)
class ReadSpec:
    """Everything that decides what a chunk's measures see; small and picklable.

    Attributes:
        prediction: ids, or probabilities.
        target: ids.
        offset: voxel of the target that the prediction's voxel 0 lies over.
        box: what is compared, in the prediction's voxels.
        halo: voxels around a core that the measures need, along each axis.
        ignore: target value that is not counted.
        skip: whether voxels in holes are left out.
        threshold: probability from which one channel says class 1.
        mask: outside of which nothing is compared; None where all is.
        areas: that are measured apart; None where none are.
    """

    prediction: VolumeSpec
    target: VolumeSpec
    offset: Offset
    box: Box
    halo: tuple[int, ...]
    ignore: int | None = None
    skip: bool = False
    threshold: float = 0.5
    mask: MaskSpec | None = None
    areas: AreaSpec | None = None

    def window(self, core: Box) -> Box:
        """Return what is read for a core, in the prediction's voxels: the core and the halo, inside of the box."""
        return core.grow(self.halo, self.halo).intersect(self.box)

    def open(self) -> WindowReader:
        """Open everything, in a worker process."""
        return WindowReader(self)


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A chunk's window, and what it was made from.

    Attributes:
        window: for the measures.
        seen: short digests of the stored objects below it, of the prediction and then of the target.
        holes: keys of those that are missing, whose voxels are left out.
    """

    window: Window
    seen: tuple[str, ...]
    holes: Holes


class WindowReader:
    """Open volumes, mask and areas. Any number of threads may read at once."""

    def __init__(self, spec: ReadSpec) -> None:
        self._spec = spec
        self._volumes = {"prediction": spec.prediction.open(), "target": spec.target.open()}
        self._mask: Stored | None = spec.mask.open() if spec.mask else None
        self._areas = spec.areas.open() if spec.areas else None

    def read(self, core: Box) -> Read:
        """Read what the measures of a core see.

        Args:
            core: inside of the box that is compared, in the prediction's voxels.

        Raises:
            VolumeError: stored voxels are missing, and holes are errors, or do not decode.
            StoreError: a store does not answer.
        """
        spec, box = self._spec, self._spec.window(core)
        counted = self._inside(box)
        found: dict[str, Voxels] = {}
        seen: tuple[str, ...] = ()
        holes: dict[str, tuple[str, ...]] = {}
        for role, volume in self._volumes.items():
            place = box.shift(spec.offset) if role == "target" else box
            found[role], digests, missing = _read(volume, place, role, skip=spec.skip)
            seen += digests
            if missing:
                holes[role] = tuple(missing)
                whole = ~_in_holes(volume, place, missing)
                counted = whole if counted is None else counted & whole
        channels, target, inner = found["prediction"], found["target"][0], core.relative_to(box.start)
        probable = "c" in self._volumes["prediction"].axes
        known, ignored = known_of(target, counted, spec.ignore, inner)
        window = Window(
            core=inner,
            start=box.start,
            prediction=_classes(channels, spec.threshold) if probable else channels[0],
            target=target,
            probabilities=channels if probable else None,
            areas=None if self._areas is None else self._areas.read(core),
            known=known,
            ignored=ignored,
        )
        return Read(window, seen, holes)

    def _inside(self, box: Box) -> Bits | None:
        """Return which voxels of a box are in the mask; None for all."""
        if self._mask is None:
            return None
        return np.array(np.broadcast_to(self._mask.of_image(box), box.shape))


def _read(volume: Volume, box: Box, role: str, *, skip: bool) -> tuple[Voxels, tuple[str, ...], list[str]]:
    """Read a box ``(c, [z,] y, x)``; return it with the digests of what is below, and the keys of what is missing."""
    missing: list[str] = []
    try:
        try:
            look = volume.look(box)
        except MissingChunkError as error:
            missing = volume.missing(box)
            if not skip:
                raise VolumeError(_hole(volume, box, role, missing)) from error
            look = volume.look(box, holes="background")
        return look.read(), look.seen, missing
    except (InputDamageError, MissingChunkError) as error:
        raise VolumeError(
            f"{volume.url}: voxels {box} cannot be read ({type(error).__name__}: {error}); the stored bytes may be"
            " damaged: `overtile verify` tells for a result"
        ) from error


def _hole(volume: Volume, box: Box, role: str, missing: list[str]) -> str:
    how = (
        "pass --holes background if chunks were left out because they hold nothing but the fill value"
        if role == "target"
        else "run the segmentation again"
    )
    return (
        f"{volume.url}: {len(missing)} stored chunk(s) below voxels {box} are missing ({', '.join(missing[:NAMED])});"
        f" a hole is not scored as background. Restore them, leave that part out with --region, leave all holes out"
        f" with --holes skip, or {how}"
    )


def _in_holes(volume: Volume, box: Box, missing: list[str]) -> Bits:
    """Return which voxels of a box ``([z,] y, x)`` lie in stored objects that are missing, in any channel."""
    lacking, found = set(missing), np.zeros(box.shape, np.bool_)
    stored = volume.storage_grid
    order = [volume.axes.index(a) for a in volume.space.axes]
    grid = Grid(volume.shape, tuple(stored.chunk[i] for i in order))
    for position in stored.overlapping(volume.stored_box(box)):
        if str(volume.array.metadata.encode_chunk_key(position)) in lacking:
            core = grid.core(grid.number([position[i] for i in order]))
            found[core.intersect(box).relative_to(box.start).slices] = True
    return found


def _classes(probabilities: Voxels, threshold: float) -> Ids:
    """Return the most probable class, the first of equal ones: ``([z,] y, x)``."""
    if len(probabilities) > 1:
        return np.asarray(probabilities.argmax(axis=0))
    least = threshold * 255 if probabilities.dtype == np.uint8 else threshold
    return np.asarray(probabilities[0] >= least)
