"""How a convolution lies on its input: numbers only, one value an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float64)


@dataclass(frozen=True, slots=True)
class Geometry:
    """The settings of a convolution.

    Attributes:
        stride: voxels between two outputs, for each spatial axis.
        padding: zeros before the input and after it, for each spatial axis.
        dilation: voxels between two taps, for each spatial axis.
        groups: groups of channels that do not see each other.
    """

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    def outputs(self, lengths: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """Return the output's length along each spatial axis."""
        axes = zip(lengths, kernel, self.stride, self.padding, self.dilation, strict=True)
        return [(n + sum(pad) - (k - 1) * step - 1) // stride + 1 for n, k, stride, pad, step in axes]

    def pad(self, x: Tensor) -> tuple[Tensor, Geometry]:
        """Return the input with its zeros around it, and what is left to do."""
        if any(before or after for before, after in self.padding):
            x = F.pad(x, [side for axis in reversed(self.padding) for side in axis])
        return x, replace(self, padding=((0, 0),) * len(self.padding))


def channels_last(x: Tensor) -> Tensor:
    """Return ``(N, C, *spatial)``, two or three spatial axes, with each voxel's channels side by side."""
    return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)


def spread(value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    """Return one number an axis of what torch takes as one number, a list of one or a list."""
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return numbers * dims if len(numbers) == 1 else numbers


def interleave(phases: Tensor, stride: Sequence[int], channels: int) -> Tensor:
    """Spread phases over the voxels between.

    Args:
        phases: ``(N, prod(stride) * channels, *spatial)``; the channels of a phase lie together, phases in C order.
        stride: phases along each axis.
        channels: channels of one phase.

    Returns:
        ``(N, channels, *(n * s))``, channels last: voxel ``n * s + r`` is voxel ``n`` of phase ``r``.
    """
    dims, spatial = len(stride), phases.shape[2:]
    split = phases.movedim(1, -1).reshape(len(phases), *spatial, *stride, channels)
    order = [axis for i in range(dims) for axis in (1 + i, 1 + dims + i)]
    lengths = [n * s for n, s in zip(spatial, stride, strict=True)]
    return split.permute(0, *order, 1 + 2 * dims).reshape(len(phases), *lengths, channels).movedim(-1, 1)
