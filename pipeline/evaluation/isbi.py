"""The measures of the ISBI 2012 challenge: a map of probabilities against a target of membranes, slice by slice.

Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation algorithms for connectomics". Interior
is 1 and membrane is 0, in prediction and target alike; of a map of membrane probabilities, take 1 minus it. Interior
is found where the probability is *above* the threshold. Segments are the 4-connected parts of a slice's interior.

=================  ===================================================================================================
v_rand, v_info     of the thinned prediction (:func:`pipeline.evaluation.thinning.thinned`), restricted to the target's
                   interior (:meth:`PartitionSums.of_foreground`); the greatest over the thresholds: the re-evaluation
rand_error         1 - the greatest ``v_rand`` of the prediction as it is, not thinned: the challenge's Rand error
pixel_error        the least share of pixels that differ
pixel_f_error      1 - the greatest F-score of the interior's pixels
=================  ===================================================================================================

Scores of slices are averaged before the best threshold is taken, as in the challenge (``per_slice``), or pixels and
pairs of pixels of all slices are counted together (``stack``), where pairs are within slices alone and the segments
of each slice are others, which makes ``v_info`` larger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ChunkError, InputError
from pipeline.evaluation.contingency import ContingencyTable
from pipeline.evaluation.partitions import PartitionSums, v_info, v_rand
from pipeline.evaluation.probabilities import as_probabilities
from pipeline.evaluation.thinning import Segments, segments, thinned
from pipeline.evaluation.undefined import ratio, with_reasons

THRESHOLDS = tuple(i / 10 for i in range(10))
"""The challenge's own steps; nothing is above 1."""

Scores = dict[str, float | None]

BEST = {"v_rand": max, "v_info": max, "rand_error": min, "pixel_error": min, "pixel_f_error": min}
"""The measures, and which of their values over the thresholds is the best one."""

REASONS = {
    "v_rand": "the target holds no interior",
    "v_info": "no slice has a target of two segments, or a prediction of two where the target has one",
    "rand_error": "the target holds no interior",
    "pixel_error": "there are no pixels",
    "pixel_f_error": "neither side holds interior at any threshold",
}


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """Pixels of prediction and target. Adds over any parts.

    Attributes:
        found: interior in both.
        false: interior in the prediction alone.
        missed: interior in the target alone.
        membrane: interior in neither.
    """

    found: int = 0
    false: int = 0
    missed: int = 0
    membrane: int = 0

    @classmethod
    def of(cls, prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> Self:
        """Count the pixels of two maps of interior."""
        found, predicted, truly = (int(np.count_nonzero(a)) for a in (prediction & target, prediction, target))
        return cls(found, predicted - found, truly - found, target.size - predicted - truly + found)

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class SliceSums:
    """What one slice gives at one threshold. Adds over slices.

    Attributes:
        pixels: pixels of both maps.
        plain: of the prediction's segments as they are, restricted to the target's interior.
        thin: of the thinned prediction, the same.
    """

    pixels: PixelCounts
    plain: PartitionSums
    thin: PartitionSums

    @classmethod
    def of(cls, interior: NDArray[np.bool_], target: Segments) -> Self:
        """The sums of a slice's interior ``(y, x)`` against the segments of its target ``(y, x)``."""
        plain, thin = (
            PartitionSums.of_foreground(ContingencyTable.of(found, target))
            for found in (segments(interior), thinned(interior))
        )
        return cls(PixelCounts.of(interior, target != 0), plain, thin)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``."""
        sums = (PartitionSums.from_dict(content[name]) for name in ("plain", "thin"))
        return cls(PixelCounts(*map(int, content["pixels"])), *sums)

    def to_dict(self) -> dict[str, Any]:
        """The sums ready for JSON."""
        return {"pixels": astuple(self.pixels), "plain": self.plain.to_dict(), "thin": self.thin.to_dict()}

    def __add__(self, other: SliceSums) -> SliceSums:
        return SliceSums(self.pixels + other.pixels, self.plain + other.plain, self.thin + other.thin)


@dataclass(frozen=True, slots=True)
class IsbiStatistics:
    """The sums of some slices of a stack at some thresholds. Adds over disjoint slices; a slice is never cut.

    Attributes:
        thresholds: probabilities above which a pixel is interior, ascending.
        slices: by number of the slice, one :class:`SliceSums` for each threshold, in their order.
    """

    thresholds: tuple[float, ...]
    slices: Mapping[int, tuple[SliceSums, ...]]

    @classmethod
    def zero(cls, thresholds: Sequence[float] = THRESHOLDS) -> Self:
        """The statistics of no slices.

        Raises:
            InputError: there are no thresholds, they do not ascend, or one is not from 0 up to, but without, 1.
        """
        found = tuple(float(t) for t in thresholds)
        if not found or list(found) != sorted(set(found)) or not 0 <= found[0] <= found[-1] < 1:
            raise InputError(f"thresholds ascend from 0 up to, but without, 1; these are {list(found)}")
        return cls(found, {})

    @classmethod
    def of(
        cls,
        interior: NDArray[Any],
        target: NDArray[Any],
        *,
        number: int,
        thresholds: Sequence[float] = THRESHOLDS,
    ) -> Self:
        """The statistics of one slice.

        Args:
            interior: ``(y, x)``, probability that a pixel is no membrane; floats from 0 to 1, or uint8.
            target: ``(y, x)``, 0 on membranes, another value inside, in any integer dtype.
            number: of the slice in its stack.
            thresholds: see the attribute.

        Raises:
            InputError: see :meth:`zero`.
            ChunkError: the arrays are no slices of one shape, or see :func:`as_probabilities`.
        """
        if interior.ndim != 2 or interior.shape != target.shape:
            raise ChunkError(
                f"a slice is two arrays (y, x) of one shape; these have {interior.shape} and {target.shape}"
            )
        steps = cls.zero(thresholds).thresholds
        probabilities, truth = as_probabilities(interior), segments(target)
        return cls(steps, {number: tuple(SliceSums.of(probabilities > step, truth) for step in steps)})

    @classmethod
    def of_stack(
        cls,
        interior: NDArray[Any],
        target: NDArray[Any],
        *,
        first: int = 0,
        thresholds: Sequence[float] = THRESHOLDS,
    ) -> IsbiStatistics:
        """The statistics of the slices ``(z, y, x)`` of a stack, numbered from ``first``; see :meth:`of`."""
        total: IsbiStatistics = cls.zero(thresholds)
        for number, (found, truth) in enumerate(zip(interior, target, strict=True), first):
            total += cls.of(found, truth, number=number, thresholds=thresholds)
        return total

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``.

        Raises:
            InputError: the content is none of these statistics.
        """
        try:
            slices = {int(n): tuple(map(SliceSums.from_dict, sums)) for n, sums in content["slices"].items()}
            return cls(cls.zero(content["thresholds"]).thresholds, slices)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"statistics of slices need 'thresholds' and 'slices', sums by number: {error!r}"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The statistics ready for JSON."""
        slices = {str(number): [each.to_dict() for each in sums] for number, sums in self.slices.items()}
        return {"thresholds": list(self.thresholds), "slices": slices}

    def __add__(self, other: IsbiStatistics) -> IsbiStatistics:
        if self.thresholds != other.thresholds:
            raise InputError(
                f"thresholds differ: {list(self.thresholds)} and {list(other.thresholds)}; use the same"
            )
        twice = self.slices.keys() & other.slices.keys()
        if twice:
            raise InputError(f"slices {sorted(twice)} are in both statistics; each is counted once")
        return IsbiStatistics(self.thresholds, dict(sorted({**self.slices, **other.slices}.items())))


def isbi_metrics(total: IsbiStatistics, *, threshold: float = 0.5) -> dict[str, Any]:
    """The challenge's measures of all slices, ready for JSON.

    Args:
        total: the sum of the statistics of all slices.
        threshold: one of its thresholds, at which the scores are given as well, without taking the best.

    Returns:
        ``slices`` (their number), and ``per_slice`` and ``stack``, each with: every measure of ``BEST`` by name
        (``value`` and ``threshold``; ``v_rand`` and ``v_info`` also ``split`` and ``merge`` there), ``undefined``
        (reasons), ``at`` (all scores at ``threshold``) and ``curve`` (all scores at every threshold).

    Raises:
        InputError: the threshold is none of the total's.
    """
    if threshold not in total.thresholds:
        raise InputError(f"there are no sums for the threshold {threshold}, only for {list(total.thresholds)}")
    columns = [[sums[i] for sums in total.slices.values()] for i in range(len(total.thresholds))]
    zero = SliceSums(PixelCounts(), PartitionSums(), PartitionSums())
    curves = {
        "per_slice": [_mean([_scores(sums) for sums in column]) for column in columns],
        "stack": [_scores(sum(column, zero)) for column in columns],
    }
    place = total.thresholds.index(threshold)
    return {
        "slices": len(total.slices),
        **{
            name: {**_best(curve, total), "at": _at(curve, total)[place], "curve": _at(curve, total)}
            for name, curve in curves.items()
        },
    }


def _scores(sums: SliceSums) -> Scores:
    pixels = sums.pixels
    wrong = pixels.false + pixels.missed
    plain, f_score = v_rand(sums.plain)["v_rand"], ratio(2 * pixels.found, 2 * pixels.found + wrong)
    return {
        **v_rand(sums.thin),
        **v_info(sums.thin),
        "rand_error": None if plain is None else 1 - plain,
        "pixel_error": ratio(wrong, pixels.found + wrong + pixels.membrane),
        "pixel_f_error": None if f_score is None else 1 - f_score,
    }


def _mean(scores: Sequence[Scores]) -> Scores:
    """The mean of each score over the slices that have it."""
    names = _scores(SliceSums(PixelCounts(), PartitionSums(), PartitionSums()))
    values = {name: [s for score in scores if (s := score[name]) is not None] for name in names}
    return {name: sum(found) / len(found) if found else None for name, found in values.items()}


def _at(curve: Sequence[Scores], total: IsbiStatistics) -> list[dict[str, float | None]]:
    return [{"threshold": step, **scores} for step, scores in zip(total.thresholds, curve, strict=True)]


def _best(curve: Sequence[Scores], total: IsbiStatistics) -> dict[str, Any]:
    """The best value of each measure, the threshold it is had at (the lowest of several), and reasons."""
    found = {name: _extreme(name, curve, total) for name in BEST}
    values = {name: entry["value"] for name, entry in found.items()}
    return {**found, "undefined": with_reasons(values, REASONS)["undefined"]}


def _extreme(name: str, curve: Sequence[Scores], total: IsbiStatistics) -> dict[str, float | None]:
    parts = ("split", "merge") if name.startswith("v_") else ()
    values = {place: value for place, scores in enumerate(curve) if (value := scores[name]) is not None}
    if not values:
        return dict.fromkeys(("value", "threshold", *parts))
    best = BEST[name](values, key=lambda place: values[place])
    there = {part: curve[best][f"{name}_{part}"] for part in parts}
    return {"value": values[best], "threshold": total.thresholds[best], **there}
