"""The U-Net as a torch module, built layer by layer from its architecture.

``forward`` walks the chain of layers, keeps one map (or the positions of its maxima) at each pooling and takes it
back at the matching join. Nothing else holds a map, so memory is what ``UNetArchitecture.peak_elements`` counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.layers import Layer


class UNet(nn.Module):
    """A U-Net in two or three dimensions.

    Args:
        architecture: its settings; the defaults are the paper's network.
    """

    def __init__(self, architecture: UNetArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self._chain = architecture.layers()
        self._reach = architecture.reach()
        for layer in self._chain:
            self.add_module(layer.name, _module(layer, architecture))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits.

        Args:
            x: ``(N, C, *spatial)``, floating point, normalised; every spatial length legal.

        Returns:
            Logits ``(N, classes, *spatial_out)``, of the dtype of ``x``.

        Raises:
            ModelError: if the axes, channels or lengths of ``x`` do not fit the architecture.
        """
        self._check(x)
        keeps = self.architecture.skip != "none"
        maps: list[Tensor] = []
        positions: list[Tensor] = []
        for layer in self._chain:
            module = self.get_submodule(layer.name)
            if layer.op in ("pool", "indexed_pool") and keeps:
                maps.append(x)
            if layer.op == "indexed_pool":
                x, position = module(x)
                positions.append(position)
            elif layer.op == "unpool":
                x = module(x, positions.pop())
            elif layer.op in ("concat", "add"):
                x = module(x, maps.pop())
            else:
                x = module(x)
        return x

    def _check(self, x: Tensor) -> None:
        """Refuse an input that does not fit."""
        architecture = self.architecture
        if x.ndim != architecture.dims + 2 or x.shape[1] != architecture.in_channels:
            raise ModelError(
                f"The network takes images of {architecture.in_channels} channels and {architecture.dims} spatial"
                f" axes as (N, C, *spatial); the input has the shape {tuple(x.shape)}."
            )
        for length in x.shape[2:]:
            if not self._reach.is_legal(length):
                architecture.output_length(length)


class IndexedPool(nn.Module):
    """Maximum of each window of two voxels a side, and where in the window it was."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima and their positions (uint8, C order in the window), both at half the lengths."""
        windows = space_to_depth(x)
        values, position = windows.max(dim=2)
        return values, position.to(torch.uint8)


class Unpool(nn.Module):
    """Put each voxel where the maximum of its window was; the window's other voxels are zero."""

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Return ``x`` at twice the lengths; ``position`` is cropped to the centre where it is larger."""
        dims = x.ndim - 2
        window = torch.arange(2**dims, device=x.device, dtype=torch.uint8).view(1, 1, -1, *[1] * dims)
        position = _centre(position, x.shape[2:]).unsqueeze(2)
        return depth_to_space(torch.where(position == window, x.unsqueeze(2), 0).flatten(1, 2))


class Shuffle(nn.Module):
    """Depth to space by two along every axis."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, *doubled)`` for ``(N, C * 2**d, *spatial)``."""
        return depth_to_space(x)


class Interpolate(nn.Module):
    """Linear interpolation to twice the lengths, voxel centres as in ``align_corners=False``.

    Args:
        padded: whether the outermost voxels, which would need a neighbour outside, are kept or cropped away.
    """

    def __init__(self, *, padded: bool) -> None:
        super().__init__()
        self.padded = padded

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, *doubled)``, two voxels less along each axis where only full context counts."""
        fine = F.interpolate(x, scale_factor=2, mode="bilinear" if x.ndim == 4 else "trilinear")
        return fine if self.padded else _centre(fine, [n - 2 for n in fine.shape[2:]])


class Concat(nn.Module):
    """Copy and crop: the centre of the kept map in front of the channels that come from below."""

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """Return the channels of both maps at the size of ``x``."""
        return torch.cat([_centre(kept, x.shape[2:]), x], dim=1)


class Add(nn.Module):
    """The centre of the kept map added to the map that comes from below."""

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """Return the sum at the size of ``x``."""
        return _centre(kept, x.shape[2:]) + x


def depth_to_space(x: Tensor) -> Tensor:
    """Spread groups of ``2**d`` channels over windows of two voxels a side, in any number of dimensions.

    Channel ``c * 2**d + k`` becomes voxel ``k`` (C order) of the windows of channel ``c``, as in torch's
    ``pixel_shuffle`` (two-dimensional only). Law: undone by ``space_to_depth`` and ``flatten(1, 2)``.

    Args:
        x: ``(N, C * 2**d, *spatial)`` with ``d`` spatial axes.

    Returns:
        ``(N, C, *doubled)``.
    """
    n, channels, *spatial = x.shape
    dims = len(spatial)
    split = x.reshape(n, channels // 2**dims, *[2] * dims, *spatial)
    order = [axis for pair in zip(range(2 + dims, 2 + 2 * dims), range(2, 2 + dims), strict=True) for axis in pair]
    return split.permute(0, 1, *order).reshape(n, -1, *[2 * length for length in spatial])


def space_to_depth(x: Tensor) -> Tensor:
    """Gather each window of two voxels a side, in any number of dimensions.

    Args:
        x: ``(N, C, *spatial)`` with even lengths.

    Returns:
        ``(N, C, 2**d, *halved)``, the voxels of a window in C order.
    """
    n, channels, *spatial = x.shape
    dims = len(spatial)
    split = x.reshape(n, channels, *[part for length in spatial for part in (length // 2, 2)])
    order = [*range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2)]
    return split.permute(0, 1, *order).flatten(2, 1 + dims)


def _centre(x: Tensor, spatial: Sequence[int]) -> Tensor:
    """View of the centre of a map; what is cut is even along every axis."""
    for axis, length in enumerate(spatial, start=2):
        x = x.narrow(axis, (x.shape[axis] - length) // 2, length)
    return x


def _module(layer: Layer, architecture: UNetArchitecture) -> nn.Module:
    """Build the module of one layer."""
    flat = architecture.dims == 2
    match layer.op:
        case "convolution":
            convolution = nn.Conv2d if flat else nn.Conv3d
            padding = layer.kernel // 2 if layer.padded else 0
            return convolution(layer.inputs, layer.outputs, layer.kernel, padding=padding, bias=layer.bias)
        case "transposed":
            return (nn.ConvTranspose2d if flat else nn.ConvTranspose3d)(layer.inputs, layer.outputs, 2, 2)
        case "batch_norm":
            return (nn.BatchNorm2d if flat else nn.BatchNorm3d)(layer.outputs)
        case "relu":
            return nn.ReLU(inplace=True)
        case "dropout":
            return nn.Dropout(architecture.dropout)
        case "pool":
            return (nn.MaxPool2d if flat else nn.MaxPool3d)(2)
        case "indexed_pool":
            return IndexedPool()
        case "unpool":
            return Unpool()
        case "shuffle":
            return Shuffle()
        case "interpolate":
            return Interpolate(padded=layer.padded)
        case "concat":
            return Concat()
        case "add":
            return Add()


def _initialise(module: nn.Module) -> None:
    """Draw weights as in the paper: normal, standard deviation ``sqrt(2 / N)``; biases zero.

    ``N`` is the number of incoming nodes of one neuron (section 3; He et al. 2015): channels times taps, where a
    2x2 up-convolution of stride 2 has one tap a voxel.
    """
    match module:
        case nn.ConvTranspose2d() | nn.ConvTranspose3d():
            incoming = module.in_channels
        case nn.Conv2d() | nn.Conv3d():
            incoming = module.in_channels * math.prod(module.kernel_size)
        case _:
            return
    nn.init.normal_(module.weight, std=math.sqrt(2 / incoming))
    if module.bias is not None:
        nn.init.zeros_(module.bias)
