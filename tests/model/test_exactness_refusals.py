"""Networks of which no verdict is possible are refused, each with the sentence that helps."""

import re
from collections.abc import Callable

import psutil
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo import Lambda, unet

from pipeline.errors import ModelError
from pipeline.model.exactness import analyse
from pipeline.model.exactness.ghost import Ghost
from pipeline.model.exactness.sizes import Legal, fit_together


def conv(**settings: object) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3, **settings))


def fails(net: nn.Module, x: Tensor) -> Tensor:
    raise RuntimeError("the flux capacitor is empty.\nRefill it")


def fussy(net: nn.Module, x: Tensor) -> Tensor:
    if x.shape[-1] != 96:
        raise ValueError("I want 96")
    return x


def irregular(net: nn.Module, x: Tensor) -> Tensor:
    if round(x.shape[2] ** 0.5) ** 2 != x.shape[2]:
        raise ValueError("I want squares")
    return x


def by_size(net: nn.Module, x: Tensor) -> Tensor:
    return x if x.shape[-1] < 200 else torch.cat([x, x], 1)


def one_by_one(net: nn.Module, x: Tensor) -> Tensor:
    if len(x) > 1:
        raise ValueError("one at a time")
    return x


def real_failure(net: nn.Module, x: Tensor) -> Tensor:
    if x.device.type != "meta":
        raise RuntimeError("not on this machine")
    return x


def uncopyable() -> nn.Module:
    model = conv()
    model.generator = (n for n in range(3))
    return model


def damaged() -> nn.Module:
    model = conv()
    model[0].weight.data[0, 0, 0, 0] = torch.nan
    return model


def function(name: Callable[..., object]) -> Callable[[], nn.Module]:
    return lambda: Lambda(name)


HOSTILE = {
    "a tuple": (function(lambda net, x: (x, x, x)), "gives a tuple of 3, Overtile needs one tensor"),
    "a number": (function(lambda net, x: 3.0), "gives a float, Overtile needs one tensor"),
    "wrong rank": (
        function(lambda net, x: x.mean((2, 3))),
        "gives 2 axes, (1, 1), for an input of (1, '...', 64, 64)",
    ),
    "batch lost": (function(lambda net, x: x.expand(3, -1, -1, -1)), "gives 3 results for 1 image"),
    "batch merged": (function(lambda net, x: x.mean(0, keepdim=True)), "gives 1 results for 2 images"),
    "one image alone": (function(one_by_one), "not two at a time: ValueError: one at a time."),
    "always fails": (function(fails), "for 64 it says RuntimeError: the flux capacitor is empty. Refill it."),
    "one size": (function(fussy), "none of 512 to 1152"),
    "irregular sizes": (function(irregular), "its legal lengths are not spaced by any step up to 256"),
    "nothing left": (function(lambda net, x: x[..., :0]), "gives no voxel at all"),
    "half the size": (lambda: conv(stride=2, padding=1), "gives one voxel for every 2 of the input along y"),
    "twice the size": (
        function(lambda net, x: F.interpolate(x, scale_factor=2)),
        "gives 2 voxels for every one of the input along y",
    ),
    "one number": (
        function(lambda net, x: x.mean((2, 3), keepdim=True)),
        "gives 1 voxels along y, however long its input is",
    ),
    "larger than its input": (
        lambda: conv(padding=3),
        "gives 4 voxels more than it gets along y: crop its output",
    ),
    "channels by size": (function(by_size), "gives 1 or 2 channels, by the size of its input"),
    "NaN": (damaged, "gives NaN or infinity for an input of normal noise"),
    "infinity": (function(lambda net, x: x / (x - x)), "gives NaN or infinity for an input of normal noise"),
    "memory": (function(lambda net, x: x + x.new_zeros(2**33).sum()), "and this machine has"),
    "fails on real numbers": (
        function(real_failure),
        "fails on an input of (1, 1, 16, 16): RuntimeError: not on this machine.",
    ),
    "cannot be copied": (
        uncopyable,
        "cannot be copied for the analysis: TypeError: cannot pickle 'generator' object.",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_network_is_refused(case):
    build, sentence = HOSTILE[case]
    with pytest.raises(ModelError, match=re.escape(sentence)):
        analyse(build().eval(), dims=2, in_channels=1)


def test_channels_that_do_not_fit_are_told_in_the_words_of_the_network():
    with pytest.raises(ModelError, match="takes images of 1 channels"):
        analyse(unet(depth=2, padding="same"), dims=2, in_channels=3)


def test_memory_is_checked_before_the_first_real_forward(monkeypatch):
    ran = []
    model = Lambda(lambda net, x: (ran.append(x.device.type), x)[1])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    with pytest.raises(ModelError, match=r"this machine has 9\.31e-07 GiB left"):
        analyse(model, dims=2, in_channels=1)
    assert set(ran) == {"meta"}


def test_lengths_that_exclude_each_other_are_refused():
    def either(net: nn.Module, x: Tensor) -> Tensor:
        if x.shape[2] < 300 and x.shape[3] < 300:
            raise ValueError("too small")
        return x

    legal = [Legal(1, 0, 8), Legal(1, 0, 8)]
    with pytest.raises(
        ModelError, match=re.escape("each of the lengths [8, 8] along its axis, but not all at once")
    ):
        fit_together(Ghost(Lambda(either), 2, 1), legal)


def test_a_network_that_fails_on_some_sizes_gets_its_legal_ones():
    def picky(net: nn.Module, x: Tensor) -> Tensor:
        if any(n % 6 or n < 18 for n in x.shape[2:]):
            raise ValueError("multiples of six")
        return x

    analysis = analyse(Lambda(picky), dims=2, in_channels=1).analysis
    assert analysis.exact
    assert [(a.minimum, a.stride) for a in analysis.reaches] == [(18, 6), (18, 6)]
