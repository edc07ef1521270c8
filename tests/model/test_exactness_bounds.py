"""The rules, one operation at a time: bounds on shapes alone against what real numbers show."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from zoo import Lambda

from pipeline.model.exactness.bounds import Bounds, positions, reshaped
from pipeline.model.exactness.ghost import Ghost
from pipeline.model.exactness.reasons import sentences
from pipeline.model.exactness.trace import Culprit, trace

LENGTH = 24


def function(name, **parts):
    return Lambda(lambda net, x: name(x), **parts)


def layer(kind, **settings):
    return nn.Sequential(kind(1, 2, **settings))


OPERATIONS = {
    "convolution": layer(nn.Conv2d, kernel_size=3),
    "strided": layer(nn.Conv2d, kernel_size=4, stride=3, padding=2),
    "dilated": layer(nn.Conv2d, kernel_size=3, dilation=3, padding=4),
    "transposed": layer(nn.ConvTranspose2d, kernel_size=2, stride=2),
    "transposed, overlapping": layer(nn.ConvTranspose2d, kernel_size=5, stride=2, padding=1, output_padding=1),
    "transposed, dilated": layer(nn.ConvTranspose2d, kernel_size=3, stride=3, dilation=2),
    "transposed, with holes": layer(nn.ConvTranspose2d, kernel_size=2, stride=3),
    "maximum": nn.MaxPool2d(3, 2, 1),
    "maximum, ceiling": nn.MaxPool2d(5, 4, ceil_mode=True),
    "average": nn.AvgPool2d(3, 2, 1),
    "adaptive": function(lambda x: F.adaptive_avg_pool2d(x, 12)),
    "adaptive maximum": function(lambda x: F.adaptive_max_pool2d(x, 16)),
    "nearest": function(lambda x: F.interpolate(x, scale_factor=2.5)),
    "nearest to a size": function(lambda x: F.interpolate(x, size=31)),
    "nearest-exact": function(lambda x: F.interpolate(x, scale_factor=1.5, mode="nearest-exact")),
    "bilinear": function(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    "bilinear by three": function(lambda x: F.interpolate(x, scale_factor=3, mode="bilinear")),
    "bilinear, smaller": function(lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear")),
    "bicubic": function(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")),
    "slices": function(lambda x: x[:, :, 3:-2:2, 1:]),
    "flipped": function(lambda x: x.flip(2)),
    "rolled": function(lambda x: x.roll(3, 2)),
    "turned": function(lambda x: x.rot90(2, (2, 3))),
    "repeated": function(lambda x: x.repeat(1, 2, 3, 1)),
    "stacked": function(lambda x: torch.stack([x[:, :, 1:], x[:, :, :-1]], 2).flatten(1, 2)),
    "shuffled": function(lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2)),
    "depth to space": nn.Sequential(nn.Conv2d(1, 4, 3), nn.PixelShuffle(2)),
    "reshaped": function(lambda x: x.reshape(*x.shape[:2], -1, 2, x.shape[3]).sum(3)),
    "windows": function(lambda x: x.unfold(2, 5, 2).amax(-1)),
    "difference": function(lambda x: x.diff(dim=2)),
    "cumulative": function(lambda x: x.cumsum(2)),
    "gated": function(lambda x: F.glu(torch.cat([x, x.roll(1, 2)], 1), 1)),
    "split and joined": function(lambda x: torch.cat(x.split([10, LENGTH - 10], 2)[::-1], 2)),
    "pieces": function(lambda x: torch.stack(x.unbind(2)[4:9], 2)),
    "selected": function(lambda x: x[:, :, 3].unsqueeze(2) + x),
    "matrix product": function(lambda x: torch.einsum("bchw,cd->bdhw", x, x.new_ones(1, 3))),
    "sorted channels": function(lambda x: torch.cat([x, x.roll(2, 2)], 1).sort(1).values),
    "top of channels": function(lambda x: torch.cat([x, x.roll(2, 2)], 1).topk(1, 1).values),
    "standard deviation": function(lambda x: torch.cat([x, x.roll(2, 2)], 1).std(1, keepdim=True)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_bounds_are_those_that_real_numbers_show(name):
    """Where nothing is poisoned, first and last are the first and last voxel whose change shows; never less."""
    model = OPERATIONS[name].eval()
    found = trace(Ghost(model, 2, 1), (LENGTH, 4), 0)
    first, last = shown(model)
    clean = (found.first > -torch.inf) & (found.last < torch.inf)
    if name != "cumulative":
        assert not found.culprits
        assert clean[len(clean) // 2]
    assert torch.equal(found.first[clean], first[clean]) or name == "cumulative"
    assert torch.equal(found.last[clean], last[clean]) or name == "cumulative"


def shown(model: nn.Module) -> tuple[Tensor, Tensor]:
    """First and last voxel along y whose change changes each output voxel, in one of many draws."""
    torch.manual_seed(0)
    model = model.double()
    seen = None
    for _ in range(12):
        x = torch.randn(1, 1, LENGTH, 4, dtype=torch.float64)
        changed = x.repeat(LENGTH, 1, 1, 1)
        changed[range(LENGTH), :, range(LENGTH)] += 10 * torch.randn(LENGTH, 1, 4, dtype=torch.float64)
        with torch.no_grad():
            differs = ((model(changed) - model(x)).abs() > 1e-12).any(1).any(-1)
        seen = differs if seen is None else seen | differs
    model.float()
    places = torch.arange(LENGTH, dtype=torch.float32).unsqueeze(1)
    first = torch.where(seen, places, torch.inf).amin(0)
    return first, torch.where(seen, places, -torch.inf).amax(0)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False), st.integers(0, 3))
def test_reshaping_bounds_is_reshaping_every_element(factors, random, dim):
    old = merged(factors, random)
    new = merged(factors, random)
    bounds = positions(old, dim % len(old))
    found = reshaped(bounds, new)
    assert torch.equal(found.full(), bounds.full().reshape(2, *new))


def merged(factors, random):
    """A shape of the product of the factors."""
    shape = [1]
    for factor in factors:
        if random.random() < 0.5:
            shape.append(factor)
        else:
            shape[-1] *= factor
    return tuple(shape)


def test_a_dimension_along_which_all_are_alike_is_stored_once():
    bounds = positions((1, 64, 4096, 64), 2)
    assert bounds.data.numel() == 2 * 4096
    assert reshaped(bounds, (64, 4096, 8, 8)).data.numel() == 2 * 4096
    assert isinstance(bounds, Bounds)


def test_more_than_six_layers_of_a_kind_share_a_sentence():
    culprits = [Culprit("global", f"norm{i}", "InstanceNorm2d", "native_batch_norm") for i in range(9)]
    assert sentences(culprits) == (
        "InstanceNorm2d at norm0, norm1, norm2 (and 6 more) takes its statistics over the whole input: train with"
        " BatchNorm, or segment in blend mode",
    )
    assert len(sentences(culprits[:6])) == 6


def test_a_network_that_cannot_be_followed_says_why():
    found = trace(Ghost(Lambda(lambda net, x: _hidden(x)), 2, 1), (32, 32), 0)
    assert [c.kind for c in found.culprits] == ["untraceable"]
    assert "cannot be followed operation by operation (RuntimeError: hidden)" in sentences(found.culprits)[0]


def _hidden(x: Tensor) -> Tensor:
    if torch._is_functional_tensor(x):
        raise RuntimeError("hidden")
    return x


def test_values_of_parameters_are_known():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("levels", torch.tensor(3))

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(int(self.levels)):
                x = F.avg_pool2d(x, 3, 1, 1)
            return x

    found = trace(Ghost(Scaled(), 2, 1), (64, 64), 0)
    assert not found.culprits
    assert float(found.first[32]) == 29
