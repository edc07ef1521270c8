"""Interpolation whose weights depend on a voxel's place within the pattern, not on its distance from the edge.

torch computes the place of a voxel in floating point. Where the scale is a power of two that is exact, and only the
memory format matters; elsewhere (three times as large) the weights of voxels far from the edge are rounded otherwise,
by up to 1e-4 of the values. There the places are computed as fractions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from pipeline.model.arithmetic.geometry import DTYPES, channels_last

SHARPNESS = -0.75
"""The free parameter of cubic convolution (Keys 1981, equation 4), as in torch."""


def resample(func: OpOverload, x: Tensor, size: Sequence[int] | None, align: bool, *scales: Any) -> Tensor | None:
    """Return ``x`` at another size by ``aten.upsample_*``, linear or cubic; None where that is left to torch.

    Args:
        func: the operation.
        x: ``(N, C, *spatial)``.
        size: the output's spatial lengths; None where the scales say it.
        align: whether the outermost voxels' centres coincide: then every voxel depends on the size, and stays so.
        scales: factors, one an axis, or a list of them, or None.
    """
    dims = x.ndim - 2
    given = scales[0] if len(scales) == 1 and not isinstance(scales[0], float) else scales
    factors = list(given or [None] * dims)
    lengths = list(size) if size is not None else [int(n * f) for n, f in zip(x.shape[2:], factors, strict=True)]
    pairs = zip(factors, x.shape[2:], lengths, strict=True)
    ratios = [_ratio(factor, n, length) for factor, n, length in pairs]
    if align or x.dtype not in DTYPES or x.numel() == 0 or None in ratios:
        return None
    # torch has another kernel for small maps of fewer than 4 channels.
    usual = dims == 3 or (dims == 2 and x.shape[1] >= 4)
    if usual and all(ratio is not None and _is_dyadic(ratio) for ratio in ratios):
        return channels_last(func(channels_last(x), size, align, *scales))
    wide = x.float() if x.dtype == torch.bfloat16 else x
    cubic = "cubic" in func.name()
    for axis, (length, ratio) in enumerate(zip(lengths, ratios, strict=True), start=2):
        assert ratio is not None
        wide = _along(wide, axis, length, ratio, cubic=cubic)
    result = wide.to(x.dtype)
    return channels_last(result) if dims > 1 else result


def _ratio(factor: float | None, length: int, wanted: int) -> Fraction | None:
    """Return the scale as a fraction; None where a factor is none of small numbers."""
    if factor is None:
        return Fraction(wanted, length)
    ratio = Fraction(factor).limit_denominator(1024)
    return ratio if math.isclose(ratio, factor, rel_tol=1e-12) else None


def _is_dyadic(ratio: Fraction) -> bool:
    return all(n & (n - 1) == 0 for n in (ratio.numerator, ratio.denominator))


def _along(x: Tensor, axis: int, length: int, ratio: Fraction, *, cubic: bool) -> Tensor:
    """Interpolate along one axis; the centre of output ``i`` lies at ``(i + 1/2) / ratio - 1/2``."""
    whole = 2 * ratio.numerator
    place = (2 * torch.arange(length) + 1) * ratio.denominator - ratio.numerator
    place = place if cubic else place.clamp(min=0)
    first = place.div(whole, rounding_mode="floor")
    weights = _weights((place - first * whole).double() / whole, cubic=cubic)
    shape = [-1] + [1] * (x.ndim - axis - 1)
    result: Tensor | None = None
    for offset, weight in weights.items():
        index = (first + offset).clamp(0, x.shape[axis] - 1)
        part = x.index_select(axis, index).mul_(weight.to(x.dtype).reshape(shape))
        result = part if result is None else result.add_(part)
    assert result is not None
    return result


def _weights(t: Tensor, *, cubic: bool) -> dict[int, Tensor]:
    """Return the weight of each neighbour, by its offset, where the place is ``t`` of the way to the next."""
    if not cubic:
        return {0: 1 - t, 1: t}
    return {offset: _cubic((t - offset).abs()) for offset in (-1, 0, 1, 2)}


def _cubic(distance: Tensor) -> Tensor:
    """Return the weight of a neighbour at a distance below 2 (Keys 1981, equation 4)."""
    a = SHARPNESS
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, far)
