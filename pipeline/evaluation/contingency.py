"""Which objects of the target and of the prediction lie on each other, in voxels: a sparse table that adds over chunks.

Ids are those of the whole volume, so an object that chunks cut into pieces is one object in the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ChunkError, InputError

Ids = NDArray[np.uint64]
Counts = NDArray[np.int64]

COLUMNS = ("target", "prediction", "voxels")
"""The columns of a table, in their order."""

_LEAST_PAIRS = 100_000
"""Pairs below which a sum of tables may wait to be merged."""


@dataclass(frozen=True, eq=False)
class ContingencyTable:
    """Voxels by pair of ids, only of the pairs that meet. Adds over disjoint chunks.

    Attributes:
        target: ids of the target, uint64, one for each pair; 0 is background.
        prediction: ids of the prediction, uint64, one for each pair; 0 is background.
        voxels: how many voxels have both ids, int64, above 0. The pairs are sorted by both ids, each occurs once.
        ignored: voxels that are left out because their target is the ignored value.
    """

    target: Ids
    prediction: Ids
    voxels: Counts
    ignored: int = 0

    def __post_init__(self) -> None:
        columns = [np.array(getattr(self, name)) for name in COLUMNS]
        _check_columns(columns, self.ignored)
        merged = _merge(columns[0].astype(np.uint64), columns[1].astype(np.uint64), columns[2].astype(np.int64))
        for name, column in zip(COLUMNS, merged, strict=True):
            column.flags.writeable = False
            object.__setattr__(self, name, column)

    @classmethod
    def zero(cls) -> Self:
        """The table of no voxels, where sums start."""
        return cls(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))

    @classmethod
    def of(cls, prediction: NDArray[Any], target: NDArray[Any], *, ignore: int | None = None) -> Self:
        """The table of one chunk.

        Args:
            prediction: object of each voxel, of any shape, in any integer dtype; 0 is background.
            target: true object of each voxel, of the same shape, in any integer dtype; 0 is background.
            ignore: target value whose voxels are left out, whatever the prediction says there.

        Raises:
            ChunkError: shapes differ, an array is not of integers, or a counted id is negative.
        """
        _check_labels(prediction, target)
        flat = [target.reshape(-1), prediction.reshape(-1)]
        if ignore is not None:
            kept = flat[0] != ignore
            flat = [ids[kept] for ids in flat]
        for name, ids in zip(COLUMNS, flat, strict=False):
            if ids.size and int(ids.min()) < 0:
                raise ChunkError(
                    f"the {name} holds the id {int(ids.min())}; ids of objects are 0 (background) or more"
                )
        return cls(*_runs(*flat), ignored=int(target.size - flat[0].size))

    @classmethod
    def total(cls, tables: Iterable[ContingencyTable]) -> Self:
        """The sum of many tables, merged once: faster than adding one by one."""
        parts: list[ContingencyTable] = [cls.zero(), *tables]
        target, prediction, voxels = (np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS)
        return cls(target, prediction, voxels, sum(part.ignored for part in parts))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``.

        Raises:
            InputError: the content is no contingency table.
        """
        try:
            target, prediction, voxels = (_whole(content[name]) for name in COLUMNS)
            return cls(target, prediction, voxels, int(content["ignored"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"a contingency table needs {', '.join(COLUMNS)}, lists of whole numbers, and 'ignored', a number:"
                f" {error!r}"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The table as plain lists and numbers, ready for JSON."""
        return {**{name: getattr(self, name).tolist() for name in COLUMNS}, "ignored": self.ignored}

    def sizes(self, side: str) -> tuple[Ids, Counts]:
        """The ids of ``"target"`` or ``"prediction"`` in ascending order, and their counted voxels."""
        ids, places = np.unique(getattr(self, side), return_inverse=True)
        sizes = np.zeros(ids.size, np.int64)
        np.add.at(sizes, places, self.voxels)
        return ids, sizes

    def pick(self, kept: NDArray[np.bool_]) -> ContingencyTable:
        """The table of the chosen pairs alone."""
        return ContingencyTable(self.target[kept], self.prediction[kept], self.voxels[kept], self.ignored)

    def __add__(self, other: ContingencyTable) -> ContingencyTable:
        return ContingencyTable.total((self, other))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ContingencyTable):
            return NotImplemented
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in COLUMNS)
        return same and self.ignored == other.ignored

    def __hash__(self) -> int:
        return hash((*(getattr(self, name).tobytes() for name in COLUMNS), self.ignored))


class Tables:
    """The sum of many tables as they come: merged when as many pairs wait as there are, so each is sorted seldom."""

    def __init__(self) -> None:
        self._waiting: list[ContingencyTable] = []
        self._pairs, self._merged = 0, 0

    def add(self, table: ContingencyTable) -> Tables:
        """Take one more table in."""
        self._waiting.append(table)
        self._pairs += table.voxels.size
        if self._pairs > _LEAST_PAIRS and self._pairs > 2 * self._merged:
            self.merged()
        return self

    def merged(self) -> ContingencyTable:
        """Return the sum of all that was taken in."""
        total = ContingencyTable.total(self._waiting)
        self._waiting, self._pairs, self._merged = [total], total.voxels.size, total.voxels.size
        return total


def _runs(target: NDArray[Any], prediction: NDArray[Any]) -> tuple[Ids, Ids, Counts]:
    """Runs of equal pairs in two flat arrays: few, as objects are compact, so that there is little to sort."""
    if not target.size:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64)
    starts = _starts(target, prediction)
    lengths = np.diff(starts, append=target.size)
    return target[starts].astype(np.uint64), prediction[starts].astype(np.uint64), lengths.astype(np.int64)


def _merge(target: Ids, prediction: Ids, voxels: Counts) -> tuple[Ids, Ids, Counts]:
    """Sort pairs by both ids and add up those that occur more than once; drop what counts no voxels."""
    kept = voxels > 0
    target, prediction, voxels = target[kept], prediction[kept], voxels[kept]
    if not target.size:
        return target, prediction, voxels
    order = np.lexsort((prediction, target))
    target, prediction, voxels = target[order], prediction[order], voxels[order]
    starts = _starts(target, prediction)
    return target[starts], prediction[starts], np.add.reduceat(voxels, starts)


def _starts(target: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.intp]:
    """Where a pair differs from the one before it; the first does."""
    changes = (target[1:] != target[:-1]) | (prediction[1:] != prediction[:-1])
    return np.concatenate([[0], np.flatnonzero(changes) + 1])


def _whole(numbers: Any) -> NDArray[Any]:
    """A list of whole numbers as an array; ids above 2**63 keep all their digits."""
    largest = max(numbers, default=0)
    return np.array(numbers, np.uint64 if largest > np.iinfo(np.int64).max else np.int64)


def _check_columns(columns: list[NDArray[Any]], ignored: int) -> None:
    if any(column.ndim != 1 or column.size != columns[0].size for column in columns):
        raise InputError(
            f"a contingency table has one value a pair in each column; these have {[c.shape for c in columns]}"
        )
    if any(column.dtype.kind not in "iu" for column in columns):
        raise InputError(
            f"a contingency table holds whole numbers; its columns are of {[str(c.dtype) for c in columns]}"
        )
    least = min([ignored, *(int(column.min()) for column in columns if column.size)])
    if least < 0:
        raise InputError(f"ids and voxel counts cannot be negative; the least is {least}")


def _check_labels(prediction: NDArray[Any], target: NDArray[Any]) -> None:
    if prediction.shape != target.shape:
        raise ChunkError(
            f"the prediction has shape {prediction.shape} and the target {target.shape}; they must be equal"
        )
    for name, ids in (("prediction", prediction), ("target", target)):
        if ids.dtype.kind not in "iub":
            raise ChunkError(f"the {name} is of {ids.dtype}; ids are whole numbers, so give an integer dtype")
