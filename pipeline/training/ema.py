"""The moving average of a network's weights: steadier than the weights themselves, and what is measured and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_AVERAGE, _UPDATES = "average.", "updates"


class Ema:
    """An exponential moving average of weights and buffers (Polyak and Juditsky 1992, with decay).

    ``average = d * average + (1 - d) * weights`` after each step, with ``d = min(decay, (1 + n) / (10 + n))`` at the
    n-th one: a short training is not held at its random start. Buffers that are whole numbers are copied.

    Args:
        model: the network; its weights are the average's start.
        decay: how slowly the average follows, from 0 (not at all behind) to nearly 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self._updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Follow the weights, after a step."""
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        self._updates += 1
        state = model.state_dict()
        floating = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self._average[name] for name in floating], [state[name] for name in floating], 1 - decay
        )
        for name in state.keys() - set(floating):
            self._average[name].copy_(state[name])

    def weights(self) -> dict[str, Tensor]:
        """Return the average by the names of the model's ``state_dict``; not copies."""
        return dict(self._average)

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Give the model the average for a while; then it has its own weights back, bit by bit."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self._average)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that the next update depends on, as tensors; not copies."""
        average = {_AVERAGE + name: value for name, value in self._average.items()}
        return average | {_UPDATES: torch.tensor(self._updates)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of the same network."""
        for name, value in self._average.items():
            value.copy_(state[_AVERAGE + name])
        self._updates = int(state[_UPDATES])
