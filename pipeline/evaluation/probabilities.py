"""Probabilities as they are stored: floats between 0 and 1, or uint8 of which 255 is 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ChunkError, NonFiniteError


def as_probabilities(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return stored probabilities, of any shape, as float64 between 0 and 1.

    Raises:
        ChunkError: they are neither floats nor uint8, or one is below 0 or above 1.
        NonFiniteError: one is NaN or infinite.
    """
    if values.dtype == np.uint8:
        return values / 255.0
    if values.dtype.kind != "f":
        raise ChunkError(
            f"probabilities are floats from 0 to 1, or uint8 with 255 for 1; these are of {values.dtype}"
        )
    found = values.astype(np.float64)
    least, most = float(found.min(initial=0.5)), float(found.max(initial=0.5))
    if not np.isfinite([least, most]).all():
        raise NonFiniteError("the probabilities hold NaN or infinity; find out where the network gave them")
    if least < 0 or most > 1:
        raise ChunkError(
            f"the probabilities go from {least:g} to {most:g}, but lie between 0 and 1; are these logits?"
            " Apply softmax or sigmoid first"
        )
    return found
