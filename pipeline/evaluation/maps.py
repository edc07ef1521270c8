"""The statistics of each chunk as arrays on the chunk grid: a Zarr group that xarray opens, with names and places.

::

    statistics.zarr/     attributes: names of the classes, and overtile.state, which is "sealed" last of all
        y, x             centres of chunks, in the unit of the prediction's voxel size
        confusion        voxels by (y, x, target_class, prediction_class); not of more than 32 classes
        voxels, ignored  counted and left out
        accuracy, iou    of each chunk; NaN where nothing is counted, or where a chunk does not hold the class
        seconds          that measuring the chunk took

What was not compared (outside of the region or the mask) is 0 in counts and NaN elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ZstdCodec

from pipeline.evaluation.metrics import class_ratios
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.evaluation.totals import Bundle
from pipeline.geometry import Grid
from pipeline.store import Place
from pipeline.volume.space import Space
from pipeline.volume.state import GROUP, KEY, set_attributes

NUMBERS = 1 << 20
"""Numbers of a block of whole rows of chunks, about: what is held in memory, and a stored chunk of the maps."""

MOST_CONFUSED = 32
"""Classes up to which the whole confusion of each chunk is stored."""

CLASSES = ("target_class", "prediction_class")


def write_maps(
    place: Place,
    bundles: Iterable[Bundle],
    seconds: npt.NDArray[np.float32],
    *,
    grid: Grid,
    space: Space,
    names: Sequence[str],
    attributes: Mapping[str, Any],
) -> None:
    """Write the maps; whatever was in their place is replaced. Memory does not grow with the number of chunks.

    Args:
        place: of the group.
        bundles: statistics of chunks, in their order.
        seconds: that each chunk took, by its number.
        grid: chunks.
        space: of the prediction.
        names: of the classes.
        attributes: of the group, once it is whole.
    """
    for entry in sorted(place.entries(), key=lambda entry: entry.key != GROUP):
        place.delete(entry.key)
    unfinished = {KEY: {"state": "incomplete"}}
    zarr.create_group(store=place.zarr_store(read_only=False), zarr_format=3, attributes=unfinished)
    maps = _Maps(place, grid, space, len(names))
    maps.centres(space)
    waiting = iter(bundles)
    bundle = next(waiting, None)
    for first in range(0, grid.counts[0], maps.rows):
        block = maps.block(first)
        while bundle is not None and grid.position(bundle.chunk)[0] < first + maps.rows:
            block.fill(grid.position(bundle.chunk), bundle.classes.padded(len(names)))
            bundle = next(waiting, None)
        block.store(seconds.reshape(grid.counts)[first : first + maps.rows])
    set_attributes(place, {"classes": list(names), **attributes})


class _Maps:
    """The arrays of the maps."""

    def __init__(self, place: Place, grid: Grid, space: Space, classes: int) -> None:
        self._store = place.zarr_store(read_only=False)
        self._axes, self._counts, self._chunk, self._shape = list(space.axes), grid.counts, grid.chunk, grid.shape
        self.classes = classes
        width = classes * classes if classes <= MOST_CONFUSED else classes
        self.rows = max(1, min(grid.counts[0], NUMBERS // (width * math.prod(grid.counts[1:]))))
        confusion = (
            {"confusion": self._array("confusion", np.int64, 0, CLASSES)} if classes <= MOST_CONFUSED else {}
        )
        self.arrays = {
            **confusion,
            "voxels": self._array("voxels", np.int64, 0),
            "ignored": self._array("ignored", np.int64, 0),
            "accuracy": self._array("accuracy", np.float64, math.nan),
            "iou": self._array("iou", np.float64, math.nan, ("class",)),
            "seconds": self._array("seconds", np.float32, math.nan),
        }

    def _array(self, name: str, dtype: Any, fill: float, more: Sequence[str] = ()) -> zarr.Array[Any]:
        return self._create(
            name,
            (*self._counts, *(self.classes,) * len(more)),
            dtype,
            fill,
            (*self._axes, *more),
            chunks=(self.rows, *self._counts[1:], *(self.classes,) * len(more)),
        )

    def _create(
        self, name: str, shape: Any, dtype: Any, fill: Any, dimensions: Sequence[str], **options: Any
    ) -> zarr.Array[Any]:
        return zarr.create_array(
            store=self._store,
            name=name,
            shape=shape,
            dtype=dtype,
            fill_value=fill,
            dimension_names=list(dimensions),
            compressors=[ZstdCodec(level=1, checksum=True)],
            zarr_format=3,
            **options,
        )

    def centres(self, space: Space) -> None:
        """Write the coordinates: centres of chunks, and class ids."""
        for axis, name in enumerate(self._axes):
            count, chunk, length = self._counts[axis], self._chunk[axis], self._shape[axis]
            starts = np.arange(count, dtype=np.float64) * chunk
            middles = (starts + np.minimum(starts + chunk, length) - 1) / 2
            attributes = {} if space.unit is None else {"units": space.unit}
            array = self._create(
                name, (count,), np.float64, math.nan, [name], attributes=attributes, chunks=(count,)
            )
            array[:] = space.translation[axis] + middles * space.voxel_size[axis]
        for name in ("class", *CLASSES):
            array = self._create(name, (self.classes,), np.int64, 0, [name], chunks=(self.classes,))
            array[:] = np.arange(self.classes)

    def block(self, first: int) -> _Block:
        """Return an empty block of rows that begins at one."""
        return _Block(self, first, (min(self.rows, self._counts[0] - first), *self._counts[1:]))


class _Block:
    """Some rows of all maps, in memory."""

    def __init__(self, maps: _Maps, first: int, shape: tuple[int, ...]) -> None:
        self._maps, self._first = maps, first
        self._values = {
            name: np.full((*shape, *array.shape[len(shape) :]), array.fill_value, array.dtype)
            for name, array in maps.arrays.items()
        }

    def fill(self, position: Sequence[int], statistics: ConfusionStatistics) -> None:
        """Take one chunk in."""
        place = (position[0] - self._first, *position[1:])
        counts, voxels = statistics.counts, int(statistics.counts.sum())
        found = {
            "confusion": counts,
            "voxels": voxels,
            "ignored": statistics.ignored,
            "accuracy": int(np.trace(counts)) / voxels if voxels else math.nan,
            "iou": [math.nan if iou is None else iou for iou in class_ratios(counts)["iou"]],
        }
        for name in found.keys() & self._values.keys():
            self._values[name][place] = found[name]

    def store(self, seconds: npt.NDArray[np.float32]) -> None:
        """Write the block."""
        self._values["seconds"] = seconds
        for name, values in self._values.items():
            self._maps.arrays[name][self._first : self._first + len(values)] = values
