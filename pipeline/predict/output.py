"""What is stored of the network's output: class ids, probabilities, or the raw output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.model.network import OutputMeaning

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """How the network's output becomes stored voxels.

    Attributes:
        kind: ``labels`` (class ids), ``probabilities`` or ``logits`` (the raw output).
        dtype: name of the stored data type.
        outputs: channels of scores; 1 is a sigmoid, more are a softmax, or one for each class id.
        threshold: probability from which a sigmoid says foreground.
        meaning: what the network itself gives.
        temperature: what logits are divided by to become calibrated probabilities (Guo et al. 2017, section 4.2). The
            threshold is one of calibrated probabilities. Class ids are made of the raw output and a threshold that is
            carried over, so that a temperature alone changes none of them, neither one by one nor averaged.
    """

    kind: str
    dtype: str
    outputs: int
    threshold: float
    meaning: OutputMeaning = "logits"
    temperature: float = 1.0

    @property
    def channels(self) -> int | None:
        """Stored channels; class ids have no channel axis."""
        return None if self.kind == "labels" else self.outputs

    def empty(self, shape: Sequence[int]) -> npt.NDArray[Any]:
        """Return an array for a core: ``(c, [z,] y, x)``, one channel for class ids."""
        return np.empty((self.channels or 1, *shape), dtype=self.dtype)

    def stored(self, result: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the array as it is stored: without a channel axis for class ids."""
        return result[0] if self.channels is None else result

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        """Turn raw output ``(n, c, ...)`` into stored values ``(n, c', ...)``.

        Class ids: argmax, the smaller id on a tie; for a sigmoid, 1 where p >= threshold. Probabilities in uint8 are
        round(255 p). A stored value is a function of its voxel's raw output alone.
        """
        if self.kind == "labels" and self.meaning == "classes":
            return raw.round().byte()
        if self.kind == "labels" and self.meaning == "logits":
            return self._class_ids(raw, self._least_logit)
        return self.finish_scores(self.scores(raw))

    def scores(self, raw: torch.Tensor) -> torch.Tensor:
        """Turn raw output ``(n, c, ...)`` into numbers that may be averaged: ``(n, outputs, ...)``, float32 or wider.

        The raw output itself where that is stored, else probabilities; of class ids, 1 for the class and 0 for the
        others, so that a mean is a share of votes.
        """
        wide = raw if raw.element_size() == 8 and raw.is_floating_point() else raw.float()
        if self.meaning == "classes":
            ids = wide.round().long()
            each = ids.new_tensor(range(self.outputs)).reshape(1, -1, *(1,) * (ids.ndim - 2))
            return (ids == each).float()
        if self.kind == "logits" or self.meaning == "probabilities":
            return wide
        if self.kind == "probabilities" and self.temperature != 1:
            wide = wide / self.temperature
        return wide.sigmoid() if self.outputs == 1 else wide.softmax(1)

    def finish_scores(self, scores: torch.Tensor) -> torch.Tensor:
        """Turn (averaged) scores ``(n, outputs, ...)`` into stored values ``(n, c', ...)``."""
        if self.kind == "labels":
            return self._class_ids(scores, self._least_score)
        if self.kind == "logits":
            return scores.double() if self.dtype == "float64" else scores.float()
        return scores.mul(255).round_().byte() if self.dtype == "uint8" else scores.float()

    def class_of(self, scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the class that scores ``(outputs, ...)`` speak for, as :meth:`finish_scores` would store it."""
        if self.outputs > 1:
            best: npt.NDArray[Any] = scores.argmax(0)
            return best
        middle = 0.0 if self.kind == "logits" else self._least_score
        decided: npt.NDArray[Any] = scores[0] >= middle
        return decided

    @property
    def _least_logit(self) -> float:
        """The logit from which a sigmoid says foreground."""
        return self.temperature * math.log(self.threshold / (1 - self.threshold))

    @property
    def _least_score(self) -> float:
        """The score from which it does: of a probability that is stored, or of a raw one where class ids are."""
        if self.kind != "labels" or self.meaning != "logits" or self.temperature == 1:
            return self.threshold
        return 1 / (1 + math.exp(-self._least_logit))

    def _class_ids(self, values: torch.Tensor, least: float) -> torch.Tensor:
        if self.outputs == 1:
            return (values >= least).byte()
        return values.argmax(1, keepdim=True).byte()
