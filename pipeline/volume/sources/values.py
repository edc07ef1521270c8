"""Turn an image into a class map as it is read: listed values, or a threshold, become class ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume.sources.source import Source
from pipeline.volume.space import Space

UNLABELLED = 255
"""The id of voxels that nobody labelled; it is no class and may stand in any class map."""


@dataclass(slots=True, eq=False)
class ClassSource(Source):
    """A source whose voxels are class ids, u1; without a channel axis.

    Attributes:
        source: where the values come from; it is closed with this one.
        values: class id of each value that may occur; None leaves values as they are.
        threshold: values above it are class 1, others class 0; None where there is none.
        count: number of classes.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    source: Source
    values: Mapping[int, int] | None
    threshold: float | None
    count: int

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(1, [z,] y, x)``, u1.

        Raises:
            VolumeError: a value that is not listed, or is no class.
        """
        voxels = self.source.read(box)
        if self.threshold is not None:
            return (voxels > self.threshold).astype(np.uint8)
        if self.values is None:
            self._check(voxels, (voxels >= 0) & (voxels < self.count) | (voxels == UNLABELLED), box)
            return voxels.astype(np.uint8)
        ids, known = np.zeros(voxels.shape, np.uint8), np.zeros(voxels.shape, np.bool_)
        for value, class_id in self.values.items():
            same = voxels == value
            np.copyto(ids, class_id, where=same)
            known |= same
        self._check(voxels, known, box)
        return ids

    def where(self, voxel: Sequence[int]) -> str:
        """Say where a voxel is, for messages."""
        return self.source.where(voxel)

    def close(self) -> None:
        """Let go of open files."""
        self.source.close()

    def _check(self, voxels: npt.NDArray[Any], known: npt.NDArray[np.bool_], box: Box) -> None:
        """Refuse the first value that is not known, and say where it is."""
        if known.all():
            return
        first = np.unravel_index(int(np.argmin(known)), known.shape)
        place = self.where([a + int(i) for a, i in zip(box.start, first[1:], strict=True)])
        allowed = (
            f"the map has {_some(self.values)}" if self.values is not None else f"there are {self.count} classes"
        )
        raise VolumeError(
            f"{place}: value {voxels[first].item()}, but {allowed}; add it, or use --threshold if the image is smooth"
        )


def map_values(
    source: Source,
    *,
    classes: Sequence[str] | None = None,
    values: Mapping[int, int] | None = None,
    threshold: float | None = None,
) -> ClassSource:
    """Return a source of class ids, u1, without a channel axis.

    Args:
        source: an image of one channel.
        classes: names of the class ids 0, 1, ...; None where only their number, by ``values``, is known.
        values: class id of each value that may occur; another value is an error when it is read.
        threshold: values above it are class 1, others class 0.

    Raises:
        VolumeError: several channels, both a map and a threshold, more than 255 classes, ids without a name,
            float voxels without a map or a threshold.
    """
    if source.channels not in (None, 1):
        raise VolumeError(f"{source.name}: it has {source.channels} channels; a class map has one")
    if values is not None and threshold is not None:
        raise VolumeError(f"{source.name}: give a map of values or a threshold, not both")
    if values is None and threshold is None and (source.dtype.kind == "f" or classes is None):
        raise VolumeError(
            f"{source.name}: {source.dtype} voxels are no class ids; give a map of values or a threshold"
        )
    used = {0, 1} if threshold is not None else set((values or {}).values())
    known = {i for i in used if i != UNLABELLED}
    count = len(classes) if classes is not None else max(known, default=0) + 1
    if not 1 <= count <= UNLABELLED or min(known, default=0) < 0 or max(known, default=0) >= count:
        raise VolumeError(
            f"{source.name}: class ids {_some(dict.fromkeys(sorted(used)))} with {count} classes; ids are 0 to the"
            f" number of classes - 1 (at most {UNLABELLED - 1}), and {UNLABELLED} stands for unlabelled"
        )
    return ClassSource(
        name=source.name,
        shape=source.shape,
        channels=None,
        dtype=np.dtype(np.uint8),
        space=source.space,
        slab=source.slab,
        source=source,
        values=values,
        threshold=threshold,
        count=count,
    )


def _some(values: Mapping[int, object] | None) -> str:
    """List the first few values."""
    listed = [str(v) for v in values or ()]
    return ", ".join(listed[:8]) + (" ..." if len(listed) > 8 else "")
