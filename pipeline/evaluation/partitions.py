"""How alike two divisions of the same voxels into segments are: pairs of voxels, and information.

For the voxels ``n``, of which ``c_ij`` lie in segment i of the target T and j of the prediction S, with
``t_i = Σ_j c_ij`` and ``s_j = Σ_i c_ij``:

==================================  ======================================================================
rand_precision, rand_recall         ``Σ c(c-1) / Σ s(s-1)``, ``Σ c(c-1) / Σ t(t-1)``: of the pairs of two voxels
                                    that one side puts together, the share that the other does too
adapted_rand                        their harmonic mean (1 - the adapted Rand error)
rand_index, adjusted_rand           Rand 1971; Hubert and Arabie 1985
v_rand_split, v_rand_merge, v_rand  ``Σ c² / Σ t²``, ``Σ c² / Σ s²``, ``Σ c² / (½ Σ s² + ½ Σ t²)``: Arganda-Carreras
                                    et al. 2015, eq. 3 at α = 0, 1, ½
v_info_split, v_info_merge, v_info  ``I / H(S)``, ``I / H(T)``, ``I / (½ H(S) + ½ H(T))``: the same, eq. 6
vi_split, vi_merge, vi              ``H(S|T)``, ``H(T|S)`` in bits, and their sum: Meilă 2007
==================================  ======================================================================

Splits of a segment lower what is called split (and recall), mergers what is called merge (and precision).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Self

import numpy as np

from pipeline.errors import InputError
from pipeline.evaluation.contingency import ContingencyTable, Counts
from pipeline.evaluation.undefined import harmonic, ratio, with_reasons

REASONS = {
    "rand_precision": "no segment of the prediction has two voxels",
    "rand_recall": "no segment of the target has two voxels",
    "adapted_rand": "no segment of either side has two voxels",
    "rand_index": "there are no two voxels",
    "adjusted_rand": "there are no two voxels",
    "v_rand_split": "there are no voxels",
    "v_rand_merge": "there are no voxels",
    "v_rand": "there are no voxels",
    "v_info_split": "the prediction is one segment: it holds no information",
    "v_info_merge": "the target is one segment: it holds no information",
    "v_info": "prediction and target are one segment each: there is no information to share",
    "vi_split": "there are no voxels",
    "vi_merge": "there are no voxels",
    "vi": "there are no voxels",
}
"""Why a metric of :func:`partition_metrics` can be None."""


@dataclass(frozen=True, slots=True)
class PartitionSums:
    """What all metrics of two partitions are made of. Adds over parts that share no segment, such as slices.

    Over chunks that cut segments, add the contingency tables instead, and take the sums of their total.

    Attributes:
        voxels: number of voxels.
        joint: ``Σ c²`` over the pairs of segments.
        target: ``Σ t²`` over the target's segments.
        prediction: ``Σ s²`` over the prediction's segments.
        joint_log: ``Σ c log2 c``.
        target_log: ``Σ t log2 t``.
        prediction_log: ``Σ s log2 s``.
    """

    voxels: int = 0
    joint: int = 0
    target: int = 0
    prediction: int = 0
    joint_log: float = 0.0
    target_log: float = 0.0
    prediction_log: float = 0.0

    @classmethod
    def zero(cls) -> Self:
        """The sums of no voxels."""
        return cls()

    @classmethod
    def of(cls, table: ContingencyTable) -> PartitionSums:
        """The sums of all counted voxels; id 0 is a segment as any other."""
        return _sums(table.voxels, table.sizes("target")[1], table.sizes("prediction")[1])

    @classmethod
    def of_foreground(cls, table: ContingencyTable) -> PartitionSums:
        """The sums restricted to the target's foreground (Arganda-Carreras et al. 2015).

        Voxels whose target is 0 are not counted. Each voxel that is 0 in the prediction alone is a segment of its
        own, as in the challenge's own program: a thick border splits.
        """
        inside = table.pick(table.target != 0)
        objects = inside.pick(inside.prediction != 0)
        sums = _sums(objects.voxels, inside.sizes("target")[1], objects.sizes("prediction")[1])
        alone = int(inside.voxels.sum()) - sums.voxels
        return sums + cls(voxels=alone, joint=alone, prediction=alone)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``.

        Raises:
            InputError: a sum is lacking or no number.
        """
        try:
            voxels, joint, target, prediction, *logs = (content[name] for name in cls.__slots__)
            return cls(int(voxels), int(joint), int(target), int(prediction), *map(float, logs))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"sums of two partitions need {', '.join(cls.__slots__)}: {error!r}") from error

    def to_dict(self) -> dict[str, Any]:
        """The sums by name, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __add__(self, other: PartitionSums) -> PartitionSums:
        return PartitionSums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def partition_metrics(sums: PartitionSums) -> dict[str, Any]:
    """All metrics of the module's table, ``voxels``, and ``undefined``: the reason of each that is None."""
    return with_reasons(
        {"voxels": sums.voxels, **_pairs(sums), **v_rand(sums), **v_info(sums), **_variation(sums)}, REASONS
    )


def v_rand(sums: PartitionSums) -> dict[str, float | None]:
    """``v_rand_split``, ``v_rand_merge`` and ``v_rand``, between 0 and 1; None without voxels."""
    return {
        "v_rand_split": ratio(sums.joint, sums.target),
        "v_rand_merge": ratio(sums.joint, sums.prediction),
        "v_rand": ratio(2 * sums.joint, sums.target + sums.prediction),
    }


def v_info(sums: PartitionSums) -> dict[str, float | None]:
    """``v_info_split``, ``v_info_merge`` and ``v_info``, between 0 and 1; None where there is no information."""
    target, prediction, joint = _entropies(sums)
    shared = min(max(target + prediction - joint, 0.0), target, prediction)
    return {
        "v_info_split": ratio(shared, prediction),
        "v_info_merge": ratio(shared, target),
        "v_info": ratio(2 * shared, target + prediction),
    }


def _pairs(sums: PartitionSums) -> dict[str, float | None]:
    """Metrics of the ordered pairs of two different voxels, in whole numbers up to the last division."""
    both, target, prediction = (n - sums.voxels for n in (sums.joint, sums.target, sums.prediction))
    pairs = sums.voxels * (sums.voxels - 1)
    precision, recall = ratio(both, prediction), ratio(both, target)
    return {
        "rand_precision": precision,
        "rand_recall": recall,
        "adapted_rand": harmonic(precision, recall),
        "rand_index": ratio(pairs - target - prediction + 2 * both, pairs),
        "adjusted_rand": _adjusted(both, target, prediction, pairs),
    }


def _adjusted(both: int, target: int, prediction: int, pairs: int) -> float | None:
    """Agreement above that of chance, as a share of the most; 1 for equal partitions, also where chance agrees."""
    if not pairs:
        return None
    above = 2 * (both * pairs - target * prediction)
    most = (target + prediction) * pairs - 2 * target * prediction
    return above / most if most else 1.0


def _variation(sums: PartitionSums) -> dict[str, float | None]:
    target, prediction, joint = _entropies(sums)
    if not sums.voxels:
        return {"vi_split": None, "vi_merge": None, "vi": None}
    split, merge = max(joint - target, 0.0), max(joint - prediction, 0.0)
    return {"vi_split": split, "vi_merge": merge, "vi": split + merge}


def _entropies(sums: PartitionSums) -> tuple[float, float, float]:
    """``H(T)``, ``H(S)`` and ``H(S, T)`` in bits; exactly 0 where all voxels are in one segment."""
    n = sums.voxels
    if not n:
        return 0.0, 0.0, 0.0
    terms = ((sums.target, sums.target_log), (sums.prediction, sums.prediction_log), (sums.joint, sums.joint_log))
    target, prediction, joint = (
        0.0 if squares == n * n else max(math.log2(n) - logs / n, 0.0) for squares, logs in terms
    )
    return target, prediction, joint


def _sums(joint: Counts, target: Counts, prediction: Counts) -> PartitionSums:
    counts = (joint, target, prediction)
    return PartitionSums(int(joint.sum()), *(_squares(c) for c in counts), *(_logs(c) for c in counts))


def _squares(counts: Counts) -> int:
    """In Python's integers: the square of a large volume's background has more than 64 bits."""
    return sum(n * n for n in counts.tolist())


def _logs(counts: Counts) -> float:
    return math.fsum((counts * np.log2(counts)).tolist())
