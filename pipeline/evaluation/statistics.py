"""Statistics of a prediction against its target: what each chunk hands in, and what adds up to the whole volume.

The statistics are a confusion table of voxel counts. Counts of disjoint chunks add exactly, so that any cut into
chunks gives the table of the whole volume, and every metric is a function of that one total.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ChunkError, InputError

Table = NDArray[np.int64]

_PIECE = 2**16  # voxels counted at a time, so that what is in between stays in the processor's cache


@dataclass(frozen=True, eq=False)
class ConfusionStatistics:
    """How often each pair of classes met. Adds over disjoint chunks.

    Attributes:
        counts: voxels by ``[target class, prediction class]``, int64, read-only.
        ignored: voxels left out because their target is the ignored value.
    """

    counts: Table
    ignored: int = 0

    def __post_init__(self) -> None:
        counts = np.array(self.counts)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
            raise InputError(
                f"a confusion table is square with at least one class; this one has shape {counts.shape}"
            )
        if not np.issubdtype(counts.dtype, np.integer):
            raise InputError(f"a confusion table counts voxels in whole numbers; this one is of {counts.dtype}")
        if counts.min() < 0 or self.ignored < 0:
            raise InputError(
                f"voxel counts cannot be negative; the least is {min(int(counts.min()), self.ignored)}"
            )
        counts = counts.astype(np.int64)
        counts.flags.writeable = False
        object.__setattr__(self, "counts", counts)

    @classmethod
    def zero(cls, classes: int) -> Self:
        """The statistics of no voxels, where sums start.

        Raises:
            InputError: fewer than one class.
        """
        return cls(np.zeros((_at_least_one(classes),) * 2, np.int64))

    @classmethod
    def of(
        cls, prediction: NDArray[Any], target: NDArray[Any], *, classes: int, ignore: int | None = None
    ) -> Self:
        """The statistics of one chunk: its ``confusion`` and the number of voxels left out.

        Raises:
            InputError: fewer than one class.
            ChunkError: see ``confusion``.
        """
        counts = confusion(prediction, target, classes=classes, ignore=ignore)
        return cls(counts, ignored=int(target.size - counts.sum()))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``.

        Raises:
            InputError: the content is no confusion table.
        """
        try:
            counts, ignored = np.array(content["counts"]), int(content["ignored"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"statistics need 'counts', a square table of whole numbers, and 'ignored', a number: {error!r}"
            ) from error
        return cls(counts, ignored)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.counts.shape[0])

    def to_dict(self) -> dict[str, Any]:
        """The statistics as plain lists and numbers, ready for JSON."""
        return {"counts": self.counts.tolist(), "ignored": self.ignored}

    def padded(self, classes: int) -> ConfusionStatistics:
        """The same counts among at least as many classes, the further ones of no voxels."""
        more = classes - self.classes
        return self if more <= 0 else ConfusionStatistics(np.pad(self.counts, (0, more)), self.ignored)

    def __add__(self, other: ConfusionStatistics) -> ConfusionStatistics:
        if self.classes != other.classes:
            raise InputError(
                f"statistics of {self.classes} and of {other.classes} classes cannot be added; "
                "evaluate both with the same classes"
            )
        return ConfusionStatistics(self.counts + other.counts, self.ignored + other.ignored)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConfusionStatistics):
            return NotImplemented
        return self.ignored == other.ignored and np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        return hash((self.counts.tobytes(), self.ignored))


def confusion(prediction: NDArray[Any], target: NDArray[Any], *, classes: int, ignore: int | None = None) -> Table:
    """Count how often each pair of classes meets.

    Law: the tables of disjoint pieces add up to the table of the whole.

    Args:
        prediction: class of each voxel, of any shape, in any integer dtype.
        target: true class of each voxel, of the same shape, in any integer dtype.
        classes: number of classes ``n``; values are ``0 .. n - 1``.
        ignore: target value whose voxels are left out, whatever the prediction says there; inside or outside of
            the classes.

    Returns:
        Voxels by ``[target class, prediction class]``, int64, of shape ``(n, n)``.

    Raises:
        InputError: fewer than one class.
        ChunkError: shapes differ, an array is not of integers, or a counted value is none of the classes.
    """
    _at_least_one(classes)
    if prediction.shape != target.shape:
        raise ChunkError(
            f"the prediction has shape {prediction.shape} and the target {target.shape}; they must be equal"
        )
    for name, values in (("prediction", prediction), ("target", target)):
        if values.dtype.kind not in "iub":
            raise ChunkError(
                f"the {name} is of {values.dtype}; classes are whole numbers, so give an integer dtype"
            )
    total = np.zeros(classes * classes, np.int64)
    flat_prediction, flat_target = prediction.reshape(-1), target.reshape(-1)
    for start in range(0, flat_target.size, _PIECE):
        piece = slice(start, start + _PIECE)
        total += _count(flat_prediction[piece], flat_target[piece], classes, ignore)
    return total.reshape(classes, classes)


def _count(prediction: NDArray[Any], target: NDArray[Any], classes: int, ignore: int | None) -> Table:
    """The flattened table of one piece of both arrays (flat)."""
    if ignore is not None:
        kept = target != ignore
        if not kept.all():
            prediction, target = prediction[kept], target[kept]
    if not target.size:
        return np.zeros(classes * classes, np.int64)
    for name, values in (("prediction", prediction), ("target", target)):
        for value in (int(values.min()), int(values.max())):
            if not 0 <= value < classes:
                raise ChunkError(
                    f"the {name} holds the value {value}, but there are {classes} classes (0 to {classes - 1}); "
                    "state the right number of classes, or the value to ignore"
                )
    pairs = target.astype(np.intp)
    pairs *= classes
    pairs += prediction.astype(np.intp)
    return np.bincount(pairs, minlength=classes * classes)


def _at_least_one(classes: int) -> int:
    if classes < 1:
        raise InputError(f"the number of classes is {classes}; it must be at least 1")
    return classes
