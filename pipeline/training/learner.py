"""What changes while a network learns, in one place: to be stepped by the loop, and stored and taken up as a state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pipeline.model.unet import UNet
from pipeline.training.ema import Ema
from pipeline.training.resume import State

Point = dict[str, Any]

MODEL, EMA, BEST, MOMENTS, RANDOM = "model.", "ema.", "best.", "moments.", "random."
"""How tensors of a state are called, by what they are of."""


@dataclass(slots=True)
class History:
    """What happened.

    Attributes:
        losses: loss of each step.
        curve: points of the learning curve: ``step``, ``seconds``, ``learning_rate``, ``loss`` (the mean since the
            point before) and ``validation`` (what was measured, or None).
        seconds: from the first step to the last, with validation; of all lives of the training together.
        waited: of these, seconds in which the network waited for data.
        best: step of the best point of the curve, whose weights are kept; None where nothing was measured.
        score: what was measured there.
        stale: points since then.
    """

    losses: list[float] = field(default_factory=list)
    curve: list[Point] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0
    best: int | None = None
    score: float | None = None
    stale: int = 0

    @property
    def step(self) -> int:
        """Steps that are done."""
        return len(self.losses)


class Learner:
    """A network that learns, with all that its next step depends on.

    Args:
        model: the network.
        optimiser: of its parameters.
        schedule: of the optimiser's learning rate.
        ema: moving average of its weights, or None.

    Attributes:
        history: what happened so far.
        best: the weights at the best point of the learning curve; empty where nothing was measured.
        scaler: state of the scaling of losses in float16.
    """

    def __init__(self, model: UNet, optimiser: Optimizer, schedule: LRScheduler, ema: Ema | None) -> None:
        self.model = model
        self.optimiser = optimiser
        self.schedule = schedule
        self.ema = ema
        self.history = History()
        self.best: dict[str, Tensor] = {}
        self.scaler: dict[str, Any] = {}
        self._random: dict[str, Tensor] = {}

    def weights(self) -> dict[str, Tensor]:
        """Return what is measured and kept: the moving average where there is one, else the weights; copies."""
        held = self.model.state_dict() if self.ema is None else self.ema.weights()
        return {name: value.detach().cpu().clone() for name, value in held.items()}

    @contextmanager
    def measured(self) -> Iterator[UNet]:
        """Give the network for a measurement: in evaluation mode, with the moving average where there is one."""
        self.model.eval()
        try:
            with self.ema.swapped(self.model) if self.ema is not None else nullcontext():
                yield self.model
        finally:
            self.model.train()

    def judge(self, point: Point) -> None:
        """Keep the weights if this point of the curve is the best so far; a tie is left to the earlier one."""
        found = point["validation"]
        score = None if found is None else found["mean_iou"]
        history = self.history
        if score is None or (history.score is not None and score <= history.score):
            history.stale += 1
            return
        history.best, history.score, history.stale = point["step"], score, 0
        self.best = self.weights()

    def state(self) -> State:
        """Return the state at the end of a step."""
        optimiser = self.optimiser.state_dict()
        moments = {
            f"{MOMENTS}{index}.{name}": torch.as_tensor(value)
            for index, held in optimiser["state"].items()
            for name, value in held.items()
            if value is not None
        }
        tensors = {
            **_prefixed(MODEL, self.model.state_dict()),
            **_prefixed(EMA, {} if self.ema is None else self.ema.state_dict()),
            **_prefixed(BEST, self.best),
            **moments,
            **_prefixed(RANDOM, _random_states()),
        }
        document = {
            "history": asdict(self.history),
            "groups": optimiser["param_groups"],
            "schedule": _plain(self.schedule.state_dict()),
            "scaler": self.scaler,
        }
        return State(self.history.step, tensors, document)

    def load(self, state: State) -> None:
        """Take a state up; the next step is the one that came after it."""
        self.model.load_state_dict(_unprefixed(MODEL, state.tensors))
        if self.ema is not None:
            self.ema.load_state_dict(_unprefixed(EMA, state.tensors))
        self.best = _unprefixed(BEST, state.tensors)
        held: dict[int, dict[str, Tensor]] = {}
        for name, value in _unprefixed(MOMENTS, state.tensors).items():
            index, _, moment = name.partition(".")
            held.setdefault(int(index), {})[moment] = value
        document = state.document
        self.optimiser.load_state_dict({"state": held, "param_groups": document["groups"]})
        self.schedule.load_state_dict(dict(document["schedule"]))
        self.scaler = dict(document["scaler"])
        self.history = History(**document["history"])
        self._random = _unprefixed(RANDOM, state.tensors)

    def wake(self) -> None:
        """Take up the state's random numbers: right before the first step, as others draw some before it."""
        if "cpu" in self._random:
            torch.set_rng_state(self._random["cpu"])
        if "cuda" in self._random and torch.cuda.is_available():
            torch.cuda.set_rng_state(self._random["cuda"])
        self._random = {}


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def _unprefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a schedule's state is plain data; its functions are made anew."""
    return {
        name: value for name, value in state.items() if isinstance(value, bool | int | float | list | tuple | None)
    }
