"""Logits of any number of classes against what was true: a sample that adds over chunks, to fit temperatures to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from pipeline.errors import ChunkError, InputError
from pipeline.evaluation.logits import finite
from pipeline.geometry import Box

SAMPLE = 100_000
"""Voxels of a sample where nobody says another number."""

Numbers = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class LogitSample:
    """Logits of some voxels, of any number of classes. Adds over disjoint chunks, in any order, to the same sample.

    A voxel's number in its volume is hashed, and those of the least hashes are kept: a random sample that no chunking
    changes. A volume of at most ``size`` counted voxels is in it whole, so that the loss is exact.

    Attributes:
        size: most voxels that are kept.
        hashes: of the voxels' numbers, uint64 ``(n,)``, ascending, each once.
        logits: ``(n, c)`` float64.
        target: true class, int64 ``(n,)``.
    """

    size: int
    hashes: Numbers
    logits: NDArray[np.float64]
    target: NDArray[np.int64]

    @classmethod
    def zero(cls, classes: int, *, size: int = SAMPLE) -> Self:
        """The sample of no voxels.

        Raises:
            InputError: fewer than two classes, or no room for a voxel.
        """
        if classes < 2 or size < 1:
            raise InputError(f"a sample holds at least 2 classes and 1 voxel; these are {classes} and {size}")
        return cls(size, np.zeros(0, np.uint64), np.zeros((0, classes)), np.zeros(0, np.int64))

    @classmethod
    def of(
        cls,
        logits: NDArray[Any],
        target: NDArray[Any],
        *,
        core: Box,
        shape: Sequence[int],
        ignore: int | None = None,
        size: int = SAMPLE,
    ) -> LogitSample:
        """The sample of one chunk.

        Args:
            logits: ``(c, ...)``, float.
            target: true class of each voxel, ``(...)``.
            core: where the chunk lies in its volume.
            shape: of the volume.
            ignore: target value whose voxels are left out.
            size: most voxels that are kept.

        Raises:
            InputError: fewer than two classes, or no room for a voxel.
            ChunkError: shapes do not fit, the logits are no floats, or a counted value is none of the classes.
            NonFiniteError: a logit of the sample is NaN or infinite.
        """
        if logits.shape[1:] != target.shape or target.shape != core.shape:
            raise ChunkError(f"logits {logits.shape}, target {target.shape} and core {core} do not fit each other")
        zero = cls.zero(logits.shape[0], size=size)
        hashes, truth = _hashes(core, shape), target.reshape(-1)
        kept = np.flatnonzero(truth != ignore) if ignore is not None else np.arange(truth.size)
        least = kept[np.argpartition(hashes[kept], size)[:size]] if kept.size > size else kept
        classes = truth[least].astype(np.int64)
        if classes.size and not 0 <= classes.min() <= classes.max() < logits.shape[0]:
            raise ChunkError(
                f"the target holds values from {classes.min()} to {classes.max()}, but there are {logits.shape[0]}"
                " classes; state the value to ignore"
            )
        values = finite(logits.reshape(logits.shape[0], -1)[:, least].T)
        return zero + cls(size, hashes[least], values, classes)

    @property
    def voxels(self) -> int:
        """Number of voxels in the sample."""
        return int(self.hashes.size)

    def loss(self, inverse: float) -> float:
        """Mean negative log-likelihood, in nats, of logits times ``inverse``."""
        scaled = self.logits * inverse
        return float((logsumexp(scaled, axis=1) - self._true(scaled)).mean())

    def slope(self, inverse: float) -> float:
        """Derivative of :meth:`loss`."""
        expected = (softmax(self.logits * inverse, axis=1) * self.logits).sum(axis=1)
        return float((expected - self._true(self.logits)).mean())

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The sample as arrays by name, as they go into a file."""
        arrays = {"hashes": self.hashes, "logits": self.logits, "target": self.target}
        return {"size": np.array(self.size), **arrays}

    @classmethod
    def from_arrays(cls, content: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of ``to_arrays``."""
        return cls(int(content["size"]), content["hashes"], content["logits"], content["target"])

    def __add__(self, other: LogitSample) -> LogitSample:
        if (self.size, self.logits.shape[1]) != (other.size, other.logits.shape[1]):
            raise InputError("samples of other sizes or numbers of classes cannot be added")
        hashes = np.concatenate([self.hashes, other.hashes])
        order = np.argsort(hashes)[: self.size]
        logits: NDArray[np.float64] = np.concatenate([self.logits, other.logits])[order]
        target: NDArray[np.int64] = np.concatenate([self.target, other.target])[order]
        return LogitSample(self.size, hashes[order], logits, target)

    def _true(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.take_along_axis(values, self.target[:, None], axis=1)[:, 0]


def _hashes(core: Box, shape: Sequence[int]) -> Numbers:
    """Hash the number of each voxel of a box in its volume (C order): one to one, so that no two are equal."""
    numbers = np.zeros((1,) * core.ndim, np.uint64)
    for axis, ((start, stop), length) in enumerate(zip(core, shape, strict=True)):
        along = np.arange(start, stop, dtype=np.uint64).reshape([-1 if a == axis else 1 for a in range(core.ndim)])
        numbers = numbers * np.uint64(length) + along
    return _mix(numbers.reshape(-1))


def _mix(numbers: Numbers) -> Numbers:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), after one step of its sequence."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
