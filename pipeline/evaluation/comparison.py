"""A prediction and its target side by side: opened, and found to fit each other before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import zarr

from pipeline.config import EvaluateJob
from pipeline.errors import InputError
from pipeline.evaluation.alignment import Offset, common_box, offset_of
from pipeline.evaluation.metrics import check_names
from pipeline.geometry import Box, Grid
from pipeline.run.fingerprint import fingerprint
from pipeline.run.folder import SEGMENTATION, RunFolder
from pipeline.store import absolute, open_place, place_of_store
from pipeline.volume import Volume, open_volume
from pipeline.volume.ngff import read_classes

Kind = Literal["classes", "probabilities", "instances"]
"""What a prediction holds: ids of classes, a probability of each class, or ids of objects."""

OBJECTS = ("background", "object")
"""The classes of ids of objects: 0, and all others."""

Ranges = Sequence[tuple[int | None, int | None]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prediction and its target, of which a common part is compared.

    Attributes:
        prediction: class ids, probabilities ``c [z] y x``, or object ids.
        target: class ids or object ids, without a channel axis.
        offset: voxel of the target that the prediction's voxel 0 lies over.
        box: what is compared, in the prediction's voxels.
        kind: what the prediction holds.
        names: of the class ids 0, 1, ...; None where nobody names them.
    """

    prediction: Volume
    target: Volume
    offset: Offset
    box: Box
    kind: Kind
    names: tuple[str, ...] | None

    @property
    def stored_chunk(self) -> tuple[int, ...]:
        """Spatial shape of the prediction's stored objects: shards, or chunks where there are none."""
        volume = self.prediction
        stored = volume.storage_grid.chunk
        return tuple(stored[volume.axes.index(a)] for a in volume.space.axes)

    @property
    def target_identity(self) -> str:
        """Digest of where the target is and how it is stored: evaluations with the same one share their target."""
        array = self.target.array
        path = f"{absolute(place_of_store(array.store).url)}/{array.path}".rstrip("/")
        return fingerprint({"path": path, "array": self.target.metadata})

    def grid(self, chunk: Sequence[int]) -> Grid:
        """Return chunks of the whole prediction, of which the box may touch some only."""
        shape = self.prediction.shape
        return Grid(shape, tuple(min(c, n) for c, n in zip(chunk, shape, strict=True)))


def open_comparison(job: EvaluateJob) -> Comparison:
    """Open both volumes and find that they can be compared; no voxel is read.

    Raises:
        InputError: one cannot be opened, does not hold what is asked for, or belongs to a run that is not complete;
            they do not lie over each other; a region outside of both; names that do not fit.
    """
    if absolute(job.prediction) == absolute(job.target) and job.level == job.target_level:
        raise InputError(f"prediction and target are the same volume, {job.prediction}; name the target's own")
    recorded = _recorded(job.prediction)
    probable = job.probabilities
    if probable is None:
        probable = (recorded or {}).get("settings", {}).get("kind") == "probabilities"
    prediction = (_open_probabilities if probable and not job.instances else open_class_ids)(
        job.prediction, role="prediction", level=job.level
    )
    kind: Kind = "instances" if job.instances else "probabilities" if "c" in prediction.axes else "classes"
    target = open_class_ids(
        job.target,
        role="target",
        holes="background" if job.holes == "background" else "error",
        level=job.target_level,
    )
    offset = offset_of(prediction, target, recorded)
    common = common_box(prediction, target, offset)
    box = _box(job.region, prediction).intersect(common)
    if box.is_empty:
        raise InputError(f"--region: holds no voxel that both cover, which is {common} of the prediction")
    names = _names(job, kind, [prediction, target], recorded)
    return Comparison(prediction, target, offset, box, kind, names)


def open_class_ids(url: str, *, role: str, holes: str = "error", level: int = 0) -> Volume:
    """Open a map of class ids, or of object ids: whole numbers, one for each voxel.

    Args:
        url: path of the volume.
        role: what messages call it, ``"prediction"`` or ``"target"``.
        holes: what a stored chunk that is missing means.
        level: of its resolution levels.

    Raises:
        InputError: it cannot be opened, has channels, is not of integers, or its run is not complete.
    """
    _check_complete(url, role)
    volume = open_volume(url, holes=holes, level=level)
    if "c" in volume.axes:
        asked = "segment with --kind labels"
        how = (
            asked if role == "target" else f"{asked}, or pass --probabilities if its channels are those of classes"
        )
        raise InputError(
            f"{role} {url}: has a channel axis (axes {volume.axes}, shape {volume.array.shape}), so it holds an image"
            f" or probabilities and no class ids; {how}"
        )
    if volume.dtype.kind not in "iub":
        raise InputError(
            f"{role} {url}: is of {volume.dtype}; class ids are whole numbers, so give an integer dtype"
        )
    return volume


def _open_probabilities(url: str, *, role: str, level: int) -> Volume:
    """Open a prediction whose channels are probabilities of the classes.

    Raises:
        InputError: it cannot be opened, has no channels, or values that are none; its run is not complete.
    """
    _check_complete(url, role)
    volume = open_volume(url, level=level)
    if "c" not in volume.axes:
        raise InputError(
            f"{role} {url}: has no channel axis (axes {volume.axes}), so it holds no probabilities of classes; leave"
            " --probabilities out"
        )
    if volume.dtype.kind != "f" and volume.dtype.name != "uint8":
        raise InputError(
            f"{role} {url}: is of {volume.dtype}; probabilities are floats from 0 to 1, or uint8 with 255 for 1"
        )
    return volume


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


def runs_of(url: str) -> list[RunFolder]:
    """Return the run that made a volume, found at its path or, of an array, at that of the folder around it."""
    return [folder for folder in map(RunFolder, _places(url)) if folder.exists]


def segmentation_of(url: str) -> RunFolder | None:
    """Return the run of a segmentation that made a volume; None where it was made otherwise."""
    return next((folder for folder in runs_of(url) if folder.read().get("kind") == SEGMENTATION), None)


def _recorded(url: str) -> dict[str, Any] | None:
    folder = segmentation_of(url)
    return None if folder is None else folder.read()


def _places(url: str) -> list[str]:
    """Return a volume's address and that of the folder around it, as far as they can be opened."""
    whole = absolute(url)
    around = whole.rpartition("/")[0]
    return [whole, around] if around.count("/") >= (3 if "://" in around else 1) else [whole]


def _check_complete(url: str, role: str) -> None:
    for folder in runs_of(url):
        if not folder.is_sealed:
            raise InputError(
                f"{role} {url}: its run is not complete, so it has holes; `overtile status {folder.output.url}` says"
                " what is lacking, and `overtile segment` again does it"
            )


def _names(
    job: EvaluateJob, kind: Kind, volumes: Sequence[Volume], recorded: dict[str, Any] | None
) -> tuple[str, ...] | None:
    """Return the names of the classes: the job's, the prediction's own, its run's, the target's.

    Raises:
        InputError: one occurs twice, or there are not as many as classes.
    """
    if kind == "instances":
        return _fitting(job.classes or OBJECTS, 2, "ids of objects have two classes, background and object")
    of_run = (recorded or {}).get("classes") if kind == "probabilities" else None
    found = job.classes or class_names(volumes[0]) or of_run or class_names(volumes[1])
    if kind == "classes":
        return None if found is None else _fitting(found, len(found), "")
    count = max(2, volumes[0].channels)
    found = found or [f"class {i}" for i in range(count)]
    return _fitting(found, count, f"{job.prediction} has {volumes[0].channels} channel(s), so {count} classes")


def _fitting(names: Sequence[str], count: int, why: str) -> tuple[str, ...]:
    if len(names) != count:
        raise InputError(f"--classes {','.join(names)}: are {len(names)} names, but {why}; name {count}")
    check_names(names, count)
    return tuple(names)


def _box(region: Ranges | None, volume: Volume) -> Box:
    """Return the asked part of the prediction."""
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
