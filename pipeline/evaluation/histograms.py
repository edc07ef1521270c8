"""Histograms of probabilities against what was true: they add over chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ChunkError, InputError
from pipeline.evaluation.probabilities import as_probabilities

BINS = 1020
"""Bins where nobody says another number: the values of uint8 lie on their edges, and 10, 15 and 20 divide it."""

_PIECE = 2**18  # voxels counted at a time

Histogram = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CalibrationStatistics:
    """Histograms of probabilities. Adds over disjoint chunks.

    Attributes:
        counts: voxels by ``[positive, bin]``, int64 of shape ``(2, bins)``, read-only.
        sums: sum of the probabilities of each bin, float64, read-only.
        squares: sum of ``(p - y)²``, where y is 1 for positive voxels and 0 for others.
        ignored: voxels left out because their target is the ignored value.
    """

    counts: Histogram
    sums: NDArray[np.float64]
    squares: float = 0.0
    ignored: int = 0

    def __post_init__(self) -> None:
        counts, sums = np.array(self.counts), np.array(self.sums, np.float64)
        if counts.ndim != 2 or counts.shape[0] != 2 or counts.shape[1:] != sums.shape or not sums.size:
            raise InputError(
                f"histograms have counts of shape (2, bins) and sums of (bins,); these {counts.shape}, {sums.shape}"
            )
        if counts.dtype.kind not in "iu" or counts.min() < 0 or self.ignored < 0:
            raise InputError("histograms count voxels in whole numbers from 0")
        counts = counts.astype(np.int64)
        for name, array in (("counts", counts), ("sums", sums)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def zero(cls, bins: int = BINS) -> Self:
        """The statistics of no voxels.

        Raises:
            InputError: fewer than one bin.
        """
        if bins < 1:
            raise InputError(f"the number of bins is {bins}; it must be at least 1")
        return cls(np.zeros((2, bins), np.int64), np.zeros(bins))

    @classmethod
    def of(
        cls,
        probabilities: NDArray[Any],
        target: NDArray[Any],
        *,
        positive: int = 1,
        ignore: int | None = None,
        bins: int = BINS,
    ) -> Self:
        """The statistics of one class in one chunk.

        Args:
            probabilities: of the class, of any shape; floats from 0 to 1, or uint8.
            target: true class of each voxel, of the same shape.
            positive: the class.
            ignore: target value whose voxels are left out.
            bins: how many, of one width, from 0 to 1.

        Raises:
            InputError: fewer than one bin.
            ChunkError: shapes differ, or see :func:`as_probabilities`.
        """
        if probabilities.shape != target.shape:
            raise ChunkError(
                f"the probabilities have shape {probabilities.shape} and the target {target.shape}; they must be equal"
            )
        return cls._of(probabilities, target == positive, _counted(target, ignore), bins)

    @classmethod
    def of_top_label(
        cls, probabilities: NDArray[Any], target: NDArray[Any], *, ignore: int | None = None, bins: int = BINS
    ) -> Self:
        """The statistics of the most probable class: positive where it is right. The first, of equal ones.

        Args:
            probabilities: of every class, ``(c, ...)``; floats from 0 to 1, or uint8.
            target: true class of each voxel, ``(...)``.
            ignore: target value whose voxels are left out.
            bins: how many, of one width, from 0 to 1.

        Raises:
            InputError: fewer than one bin.
            ChunkError: shapes do not fit, or see :func:`as_probabilities`.
        """
        if probabilities.ndim != target.ndim + 1 or probabilities.shape[1:] != target.shape:
            raise ChunkError(
                f"the probabilities have shape {probabilities.shape}, not that of the target, {target.shape}, after"
                " one axis of classes"
            )
        right = probabilities.argmax(axis=0) == target
        return cls._of(probabilities.max(axis=0), right, _counted(target, ignore), bins)

    @classmethod
    def _of(
        cls, probabilities: NDArray[Any], positive: NDArray[np.bool_], counted: NDArray[np.bool_], bins: int
    ) -> Self:
        zero = cls.zero(bins)
        counts, sums, squares = zero.counts.copy(), zero.sums.copy(), 0.0
        values, truth = probabilities[counted], positive[counted].astype(np.intp)
        for start in range(0, values.size, _PIECE):
            p, y = as_probabilities(values[start : start + _PIECE]), truth[start : start + _PIECE]
            places = _bin(p, bins)
            counts += np.bincount(y * bins + places, minlength=2 * bins).reshape(2, bins)
            sums += np.bincount(places, p, minlength=bins)
            squares += float(((p - y) ** 2).sum())
        return cls(counts, sums, squares, int(counted.size - values.size))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``.

        Raises:
            InputError: the content is none of these statistics.
        """
        try:
            counts, sums = np.array(content["counts"]), np.array(content["sums"], np.float64)
            return cls(counts, sums, float(content["squares"]), int(content["ignored"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"histograms need 'counts', 'sums', 'squares' and 'ignored': {error!r}") from error

    @property
    def bins(self) -> int:
        """Number of bins; the resolution is 1 divided by it."""
        return int(self.sums.size)

    def to_dict(self) -> dict[str, Any]:
        """The statistics as plain lists and numbers, ready for JSON."""
        return {
            "counts": self.counts.tolist(),
            "sums": self.sums.tolist(),
            "squares": self.squares,
            "ignored": self.ignored,
        }

    def __add__(self, other: CalibrationStatistics) -> CalibrationStatistics:
        if self.bins != other.bins:
            raise InputError(
                f"histograms of {self.bins} and of {other.bins} bins cannot be added; use the same bins"
            )
        return CalibrationStatistics(
            self.counts + other.counts,
            self.sums + other.sums,
            self.squares + other.squares,
            self.ignored + other.ignored,
        )


def _bin(probabilities: NDArray[np.float64], bins: int) -> NDArray[np.intp]:
    """The bin of each probability: the last whose edge ``i / bins``, as a float64, is not above it."""
    places = np.minimum((probabilities * bins).astype(np.intp), bins - 1)
    # The product is rounded, so it may fall on the other side of an edge.
    places -= probabilities < places / bins
    places += (probabilities >= (places + 1) / bins) & (places < bins - 1)
    return places


def _counted(target: NDArray[Any], ignore: int | None) -> NDArray[np.bool_]:
    return np.ones(target.shape, bool) if ignore is None else np.asarray(target != ignore)
