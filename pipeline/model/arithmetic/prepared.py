"""Weights in the form that the arithmetic needs, made once a layer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class PreparedWeights:
    """What was made of the parameters of one model; a parameter that changed is made anew."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, str], tuple[Tensor, tuple[int, int], Tensor]] = {}

    def get(self, weight: Tensor, form: str, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Return ``make(weight)``; of a parameter it is kept under the name ``form``.

        A weight that is computed anew in each pass (a parametrization's) is no parameter, and is not kept.
        """
        if not isinstance(weight, nn.Parameter):
            return make(weight)
        state = (0 if weight.is_inference() else weight._version, weight.data_ptr())
        kept = self._made.get((id(weight), form))
        if kept is None or kept[0] is not weight or kept[1] != state:
            kept = (weight, state, make(weight))
            self._made[id(weight), form] = kept
        return kept[2]
