"""Convolutions whose result at a voxel does not depend on how large the input around it is.

Stitched equals whole to the last bit only if the arithmetic behind a voxel is the same in a small input and in a
large one. torch does not promise that: on CPU it takes its own convolution for small inputs (20,480 values and
fewer) and oneDNN's for larger ones, and for 1x1 kernels the choice hangs on the number of threads; in float64 the
edges of a matrix product are summed in another order than its middle. :func:`fix_arithmetic` settles both.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

BLOCK = 768
"""Columns of every matrix product in float64: a multiple of the widths in which processors work, so none is an edge."""

Convolution = nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose2d | nn.ConvTranspose3d


def fix_arithmetic(model: nn.Module) -> nn.Module:
    """Replace a CPU model's convolutions, in place, by ones that treat every voxel alike; returns the model.

    Same weights, same function; in float32 and bfloat16 always oneDNN's kernels, in float64 matrix products of one
    fixed shape. Models on other devices are left as they are.
    """
    for name, child in model.named_children():
        if isinstance(child, Convolution | Transposed):
            setattr(model, name, _replacement(child))
        else:
            fix_arithmetic(child)
    return model


def _replacement(layer: Convolution | Transposed) -> nn.Module:
    weight = layer.weight
    if weight.device.type != "cpu":
        return layer
    if weight.dtype == torch.float64:
        return _BlockedTransposed(layer) if isinstance(layer, Transposed) else _BlockedConvolution(layer)
    if isinstance(layer, Convolution) and torch.backends.mkldnn.is_available():
        return _OneDnnConvolution(layer)
    return layer


class _OneDnnConvolution(nn.Module):
    """A convolution by oneDNN, whatever the input's size and the number of threads."""

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        assert layer.padding_mode == "zeros"
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        assert not isinstance(layer.padding, str)
        return torch.mkldnn_convolution(
            x, layer.weight, layer.bias, layer.padding, layer.stride, layer.dilation, layer.groups
        )


class _BlockedConvolution(nn.Module):
    """A dense convolution of stride 1 as matrix products of one shape."""

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        assert layer.groups == 1
        assert set(layer.stride) == set(layer.dilation) == {1}
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        kernel = layer.kernel_size
        assert not isinstance(layer.padding, str)
        sides = [side for pad in reversed(layer.padding) for side in (pad, pad)]
        x = nn.functional.pad(x, sides)
        shape = [n - k + 1 for n, k in zip(x.shape[2:], kernel, strict=True)]
        taps = itertools.product(*(range(k) for k in kernel))
        moved = [x[:, :, *(slice(a, a + n) for a, n in zip(tap, shape, strict=True))] for tap in taps]
        columns = torch.stack([part.flatten(2) for part in moved], dim=2).flatten(1, 2)
        product = _product(layer.weight.flatten(1), columns)
        result = product.reshape(*product.shape[:2], *shape)
        return _finished(result, layer.bias)


class _BlockedTransposed(nn.Module):
    """An up-convolution whose kernel is its stride, as a matrix product and a rearrangement."""

    def __init__(self, layer: Transposed) -> None:
        super().__init__()
        assert layer.kernel_size == layer.stride
        assert layer.groups == 1
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        kernel, shape, channels = layer.kernel_size, x.shape[2:], layer.out_channels
        product = _product(layer.weight.flatten(1).T, x.flatten(2))
        parts = product.reshape(len(x), channels, *kernel, *shape)
        axes = [axis for i in range(len(shape)) for axis in (2 + len(shape) + i, 2 + i)]
        result = parts.permute(0, 1, *axes).reshape(
            len(x), channels, *(n * k for n, k in zip(shape, kernel, strict=True))
        )
        return _finished(result, layer.bias)


def _finished(result: Tensor, bias: Tensor | None) -> Tensor:
    """Add the bias, and put channels last: there an elementwise layer treats each voxel alike, with no ragged end."""
    layout = torch.channels_last if result.ndim == 4 else torch.channels_last_3d
    if bias is not None:
        result = result + bias.reshape(-1, *(1,) * (result.ndim - 2))
    return result.contiguous(memory_format=layout)


def _product(weight: Tensor, columns: Tensor) -> Tensor:
    """Return ``weight @ columns`` for ``(m, k)`` and ``(n, k, voxels)``, in products of :data:`BLOCK` columns."""
    voxels = columns.shape[2]
    blocks = math.ceil(voxels / BLOCK)
    padded = nn.functional.pad(columns, (0, blocks * BLOCK - voxels))
    split = padded.reshape(*columns.shape[:2], blocks, BLOCK).transpose(1, 2).contiguous()
    products = torch.stack([torch.stack([weight @ block for block in item]) for item in split])
    return products.transpose(1, 2).flatten(2)[:, :, :voxels]
