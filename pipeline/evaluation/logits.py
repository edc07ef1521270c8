"""Logits of two classes against what was true: a histogram that adds over chunks, to fit temperatures to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pipeline.errors import ChunkError, InputError, NonFiniteError

LIMIT, BINS = 32.0, 4096
"""Bins of logits go from -32 to 32, 1/64 wide; those beyond are in the first and the last one."""


@dataclass(frozen=True, eq=False)
class LogitHistogram:
    """Logits of two classes, of every voxel. Adds over disjoint chunks.

    A bin's voxels enter the loss with their mean logit, so that the loss is too small by at most ``(w / T)² / 32`` nats
    for bins of width w = 1/64 (the second derivative of the loss of one voxel is at most 1/4): 8e-6 at T = 1. Where
    all logits of a bin are equal, it is exact; beyond 32 the loss is as good as linear, so that bins may be wide.

    Attributes:
        counts: voxels by ``[positive, bin]``, int64 of shape ``(2, BINS)``, read-only.
        sums: sum of the logits by ``[positive, bin]``, float64, read-only.
    """

    counts: NDArray[np.int64]
    sums: NDArray[np.float64]

    def __post_init__(self) -> None:
        counts, sums = np.array(self.counts), np.array(self.sums, np.float64)
        if (
            counts.shape != (2, BINS)
            or sums.shape != (2, BINS)
            or counts.dtype.kind not in "iu"
            or counts.min() < 0
        ):
            raise InputError(f"a histogram of logits has whole counts from 0, and sums, of shape (2, {BINS})")
        for name, array in (("counts", counts.astype(np.int64)), ("sums", sums)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def zero(cls) -> Self:
        """The histogram of no voxels."""
        return cls(np.zeros((2, BINS), np.int64), np.zeros((2, BINS)))

    @classmethod
    def of(
        cls, logits: NDArray[Any], target: NDArray[Any], *, positive: int = 1, ignore: int | None = None
    ) -> Self:
        """The histogram of one chunk.

        Args:
            logits: of any shape, float: log of the odds of the positive class (with two outputs, their difference).
            target: true class of each voxel, of the same shape.
            positive: the class.
            ignore: target value whose voxels are left out.

        Raises:
            ChunkError: shapes differ, or the logits are no floats.
            NonFiniteError: a counted logit is NaN or infinite.
        """
        if logits.shape != target.shape:
            raise ChunkError(
                f"the logits have shape {logits.shape} and the target {target.shape}; they must be equal"
            )
        counted = slice(None) if ignore is None else target != ignore
        values = finite(logits[counted]).reshape(-1)
        bins = np.clip(np.floor((values + LIMIT) * (BINS / (2 * LIMIT))), 0, BINS - 1).astype(np.intp)
        places = bins + BINS * (target[counted].reshape(-1) == positive)
        counts, sums = np.bincount(places, minlength=2 * BINS), np.bincount(places, values, minlength=2 * BINS)
        return cls(counts.reshape(2, BINS), sums.astype(np.float64).reshape(2, BINS))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``.

        Raises:
            InputError: the content is no histogram.
        """
        try:
            return cls(np.array(content["counts"]), np.array(content["sums"], np.float64))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"a histogram of logits needs 'counts' and 'sums': {error!r}") from error

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(self.counts.sum())

    def loss(self, inverse: float) -> float:
        """Mean negative log-likelihood, in nats, of logits times ``inverse``; see the class for its exactness."""
        means, signs = self._means()
        return float((self.counts * np.logaddexp(0, -signs * inverse * means)).sum() / self.voxels)

    def slope(self, inverse: float) -> float:
        """Derivative of :meth:`loss`."""
        means, signs = self._means()
        return float((self.counts * -signs * means * expit(-signs * inverse * means)).sum() / self.voxels)

    def to_dict(self) -> dict[str, Any]:
        """The histogram as plain lists, ready for JSON."""
        return {"counts": self.counts.tolist(), "sums": self.sums.tolist()}

    def __add__(self, other: LogitHistogram) -> LogitHistogram:
        return LogitHistogram(self.counts + other.counts, self.sums + other.sums)

    def _means(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean logit of each bin, and the sign with which the logits of each side are good."""
        return self.sums / np.maximum(self.counts, 1), np.array([[-1.0], [1.0]])


def finite(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return logits as float64.

    Raises:
        ChunkError: they are no floats.
        NonFiniteError: one is NaN or infinite.
    """
    if logits.dtype.kind != "f":
        raise ChunkError(f"logits are floats; these are of {logits.dtype}")
    if not np.isfinite(logits).all():
        raise NonFiniteError("the logits hold NaN or infinity; find out where the network gave them")
    return logits.astype(np.float64)
