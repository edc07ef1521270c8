"""Convolutions as torch calls them, of any dimension, batched or not, in the arithmetic that suits their dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.model.arithmetic import onednn, products
from pipeline.model.arithmetic.geometry import DTYPES, Geometry, spread
from pipeline.model.arithmetic.prepared import PreparedWeights
from pipeline.model.arithmetic.transposed import TransposedGeometry, by_phases

Numbers = int | Sequence[int]


class Convolutions:
    """The convolutions of one model.

    Each method has the parameters of the operation of its name, and gives None where it leaves a call to torch:
    another dtype, or an input smaller than the kernel.

    Args:
        prepared: keeps the model's weights.
    """

    def __init__(self, prepared: PreparedWeights) -> None:
        self._prepared = prepared

    def conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Numbers = 1,
        padding: Numbers | str = 0,
        dilation: Numbers = 1,
        groups: int = 1,
    ) -> Tensor | None:
        """``aten.conv1d``, ``conv2d`` and ``conv3d``, with numbers or ``same`` or ``valid`` for padding."""
        dims, kernel = weight.ndim - 2, weight.shape[2:]
        steps = spread(dilation, dims)
        if isinstance(padding, str):
            total = [(k - 1) * step if padding == "same" else 0 for k, step in zip(kernel, steps, strict=True)]
            sides = tuple((n // 2, n - n // 2) for n in total)
        else:
            sides = tuple((n, n) for n in spread(padding, dims))
        geometry = Geometry(spread(stride, dims), sides, steps, groups)
        if not _is_ours(x, weight, bias) or x.shape[-1 - dims] != weight.shape[1] * groups:
            return None
        if min(geometry.outputs(x.shape[-dims:], kernel)) < 1:
            return None
        return _batched(x, dims, lambda image: self._convolve(image, weight, bias, geometry))

    def transposed(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Numbers = 1,
        padding: Numbers = 0,
        output_padding: Numbers = 0,
        groups: int = 1,
        dilation: Numbers = 1,
    ) -> Tensor | None:
        """``aten.conv_transpose1d``, ``conv_transpose2d`` and ``conv_transpose3d``."""
        dims = weight.ndim - 2
        geometry = TransposedGeometry(*(spread(n, dims) for n in (stride, padding, output_padding, dilation)))
        lengths = geometry.outputs(x.shape[-dims:], weight.shape[2:])
        pairs = zip(geometry.output_padding, geometry.stride, geometry.dilation, strict=True)
        fits = min(lengths) >= 1 and all(extra < max(pair) for extra, *pair in pairs)
        if not fits or not _is_ours(x, weight, bias) or x.shape[-1 - dims] != len(weight):
            return None
        return _batched(x, dims, lambda image: self._spread(image, weight, bias, geometry, groups))

    def convolution(self, x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor | None:
        """``aten.convolution`` and, of traced modules, ``aten._convolution``, of either direction."""
        stride, padding, dilation, transposed, output_padding, groups = settings[:6]
        if transposed:
            return self.transposed(x, weight, bias, stride, padding, output_padding, groups, dilation)
        return self.conv(x, weight, bias, stride, padding, dilation, groups)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        if weight.ndim == 3:
            lifted = Geometry(
                (1, *geometry.stride), ((0, 0), *geometry.padding), (1, *geometry.dilation), geometry.groups
            )
            return self._convolve(x.unsqueeze(2), weight.unsqueeze(2), bias, lifted).squeeze(2)
        if x.dtype == torch.float64:
            return products.convolution(x, weight, bias, geometry)
        return onednn.convolution(x, weight, bias, geometry, self._prepared)

    def _spread(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: TransposedGeometry, groups: int
    ) -> Tensor:
        if weight.ndim == 3:
            numbers = (geometry.stride, geometry.padding, geometry.output_padding, geometry.dilation)
            lifted = TransposedGeometry(*((i, *n) for i, n in zip((1, 0, 0, 1), numbers, strict=True)))
            return self._spread(x.unsqueeze(2), weight.unsqueeze(2), bias, lifted, groups).squeeze(2)
        if groups > 1:
            biases = [None] * groups if bias is None else bias.chunk(groups)
            parts = zip(x.chunk(groups, 1), weight.chunk(groups), biases, strict=True)
            return torch.cat([self._spread(*part, geometry, 1) for part in parts], 1)
        if x.dtype != torch.float64 and geometry.is_matched(weight.shape[2:]):
            return onednn.matched_transposed(x, weight, bias, self._prepared)
        return by_phases(x, weight, bias, geometry, self._prepared, self._convolve)


def _is_ours(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    tensors = [x, weight] if bias is None else [x, weight, bias]
    same = all(part.dtype == x.dtype and part.device.type == "cpu" for part in tensors)
    known = x.dtype == torch.float64 or (x.dtype in DTYPES and torch.backends.mkldnn.is_available())
    return (
        same and known and x.numel() > 0 and x.layout == torch.strided and x.ndim in (weight.ndim - 1, weight.ndim)
    )


def _batched(x: Tensor, dims: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    return function(x) if x.ndim == dims + 2 else function(x[None])[0]
