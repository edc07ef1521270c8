"""Optimisers and schedules of a job."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LRScheduler

from pipeline.config.training import Pair, TrainJob
from pipeline.training.optimisers import make_optimiser, make_schedule


def job(**settings: Any) -> TrainJob:
    pairs = (Pair(image="image.zarr", target="target.zarr"),)
    return TrainJob(pairs=pairs, output="model.safetensors", classes=("no", "yes"), **settings)


def weight() -> nn.Parameter:
    return nn.Parameter(torch.tensor([2.0]))


def rates(schedule: LRScheduler, steps: int) -> list[float]:
    """The learning rate of each step."""
    found = []
    for _ in range(steps):
        found.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return found


def of(steps: int, **settings: Any) -> list[float]:
    training = job(**settings)
    return rates(make_schedule(training, make_optimiser(training, [weight()]), steps), steps)


def test_optimisers_have_the_settings_of_the_job():
    group = make_optimiser(job(weight_decay=0.02), [weight()]).param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (1e-3, 0.02, (0.9, 0.999))
    optimiser = make_optimiser(job(optimiser="sgd"), [weight()])
    assert isinstance(optimiser, SGD)
    group = optimiser.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (1e-2, 0.99, 1e-4)
    optimiser = make_optimiser(job(optimiser="sgd", learning_rate=0.5, momentum=0.9), [weight()])
    assert (optimiser.param_groups[0]["lr"], optimiser.param_groups[0]["momentum"]) == (0.5, 0.9)
    assert isinstance(make_optimiser(job(), [weight()]), AdamW)


def test_a_step_with_the_papers_momentum_by_hand():
    parameter = weight()
    optimiser = make_optimiser(job(optimiser="sgd", learning_rate=0.1, weight_decay=0), [parameter])
    for want in (2 - 0.1 * 3, 2 - 0.1 * 3 - 0.1 * (0.99 * 3 + 3)):
        parameter.grad = torch.tensor([3.0])
        optimiser.step()
        assert parameter.item() == pytest.approx(want)


def test_cosine_by_hand():
    found = of(8, schedule="cosine", warmup=0.25, learning_rate=3.0)
    fall = [1.5 * (1 + math.cos(math.pi * n / 6)) for n in range(6)]
    assert found == pytest.approx([1, 2, *fall])
    assert of(4, schedule="cosine", warmup=0, learning_rate=1.0)[0] == 1


def test_one_cycle_goes_up_and_down():
    found = of(100, schedule="one_cycle", learning_rate=2.0)
    top = found.index(max(found))
    assert top == 29
    assert max(found) == pytest.approx(2)
    assert found[:30] == sorted(found[:30])
    assert found[30:] == sorted(found[30:], reverse=True)
    assert found[0] == pytest.approx(2 / 25)
    assert found[-1] < 1e-5


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_no_schedule_changes_the_momentum_of_sgd(schedule, optimiser):
    training = job(schedule=schedule, optimiser=optimiser)
    made = make_optimiser(training, [weight()])
    rates(make_schedule(training, made, 10), 5)
    if optimiser == "sgd":
        assert made.param_groups[0]["momentum"] == 0.99


def test_constant_is_constant():
    assert set(of(5, schedule="constant", learning_rate=0.25)) == {0.25}


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_trainings_have_a_schedule(schedule, steps):
    found = of(steps, schedule=schedule)
    assert all(0 < rate <= 1e-3 for rate in found)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_a_schedule_goes_on_from_its_state(schedule):
    training = job(schedule=schedule)
    optimiser = make_optimiser(training, [weight()])
    whole = make_schedule(training, optimiser, 12)
    rates(whole, 5)
    state, held = whole.state_dict(), optimiser.state_dict()
    other = make_optimiser(training, [weight()])
    resumed = make_schedule(training, other, 12)
    other.load_state_dict(held)
    resumed.load_state_dict(state)
    assert rates(resumed, 7) == rates(whole, 7)
