"""Convolutions in float32 and bfloat16 by those of oneDNN's kernels that sum every voxel in the same order.

Which kernel oneDNN takes, and into how many pieces it cuts the channels, hangs on the sizes, the memory format and the
number of threads. On random shapes, "same" means that no bit differed between a crop and the whole:

=======================================  =============  ============================
kernel                                   channels last  contiguous, padded beforehand
=======================================  =============  ============================
1x1, of 2 channels and more              same           not from about 100 channels
of 1 and 3 taps a side, few channels     same           same, half as fast
other kernels, strides and dilations     not            same
groups of up to 32 channels              same           not
=======================================  =============  ============================

"Few" is what fits the processor's second cache together with its weights (:func:`few_channels`); in float32 wider
layers are sums of layers of that width.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.model.arithmetic.geometry import Geometry, channels_last
from pipeline.model.arithmetic.prepared import PreparedWeights

NARROW = 32
"""Channels of a group up to which groups need not be taken apart."""


def few_channels(geometry: Geometry, dtype: torch.dtype) -> int:
    """Return the input channels up to which a kernel of three taps a side is summed in one order."""
    few = 128 if len(geometry.stride) == 2 and max(geometry.stride) == 1 else 64
    return few if dtype == torch.float32 else 2 * few


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, prepared: PreparedWeights
) -> Tensor:
    """Return a convolution, channels last.

    Args:
        x: ``(N, C, *spatial)``, two or three spatial axes.
        weight: ``(O, C / groups, *kernel)``.
        bias: ``(O,)``.
        geometry: stride, padding, dilation and groups.
        prepared: keeps the weights in the memory format that they are needed in.
    """
    groups, width = geometry.groups, weight.shape[1]
    if groups == 1:
        return _dense(x, weight, bias, geometry, prepared)
    if width <= NARROW:
        x, geometry = geometry.pad(x)
        if x.shape[2:].numel() == 1:  # a lone voxel has no order in memory
            return convolution(F.pad(x, (0, 1)), weight, bias, geometry, prepared)[..., :1]
        if width == 1 and len(weight) > groups:
            return _multiplied(channels_last(x), weight, bias, geometry)
        return _call(channels_last(x), prepared.get(weight, "last", channels_last), bias, geometry)
    biases = [None] * groups if bias is None else bias.chunk(groups)
    parts = zip(x.chunk(groups, 1), weight.chunk(groups), biases, strict=True)
    return channels_last(torch.cat([_dense(*part, replace(geometry, groups=1), prepared) for part in parts], 1))


def matched_transposed(x: Tensor, weight: Tensor, bias: Tensor | None, prepared: PreparedWeights) -> Tensor:
    """Return a dense up-convolution whose kernel is its stride, channels last; ``weight`` is ``(C, O, *kernel)``."""
    kernel = list(weight.shape[2:])
    ones, zeros = [1] * len(kernel), [0] * len(kernel)
    weight = prepared.get(weight, "last", channels_last)
    result: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(
        channels_last(x), weight, bias, zeros, zeros, kernel, ones, 1, "none", [], ""
    )
    return channels_last(result)


def _dense(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, prepared: PreparedWeights
) -> Tensor:
    """Return a convolution without groups by the kernel that suits its shape."""
    kernel = weight.shape[2:]
    if max(kernel) == 1:
        return _pointwise(x, weight, bias, geometry, prepared)
    if _is_plain(kernel, geometry):
        few = few_channels(geometry, x.dtype)
        if x.shape[1] <= few:
            return _narrow(x, prepared.get(weight, "last", _last), bias, geometry)
        if x.dtype == torch.float32:
            return _in_parts(x, weight, bias, geometry, prepared)
    x, geometry = geometry.pad(_widened(x))
    return _call(x.contiguous(), prepared.get(weight, "first", _first), bias, geometry)


def _is_plain(kernel: torch.Size, geometry: Geometry) -> bool:
    """Say whether this is a kernel of one or three taps a side, dense, padded by one voxel at most."""
    return (
        all(k in (1, 3) for k in kernel)
        and max(geometry.dilation) == 1
        and max(geometry.stride) <= 2
        and all(before == after <= 1 for before, after in geometry.padding)
    )


def _pointwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, prepared: PreparedWeights
) -> Tensor:
    """Return a 1x1 convolution; a stride takes its voxels out beforehand."""
    x, geometry = geometry.pad(x)
    x = x[:, :, *(slice(None, None, step) for step in geometry.stride)]
    ones = (1,) * len(geometry.stride)
    return _narrow(x, prepared.get(weight, "last", _last), bias, replace(geometry, stride=ones, dilation=ones))


def _in_parts(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, prepared: PreparedWeights
) -> Tensor:
    """Return the sum of the convolutions of few channels each."""
    few = few_channels(geometry, x.dtype)
    result: Tensor | None = None
    for start in range(0, x.shape[1], few):
        channels = slice(start, start + few)
        part = prepared.get(weight, f"from {start}", partial(_last_of, channels=channels))
        found = _narrow(x[:, channels], part, bias if result is None else None, geometry)
        result = found if result is None else result.add_(found)
    assert result is not None
    return result


def _multiplied(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return a depthwise convolution of several outputs a channel, as that many of one."""
    times = len(weight) // geometry.groups
    parts = [
        _call(x, channels_last(weight[i::times]), None if bias is None else bias[i::times].contiguous(), geometry)
        for i in range(times)
    ]
    return channels_last(torch.stack(parts, 2).flatten(1, 2))


def _narrow(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return a convolution with a weight from :func:`_last`."""
    return _call(channels_last(_widened(x)), weight, bias, geometry)


def _last(weight: Tensor) -> Tensor:
    return channels_last(_widened(weight))


def _last_of(weight: Tensor, *, channels: slice) -> Tensor:
    return _last(weight[:, channels])


def _first(weight: Tensor) -> Tensor:
    return _widened(weight).contiguous()


def _widened(x: Tensor) -> Tensor:
    """Return a map of one channel with a second one of zeros: only of two is the memory format known."""
    return F.pad(x, (*(0, 0) * (x.ndim - 2), 0, 1)) if x.shape[1] == 1 else x


def _call(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    padding = [before for before, _ in geometry.padding]
    result = torch.mkldnn_convolution(
        x, weight, bias, padding, geometry.stride, geometry.dilation, geometry.groups
    )
    return channels_last(result)
