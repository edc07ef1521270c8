"""The moving average of weights: by hand, stored and taken up, lent to the model and given back."""

from contextlib import suppress

import pytest
import torch
from torch import nn

from pipeline.training.ema import Ema


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def step(model: nn.Module) -> None:
    """Change every weight and buffer."""
    model.train()(torch.randn(2, 1, 3, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.items()}


def test_the_average_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2)
    ema = Ema(model, 0.15)
    wanted = 2.0
    for number, weight in enumerate((4.0, 8.0, -3.0)):
        nn.init.constant_(model.weight, weight)
        ema.update(model)
        decay = min(0.15, (1 + number) / (10 + number))  # 1/10, then 0.15
        wanted = decay * wanted + (1 - decay) * weight
        assert ema.weights()["weight"].item() == pytest.approx(wanted)


def test_a_long_average_is_slow_and_one_without_decay_is_the_weights():
    model = network()
    slow, none = Ema(model, 0.999), Ema(model, 0.0)
    start = copy(model.state_dict())
    for _ in range(3):
        step(model)
        slow.update(model)
        none.update(model)
    assert same(none.weights(), model.state_dict())
    assert not same(slow.weights(), model.state_dict())
    assert not same(slow.weights(), start)


def test_buffers_are_averaged_and_counters_copied():
    model = network()
    ema = Ema(model, 0.9)
    step(model)
    ema.update(model)
    torch.testing.assert_close(ema.weights()["1.running_var"], 0.1 + 0.9 * model.state_dict()["1.running_var"])
    assert ema.weights()["1.num_batches_tracked"] == 1


def test_a_model_has_the_average_for_a_while_and_then_its_own_weights_back():
    model = network()
    ema = Ema(model, 0.9)
    step(model)
    ema.update(model)
    own, parameters = copy(model.state_dict()), [id(parameter) for parameter in model.parameters()]
    with suppress(KeyboardInterrupt), ema.swapped(model):
        assert same(copy(model.state_dict()), ema.weights())
        assert not same(copy(model.state_dict()), own)
        raise KeyboardInterrupt
    assert same(model.state_dict(), own)
    assert [id(parameter) for parameter in model.parameters()] == parameters


def test_an_average_goes_on_from_a_state_as_if_it_had_never_stopped():
    model = network()
    whole = Ema(model, 0.99)
    weights = []
    for _ in range(4):
        step(model)
        whole.update(model)
        weights.append(copy(model.state_dict()))
        if len(weights) == 2:
            state = copy(whole.state_dict())
    resumed = Ema(network(), 0.99)
    resumed.load_state_dict(state)
    for later in weights[2:]:
        model.load_state_dict(later)
        resumed.update(model)
    assert same(resumed.state_dict(), whole.state_dict())
