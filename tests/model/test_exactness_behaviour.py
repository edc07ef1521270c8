"""What only real numbers show: randomness, images that influence each other, constants that hang on place or size."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo import Lambda

from pipeline.geometry.reach import Reach
from pipeline.model.constructed import Analysis
from pipeline.model.exactness import analyse
from pipeline.model.exactness.behaviour import Behaviour
from pipeline.model.exactness.ghost import Ghost
from pipeline.model.exactness.numbers import Real, difference, noise


def verdict(name) -> Analysis:
    return analyse(Lambda(lambda net, x: name(x)).eval(), dims=2, in_channels=1).analysis


def checkered(x: Tensor) -> Tensor:
    return x * (torch.arange(x.shape[2], device=x.device) % 2).to(x.dtype)[:, None]


def weighted_at_the_edge(x: Tensor) -> Tensor:
    return x * F.avg_pool2d(torch.ones_like(x), 5, 1, 2)


def positioned(x: Tensor) -> Tensor:
    return x + torch.arange(x.shape[2], device=x.device, dtype=x.dtype)[:, None]


def drifting(x: Tensor) -> Tensor:
    return x + (1e-3 * x.shape[2] if x.dtype == torch.float32 else 0)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (lambda x: x + random.random(), "gives other values at a second call"),
        (lambda x: x - x.mean(0, keepdim=True) / 2, "depends on the others in its batch"),
        (positioned, "does not give the voxels of the whole along y: the output depends on where a voxel lies"),
        (drifting, "In float32 a tile differs from the whole along y by"),
    ],
)
def test_what_real_numbers_show_is_a_reason(name, sentence):
    analysis = verdict(name)
    assert not analysis.exact
    assert len(analysis.reasons) == 1
    assert sentence in analysis.reasons[0]


def test_constants_that_repeat_need_a_larger_stride():
    analysis = verdict(checkered)
    assert analysis.exact
    assert [a.stride for a in analysis.reaches] == [2, 1]


def test_constants_that_hang_on_the_edge_need_a_larger_halo():
    analysis = verdict(weighted_at_the_edge)
    assert analysis.exact
    assert [a.halo for a in analysis.reaches] == [(2, 2), (2, 2)]


def test_weights_that_are_zero_hide_nothing():
    model = nn.Sequential(nn.Conv2d(1, 2, 7, padding=3), nn.Conv2d(2, 2, 3, padding=1)).eval()
    for tensor in model.parameters():
        tensor.data.zero_()
    assert [a.halo for a in analyse(model, dims=2, in_channels=1).analysis.reaches] == [(4, 4), (4, 4)]


def test_a_network_of_its_own_precision_is_probed_in_that():
    model = Lambda(lambda net, x: net.conv(x.float()), conv=nn.Conv2d(1, 2, 3, padding=1)).eval()
    analysis = analyse(model, dims=2, in_channels=1).analysis
    assert analysis.exact, analysis.reasons


HALO = [nn.Conv2d(1, 2, 3, padding=1), nn.Sigmoid(), nn.Conv2d(2, 2, 5, padding=2), nn.ReLU()]


class Faint(nn.Module):
    """Sees a voxel farther than its convolution does, at a billionth of its value."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1e-9 * F.pad(x, (0, 0, 2, 0))[:, :, :-2]


@pytest.mark.parametrize("heavy", [0, 10**10])
@pytest.mark.parametrize(
    ("model", "halo", "fits"),
    [
        (nn.Sequential(*HALO), (3, 3), True),
        (nn.Sequential(*HALO), (2, 3), False),
        (nn.Sequential(*HALO), (3, 2), False),
        (Lambda(lambda net, x: x / x.exp().amax((2, 3), keepdim=True)), (1, 1), False),
        (Lambda(lambda net, x: positioned(x)), (1, 1), False),
        (Lambda(lambda net, x: x + 1e-8 * torch.linspace(-1, 1, x.shape[2]).to(x)[:, None]), (1, 1), False),
        (Faint(), (2, 0), True),
    ],
)
def test_a_heavy_network_is_held_to_as_much_as_a_light_one(model, halo, fits, heavy):
    reaches = [Reach(1, halo, 0, 0, 1)] * 2
    behaviour = Behaviour(model.eval(), Ghost(model, 2, 1), reaches, heavy=heavy)
    assert behaviour.fits(0, reaches[0]) is fits


def test_a_heavy_network_s_voxels_beyond_the_halo_are_seen_however_faint():
    """A billionth, which float64 takes for rounding."""
    reaches = [Reach(1, (0, 0), 0, 0, 1)] * 2
    light, heavy = (Behaviour(Faint(), Ghost(Faint(), 2, 1), reaches, heavy=n) for n in (10**10, 0))
    assert light.fits(0, reaches[0])
    assert not heavy.agrees(0, reaches[0])


def test_drawn_weights_that_a_heavy_network_fails_with_leave_it_to_its_own():
    def refusing(net: nn.Module, x: Tensor) -> Tensor:
        if net.conv.weight.sum() != 0:
            raise ValueError("weights must add up to zero")
        return net.conv(x)

    model = Lambda(refusing, conv=nn.Conv2d(1, 1, 3, padding=1)).eval()
    nn.init.zeros_(model.conv.weight)
    reaches = [Reach(1, (1, 1), 0, 0, 1)] * 2
    ghost = Ghost(nn.Conv2d(1, 1, 3, padding=1), 2, 1)
    assert Behaviour(model, ghost, reaches, heavy=0).fits(0, reaches[0])


def test_a_large_but_finite_reach_is_no_global_one():
    layers = [nn.Conv2d(1, 1, 3, padding=d, dilation=d) for d in (1, 50, 100, 200)]
    analysis = analyse(nn.Sequential(*layers).eval(), dims=2, in_channels=1).analysis
    assert analysis.exact, analysis.reasons
    assert [a.halo for a in analysis.reaches] == [(351, 351)] * 2


def test_differences_are_relative_and_shapes_and_nan_count():
    one = torch.ones(1, 2)
    assert difference(one, one) == 0
    assert difference(one * 3, one * 2) == 0.5
    assert difference(one, one[:, :1]) == torch.inf
    assert difference(one * torch.nan, one) == torch.inf
    assert difference(torch.tensor([1, 2]), torch.tensor([1, 3])) == 0.5


def test_drawn_weights_are_the_same_every_time():
    layer = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    x = noise(1, (8, 8), seed=0)
    first, second, other = (Real(layer.eval(), 2, torch.float64, seed=s)(x) for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
