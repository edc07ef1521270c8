"""Transposed convolutions as ordinary ones: an output voxel of each phase of the stride is a sum over few inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.model.arithmetic.geometry import Geometry, channels_last, interleave
from pipeline.model.arithmetic.prepared import PreparedWeights

Convolve = Callable[[Tensor, Tensor, Tensor | None, Geometry], Tensor]


@dataclass(frozen=True, slots=True)
class TransposedGeometry:
    """The settings of a transposed convolution, one number a spatial axis, as in torch."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def outputs(self, lengths: torch.Size, kernel: torch.Size) -> list[int]:
        """Return the output's length along each spatial axis."""
        axes = zip(lengths, self.stride, self.padding, self.output_padding, self._extents(kernel), strict=True)
        return [(n - 1) * stride - 2 * pad + extent + extra for n, stride, pad, extra, extent in axes]

    def taps(self, kernel: torch.Size) -> list[int]:
        """Return how many inputs an output voxel sees, along each axis."""
        return [-(-n // stride) for n, stride in zip(self._extents(kernel), self.stride, strict=True)]

    def is_matched(self, kernel: torch.Size) -> bool:
        """Say whether the kernel is the stride, so that every output voxel sees one input."""
        plain = not any(self.padding) and not any(self.output_padding) and max(self.dilation) == 1
        return plain and tuple(kernel) == self.stride

    def _extents(self, kernel: torch.Size) -> list[int]:
        return [(k - 1) * step + 1 for k, step in zip(kernel, self.dilation, strict=True)]


def by_phases(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: TransposedGeometry,
    prepared: PreparedWeights,
    convolve: Convolve,
) -> Tensor:
    """Return a dense transposed convolution, channels last.

    With stride ``s``, output ``m * s + r - padding`` is the sum over ``u`` of ``x[m - u] * weight[r + u * s]``: for
    each phase ``r`` an ordinary convolution, all of them in one with ``s`` times the channels.

    Args:
        x: ``(N, C, *spatial)``.
        weight: ``(C, O, *kernel)``.
        bias: ``(O,)``.
        geometry: stride, padding, output padding and dilation.
        prepared: keeps the kernel of the ordinary convolution.
        convolve: the ordinary convolution.
    """
    stride, channels = geometry.stride, weight.shape[1]
    lengths = geometry.outputs(x.shape[2:], weight.shape[2:])
    taps = geometry.taps(weight.shape[2:])
    kernel = prepared.get(weight, f"phases {geometry}", lambda w: _phases(w, geometry))
    copies = kernel.shape[0] // channels
    axes = zip(x.shape[2:], taps, stride, geometry.padding, lengths, strict=True)
    behind = tuple((k - 1, max(0, -(-(pad + out) // s) - n)) for n, k, s, pad, out in axes)
    ones = (1,) * len(stride)
    phases = convolve(x, kernel, None if bias is None else bias.repeat(copies), Geometry(ones, behind, ones, 1))
    full = interleave(phases, stride, channels)
    cut = [slice(pad, pad + out) for pad, out in zip(geometry.padding, lengths, strict=True)]
    return channels_last(full[:, :, *cut])


def _phases(weight: Tensor, geometry: TransposedGeometry) -> Tensor:
    """Return the kernel of the ordinary convolution: ``(prod(stride) * O, C, *taps)`` of ``(C, O, *kernel)``."""
    dims, stride, taps = len(geometry.stride), geometry.stride, geometry.taps(weight.shape[2:])
    whole = [k * s for k, s in zip(taps, stride, strict=True)]
    spread = weight.new_zeros(*weight.shape[:2], *whole)
    places = zip(weight.shape[2:], geometry.dilation, strict=True)
    spread[:, :, *(slice(0, (k - 1) * step + 1, step) for k, step in places)] = weight
    split = spread.reshape(*weight.shape[:2], *(part for pair in zip(taps, stride, strict=True) for part in pair))
    split = split.flip([2 + 2 * i for i in range(dims)])
    phase_axes, tap_axes = [3 + 2 * i for i in range(dims)], [2 + 2 * i for i in range(dims)]
    return split.permute(*phase_axes, 1, 0, *tap_axes).reshape(-1, len(weight), *taps).contiguous()
