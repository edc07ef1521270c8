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
    fixed shape (dense convolutions of stride 1, and up-convolutions whose kernel is their stride). Convolutions with
    a forward or hooks of their own, and models on other devices, are left as they are.
    """
    if isinstance(model, Convolution | Transposed):
        return _replacement(model)
    if isinstance(model, _OneDnnConvolution | _OneDnnTransposed | _BlockedConvolution | _BlockedTransposed):
        return model  # a layer that is used twice
    for name, child in list(model._modules.items()):  # not named_children, which names a shared layer once
        if child is not None:
            setattr(model, name, fix_arithmetic(child))
    return model


def _replacement(layer: Convolution | Transposed) -> nn.Module:
    weight = layer.weight
    plain = type(layer).forward in (nn.Conv2d.forward, nn.Conv3d.forward, *_TRANSPOSED)
    if weight.device.type != "cpu" or not plain or layer._forward_hooks or layer._forward_pre_hooks:
        return layer
    if weight.dtype == torch.float64:
        return _in_blocks(layer)
    if not torch.backends.mkldnn.is_available():
        return layer
    return _OneDnnTransposed(layer) if isinstance(layer, Transposed) else _OneDnnConvolution(layer)


_TRANSPOSED = (nn.ConvTranspose2d.forward, nn.ConvTranspose3d.forward)


def _in_blocks(layer: Convolution | Transposed) -> nn.Module:
    """Return a layer by products of one shape, where there is such a form."""
    simple = layer.groups == 1 and set(layer.dilation) == {1}
    if isinstance(layer, Transposed):
        simple = simple and layer.kernel_size == layer.stride and not any((*layer.padding, *layer.output_padding))
        return _BlockedTransposed(layer) if simple else layer
    return _BlockedConvolution(layer) if simple and set(layer.stride) == {1} else layer


def _padded(layer: Convolution, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return the input with the pads that a kernel cannot make itself, and those that it still has to."""
    pads = layer._reversed_padding_repeated_twice  # last axis first, both sides of each
    sides = list(zip(pads[::2], pads[1::2], strict=True))
    if layer.padding_mode == "zeros" and all(a == b for a, b in sides):
        return x, tuple(a for a, _ in reversed(sides))
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    order = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return nn.functional.pad(x, pads, mode=mode).contiguous(memory_format=order), (0,) * len(sides)


class _OneDnnConvolution(nn.Module):
    """A convolution by oneDNN, whatever the input's size and the number of threads."""

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        x, padding = _padded(layer, x)
        return torch.mkldnn_convolution(
            x, layer.weight, layer.bias, padding, layer.stride, layer.dilation, layer.groups
        )


class _OneDnnTransposed(nn.Module):
    """An up-convolution by oneDNN, whatever the input's size."""

    def __init__(self, layer: Transposed) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        result: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(
            x, layer.weight, layer.bias, layer.padding, layer.output_padding, layer.stride, layer.dilation,
            layer.groups, "none", [], "",
        )  # fmt: skip
        return result


class _BlockedConvolution(nn.Module):
    """A dense convolution of stride 1 as matrix products of one shape."""

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        kernel = layer.kernel_size
        x, padding = _padded(layer, x)
        x = nn.functional.pad(x, [side for pad in reversed(padding) for side in (pad, pad)])
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
