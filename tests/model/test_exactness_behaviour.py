"""What only real numbers show: randomness, images that influence each other, constants that hang on place or size."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo import Lambda

from pipeline.model.constructed import Analysis
from pipeline.model.exactness import analyse
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
