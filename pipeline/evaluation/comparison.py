"""Two class maps side by side: opened, found to fit each other before any work, and compared box by box."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from pipeline.errors import ChunkError, InputError, MissingChunkError, VolumeError
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.geometry import Box, Grid
from pipeline.run.fingerprint import fingerprint
from pipeline.run.folder import RunFolder
from pipeline.store import absolute, open_place, place_of_store
from pipeline.volume import Volume, open_volume
from pipeline.volume.ngff import read_classes

MOST_CLASSES = 256
"""Most classes where nothing names them; more ids than that are objects, not classes."""

Ranges = Sequence[tuple[int | None, int | None]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prediction and its target: class ids of the same axes and shape.

    Attributes:
        prediction: class ids without a channel axis.
        target: class ids of the same spatial shape.
        box: the part of both that is compared, in voxels.
        names: of the class ids 0, 1, ...; None where nobody names them.
        ignore: target value that is not counted.
    """

    prediction: Volume
    target: Volume
    box: Box
    names: tuple[str, ...] | None
    ignore: int | None

    @property
    def grid(self) -> Grid:
        """The prediction's stored objects (shards, or chunks where there are none), over the spatial axes."""
        volume = self.prediction
        stored = volume.storage_grid.chunk
        return Grid(volume.shape, tuple(stored[volume.axes.index(a)] for a in volume.space.axes))

    @property
    def target_identity(self) -> str:
        """Digest of where the target is and how it is stored: evaluations with the same one share their target."""
        array = self.target.array
        path = f"{absolute(place_of_store(array.store).url)}/{array.path}".rstrip("/")
        return fingerprint({"path": path, "array": self.target.metadata})

    @property
    def count(self) -> int:
        """Number of chunks that the box touches."""
        grid = self.grid
        return math.prod(n // c for n, c in zip(self.box.align(grid.chunk).shape, grid.chunk, strict=True))

    def chunks(self) -> Iterator[tuple[int, Box]]:
        """Yield number and core of each chunk of :attr:`grid`, in order; cores are clipped to the box."""
        grid = self.grid
        for position in grid.overlapping(self.box):
            number = grid.number(position)
            yield number, grid.core(number).intersect(self.box)

    def named(self, names: Sequence[str]) -> Comparison:
        """Return the same comparison with names of the classes.

        Raises:
            InputError: a name occurs twice, or there is none.
        """
        metrics(ConfusionStatistics.zero(len(names)), names)
        return replace(self, names=tuple(names))

    def statistics(self, core: Box) -> ConfusionStatistics:
        """Return the statistics of one box. Law: those of disjoint boxes add up to those of their union.

        Raises:
            VolumeError: stored voxels are missing or cannot be decoded: a hole is never scored as background.
            InputError: a counted value is none of the classes.
        """
        assert self.names is not None, self
        prediction, target = (_read(v, core) for v in (self.prediction, self.target))
        try:
            return ConfusionStatistics.of(prediction, target, classes=len(self.names), ignore=self.ignore)
        except ChunkError as error:
            raise InputError(f"{self.prediction.url} against {self.target.url}, voxels {core}: {error}") from error

    def largest_id(self, core: Box) -> int:
        """Return the largest class id that either map holds in a box; ignored voxels of the target count as 0.

        Raises:
            VolumeError: as :meth:`statistics`, or the id is no class but an object.
        """
        found = 0
        for volume in (self.prediction, self.target):
            values = _read(volume, core)
            if volume is self.target and self.ignore is not None:
                values = values[values != self.ignore]
            largest = int(values.max(initial=0))
            if largest >= MOST_CLASSES:
                raise VolumeError(
                    f"{volume.url}: holds the value {largest} in voxels {core}; ids above {MOST_CLASSES - 1} are"
                    " objects, not classes. Name the classes with --classes if they are meant"
                )
            found = max(found, largest)
        return found


def open_comparison(
    prediction: str,
    target: str,
    *,
    region: Ranges | None,
    classes: Sequence[str] | None,
    ignore: int | None,
    holes: str = "error",
) -> Comparison:
    """Open both volumes and find that they can be compared; no voxel is read.

    Args:
        prediction: class ids, see :func:`pipeline.volume.open_volume`; level 0 of an image.
        target: class ids of the same axes and shape.
        region: start and stop along each spatial axis, of both; None for all.
        classes: names of the class ids; None for those that the prediction's metadata give, or else the target's.
        ignore: target value that is not counted.
        holes: what a stored chunk that is missing from the target means, ``"error"`` or ``"background"``; one that
            is missing from the prediction is always an error.

    Raises:
        InputError: one cannot be opened, is no map of class ids, or belongs to a run that is not complete; shapes or
            axes differ; a region outside of both; a class name that occurs twice.
    """
    if absolute(prediction) == absolute(target):
        raise InputError(f"prediction and target are the same volume, {prediction}; name the target's own")
    maps = [open_class_ids(prediction, role="prediction"), open_class_ids(target, role="target", holes=holes)]
    check_same_shape(*maps)
    names = classes or next(filter(None, map(class_names, maps)), None)
    found = Comparison(maps[0], maps[1], _box(region, maps[0]), None, ignore)
    return found if names is None else found.named(names)


def open_class_ids(url: str, *, role: str, holes: str = "error") -> Volume:
    """Open a map of class ids: whole numbers, one for each voxel.

    Args:
        url: path of the volume.
        role: what messages call it, ``"prediction"`` or ``"target"``.
        holes: what a stored chunk that is missing means.

    Raises:
        InputError: it cannot be opened, has channels, is not of integers, or its run is not complete.
    """
    _check_complete(url, role)
    volume = open_volume(url, holes=holes)
    if "c" in volume.axes:
        raise InputError(
            f"{role} {url}: has a channel axis (axes {volume.axes}, shape {volume.array.shape}), so it holds an image"
            " or probabilities and no class ids; segment with --kind labels"
        )
    if volume.dtype.kind not in "iub":
        raise InputError(
            f"{role} {url}: is of {volume.dtype}; class ids are whole numbers, so give an integer dtype"
        )
    return volume


def check_same_shape(prediction: Volume, target: Volume) -> None:
    """Raise InputError unless two volumes have the same spatial axes and shape."""
    axes, shapes = (prediction.space.axes, target.space.axes), (prediction.shape, target.shape)
    if axes[0] != axes[1] or shapes[0] != shapes[1]:
        raise InputError(
            f"prediction {prediction.url} has the shape {_shape(prediction)}, target {target.url} {_shape(target)};"
            " they must be equal. A prediction of a --region is only as large as the region: cut the same out of the"
            " target"
        )


def class_names(volume: Volume) -> list[str] | None:
    """Return the names of the class ids that a volume's image group gives; None where it gives none.

    The group is looked for at the volume's path and, where that is an array, in the folder around it.
    """
    for url in _places(volume.url):
        try:
            store = open_place(url).zarr_store(read_only=True)
            group = zarr.open_group(store=store, mode="r", use_consolidated=False)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return read_classes(dict(group.attrs))
    return None


def _places(url: str) -> list[str]:
    """Return a volume's address and that of the folder around it, as far as they can be opened."""
    whole = absolute(url)
    around = whole.rpartition("/")[0]
    return [whole, around] if around.count("/") >= (3 if "://" in around else 1) else [whole]


def runs_of(url: str) -> list[RunFolder]:
    """Return the run that made a volume, found at its path or, of an array, at that of the folder around it."""
    return [folder for folder in map(RunFolder, _places(url)) if folder.exists]


def _check_complete(url: str, role: str) -> None:
    for folder in runs_of(url):
        if not folder.is_sealed:
            raise InputError(
                f"{role} {url}: its run is not complete, so it has holes; `overtile status {folder.output.url}` says"
                " what is lacking, and `overtile segment` again does it"
            )


def _box(region: Ranges | None, volume: Volume) -> Box:
    """Return the asked part of both volumes."""
    if region is None:
        return volume.box
    axes = volume.space.axes
    if len(region) != len(axes):
        raise InputError(f"--region has {len(region)} ranges, but the volumes have the axes {','.join(axes)}")
    pairs = [(a or 0, n if b is None else b) for (a, b), n in zip(region, volume.shape, strict=True)]
    for (a, b), n, axis in zip(pairs, volume.shape, axes, strict=True):
        if not 0 <= a < b <= n:
            raise InputError(f"--region {a}:{b} along {axis} is not inside the volumes' 0:{n}")
    return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def _read(volume: Volume, core: Box) -> npt.NDArray[np.integer[Any]]:
    """Read class ids ``([z,] y, x)``; a hole or a damaged chunk is an error of the volume."""
    try:
        ids: npt.NDArray[np.integer[Any]] = volume.read(core)[0]
        return ids
    except MissingChunkError as error:
        missing = volume.missing(core)
        raise VolumeError(
            f"{volume.url}: {len(missing)} stored chunk(s) below voxels {core} are missing ({', '.join(missing[:3])});"
            " a hole is not scored as background. Restore them, leave that part out with --region, or pass --holes"
            " background for a target whose chunks were left out because they hold nothing but the fill value"
        ) from error
    except Exception as error:
        raise VolumeError(
            f"{volume.url}: voxels {core} cannot be read ({type(error).__name__}: {error}); the stored bytes may be"
            " damaged: `overtile verify` tells for a result"
        ) from error


def _shape(volume: Volume) -> str:
    return " x ".join(f"{n} {a}" for n, a in zip(volume.shape, volume.space.axes, strict=True))
