"""Whether a prediction has seams: its gaps at borders of chunks and tiles, compared with gaps nearby.

A border is compared with planes beside it that are a multiple of the network's stride away, on the same lines. So what
the image holds there is the same on both sides of the comparison, and so is the phase of the network's pooling, which
makes gaps of its own (the checkerboard of an upsampling). Of a strip of lines one number is kept: the share of the
nearby planes whose gap is smaller, minus the share of those whose gap is larger. Without a seam its mean is zero,
whatever the image, the network and the scale of its output; nothing is assumed of the gaps' distribution.

Neighbouring strips see the same objects, so they are no independent evidence: what counts are the sums over *cells*,
cubes of at least 64 voxels a side. Their sums are tested by Student's t, one-sided, separately for borders of chunks
and of tiles, for each axis, and for fine and broad gaps; p is multiplied by the number of tests (Bonferroni).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from pipeline.evaluation.seam_gaps import SCALES, Bits, Gaps

BORDERS = ("chunk", "tile")
"""The two kinds of borders, in the order in which arrays hold them."""

SIGNIFICANCE = 1e-3
"""Probability of a false alarm of a run, all its tests together, at most."""

CELLS_LEAST = 12
"""Cells with something to compare, below which nothing can be told."""

CELL, CELLS_MOST = 64, 2**16
"""Voxels of a cell's edge at least, and cells of a volume at most: larger volumes have larger cells."""

LIMIT = 0.52
"""Share from which a seam counts, unless another one is asked for."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a border's strips say, ``(2, rows, strips)`` each: fine and broad. Strips that are not valid are zeros.

    Attributes:
        sign: share of nearby planes with a smaller gap, minus that of planes with a larger one.
        counts: 1 where there is a gap at the border or nearby, so that there is something to compare; else 0.
        border: gap at the border.
        nearby: mean gap nearby.
        strips: how many are valid.
    """

    sign: Gaps
    counts: Gaps
    border: Gaps
    nearby: Gaps
    strips: int

    @property
    def totals(self) -> Gaps:
        """Strips that count and the sum of their signs, at each scale: ``(2, 2)``."""
        return np.stack([self.counts.sum(axis=(1, 2)), self.sign.sum(axis=(1, 2))], axis=-1)


def compare(border: Gaps, nearby: Sequence[Gaps], valid: Bits) -> Compared:
    """Compare a border with planes nearby.

    Args:
        border: its gaps, ``(2, rows, strips)``.
        nearby: those of each plane, at least one.
        valid: strips that are looked at, ``(rows, strips)``.
    """
    others = np.stack(nearby)
    counts = (border > 0) | (others > 0).any(axis=0)
    said = (np.sign(border - others).mean(axis=0), counts.astype(np.float64), border, others.mean(axis=0))
    sign, counted, at, beside = (np.where(valid, each, 0.0) for each in said)
    return Compared(sign, counted, at, beside, int(valid.sum()))


class Cells:
    """Sums over the cells of a volume; they add, whatever the order in which borders come.

    Args:
        shape: voxels of the volume along each axis.

    Attributes:
        edge: voxels of a cell's edge.
        sums: for each kind of border, axis, cell and scale, the strips that count and the sum of their signs.
        gaps: for each kind of border, axis and scale, the strips, and the sums of their gaps at the border and nearby.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.edge = CELL
        while math.prod(-(-n // self.edge) for n in shape) > CELLS_MOST:
            self.edge *= 2
        self._counts = tuple(-(-n // self.edge) for n in shape)
        ndim = len(shape)
        self.sums = np.zeros((len(BORDERS), ndim, math.prod(self._counts), len(SCALES), 2))
        self.gaps = np.zeros((len(BORDERS), ndim, len(SCALES), 3))

    def add(self, kind: int, axis: int, places: Sequence[npt.NDArray[np.intp]], found: Compared) -> None:
        """Take in what a border's strips say.

        Args:
            kind: place in :data:`BORDERS`.
            axis: that the border crosses.
            places: of each strip, along each axis of the volume; arrays that broadcast to ``(rows, strips)``.
            found: what they say.
        """
        cells = [np.broadcast_to(place // self.edge, found.sign.shape[1:]) for place in places]
        number = np.ravel_multi_index(tuple(cells), self._counts).ravel()
        values = np.stack([found.counts, found.sign], axis=-1).reshape(len(SCALES), -1, 2)
        np.add.at(self.sums[kind, axis], number, values.swapaxes(0, 1))
        strips = np.full(len(SCALES), float(found.strips))
        self.gaps[kind, axis] += np.stack(
            [strips, found.border.sum(axis=(1, 2)), found.nearby.sum(axis=(1, 2))], axis=-1
        )


@dataclass(frozen=True, slots=True)
class Contrast:
    """One kind of border along one axis at one scale, against what is nearby.

    Attributes:
        borders: ``chunk`` or ``tile``.
        axis: name of the axis that the borders cross.
        scale: ``fine`` or ``broad``.
        strips: that were compared; those without any gap are not counted.
        cells: with such strips.
        share: of nearby planes whose gap is smaller than the border's, ties as halves; ½ without a seam.
        ratio: mean gap at the borders over that nearby, all strips; None where nearby there is none.
        z: sum over cells, in standard deviations.
        p: probability of that much or more without a seam.
    """

    borders: str
    axis: str
    scale: str
    strips: int
    cells: int
    share: float
    ratio: float | None
    z: float
    p: float

    def to_json(self) -> dict[str, Any]:
        """Return the contrast, JSON-ready, rounded as far as it is worth reading."""
        ratio = None if self.ratio is None else round(self.ratio, 4)
        rounded = {
            "share": round(self.share, 4),
            "ratio": ratio,
            "z": round(self.z, 2),
            "p": float(f"{self.p:.2g}"),
        }
        return asdict(self) | rounded


@dataclass(frozen=True, slots=True)
class Finding:
    """What is found of a volume's seams.

    Attributes:
        contrasts: those that there is enough for.
        unmeasured: borders that there are, but of which nothing can be told: kind, axis and reason.
        limit: share from which a seam counts.
    """

    contrasts: tuple[Contrast, ...]
    unmeasured: tuple[tuple[str, str, str], ...]
    limit: float

    @property
    def seams(self) -> tuple[Contrast, ...]:
        """The contrasts that show a seam: hardly by chance, and not too slight to matter; the clearest first."""
        level = SIGNIFICANCE / max(1, len(self.contrasts))
        return tuple(each for each in self.by_p if each.p < level and each.share >= self.limit)

    @property
    def by_p(self) -> list[Contrast]:
        """The contrasts, the clearest first."""
        return sorted(self.contrasts, key=lambda each: (each.p, -each.z))

    def to_json(self) -> dict[str, Any]:
        """Return the finding, JSON-ready: ``flagged``, and by which contrasts."""
        found = [each.to_json() for each in self.by_p]
        return {
            "flagged": bool(self.seams),
            "limit": self.limit,
            "significance": SIGNIFICANCE,
            "flagged_by": [each.to_json() for each in self.seams],
            "contrasts": found,
            "unmeasured": [
                {"borders": borders, "axis": axis, "reason": reason} for borders, axis, reason in self.unmeasured
            ],
        }


def contrasts(cells: Cells, axes: str) -> list[Contrast]:
    """Return what the sums over cells say, of each kind of border, axis and scale that has cells enough.

    Args:
        cells: the sums.
        axes: names of the volume's axes.
    """
    every = itertools.product(range(len(BORDERS)), range(len(axes)), range(len(SCALES)))
    found = [_contrast(cells, kind, axis, scale, axes[axis]) for kind, axis, scale in every]
    return [each for each in found if each.cells >= CELLS_LEAST]


def _contrast(cells: Cells, kind: int, axis: int, scale: int, name: str) -> Contrast:
    strips, signs = cells.sums[kind, axis, :, scale].T
    some = strips > 0
    number, count = int(some.sum()), float(strips.sum())
    z, p = student(signs[some])
    _, border, nearby = cells.gaps[kind, axis, scale].tolist()
    share = 0.5 + float(signs.sum()) / (2 * count) if count else 0.5
    ratio = border / nearby if nearby else None
    return Contrast(BORDERS[kind], name, SCALES[scale], int(count), number, share, ratio, z, p)


def student(sums: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the sum of numbers in standard deviations, and how probable as much or more is if their mean is zero.

    One-sample t-test, one-sided: with ``z = sum(x) / sqrt(sum(x^2))`` of ``n`` numbers,
    ``t = z sqrt((n - 1) / (n - z^2))`` has ``n - 1`` degrees of freedom. The probability is never less than that of
    ``n`` signs that are all positive, ``2^-n``: a few numbers that agree are no strong evidence.
    """
    n, squares = len(sums), float((sums**2).sum())
    if n < 2 or squares == 0:
        return 0.0, 1.0
    z = float(sums.sum()) / math.sqrt(squares)
    left = n - z**2
    t = z * math.sqrt((n - 1) / left) if left > 1e-9 else math.copysign(math.inf, z)
    return z, max(float(stdtr(n - 1, -t)), 0.5**n)
