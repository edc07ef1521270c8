"""What is stored of the network's output: class ids, probabilities, or the raw output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """How the network's output becomes stored voxels.

    Attributes:
        kind: ``labels`` (class ids), ``probabilities`` or ``logits``.
        dtype: name of the stored data type.
        outputs: output channels of the network; 1 is a sigmoid, more are a softmax.
        threshold: probability from which a sigmoid says foreground.
    """

    kind: str
    dtype: str
    outputs: int
    threshold: float

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

    def finish(self, logits: torch.Tensor) -> torch.Tensor:
        """Turn raw output ``(n, c, ...)`` into stored values ``(n, c', ...)``.

        Class ids: argmax, the smaller id on a tie; for a sigmoid, 1 where p >= threshold. Probabilities in uint8 are
        round(255 p). A stored value is a function of its voxel's raw output alone.
        """
        if self.kind == "labels":
            return self._class_ids(logits)
        if self.kind == "logits":
            return logits.double() if self.dtype == "float64" else logits.float()
        wide = logits.double() if logits.element_size() == 8 else logits.float()
        p = wide.sigmoid() if self.outputs == 1 else wide.softmax(1)
        return p.mul_(255).round_().byte() if self.dtype == "uint8" else p.float()

    def _class_ids(self, logits: torch.Tensor) -> torch.Tensor:
        if self.outputs == 1:
            return (logits >= math.log(self.threshold / (1 - self.threshold))).byte()
        ids = logits.argmax(1, keepdim=True)
        return ids.byte() if self.dtype == "uint8" else ids.short()
