"""Which elements along one axis a layer makes each of its outputs from: tables of indices, without weights.

Each function returns ``(outputs, taps)`` int64: an index into the layer's input, ``POISON`` where the layer invents a
value beyond an edge, or ``NOTHING`` where there is no tap.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.model.exactness.bounds import NOTHING, POISON


def sliding(length: int, outputs: int, *, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Taps of a convolution or pooling; windows that reach past an edge are poisoned there."""
    taps = _column(outputs) * stride - padding + _row(kernel) * dilation
    return _inside(taps, length)


def spreading(length: int, outputs: int, *, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Taps of a transposed convolution: output ``o`` is reached from ``i`` by tap ``o = i stride - padding + tap``."""
    places = _column(outputs) + padding - _row(kernel) * dilation
    taps = _inside(places.div(stride, rounding_mode="floor"), length)
    return torch.where(places % stride == 0, taps, NOTHING)


def adaptive(length: int, outputs: int) -> Tensor:
    """Taps of an adaptive pooling: from ``floor(o n / m)`` up to ``ceil((o + 1) n / m)``."""
    places = _column(outputs)
    start = places * length // outputs
    stop = -(-(places + 1) * length // outputs)
    taps = start + _row(int((stop - start).max()))
    return torch.where(taps < stop, taps, NOTHING)


def nearest(length: int, outputs: int, scale: float | None, *, centred: bool) -> Tensor:
    """Taps of nearest-neighbour interpolation; ``centred`` is torch's ``nearest-exact``."""
    step = _step(length, outputs, scale)
    source = ((_column(outputs).double() + (0.5 if centred else 0.0)) * step + 1e-9).floor()
    return source.long().clamp(max=length - 1)


def linear(length: int, outputs: int, scale: float | None, *, reach: int = 1) -> Tensor:
    """Taps of linear (``reach`` 1) or cubic (2) interpolation between voxel centres.

    The source of output ``o`` lies at ``(o + 1/2) step - 1/2``; a neighbour outside is a poisoned one.
    """
    if length == outputs and scale in (None, 1.0):
        return _column(outputs)
    source = (_column(outputs).double() + 0.5) * _step(length, outputs, scale) - 0.5
    below = (source + 1e-9).floor()
    taps = below.long() + torch.arange(1 - reach, reach + 1, device="cpu")
    on_voxel = (source - below).abs() < 1e-8
    return torch.where(on_voxel & (taps != below.long()), NOTHING, _inside(taps, length))


def mirrored(length: int, before: int, after: int) -> Tensor:
    """Taps of a layer that continues its input beyond the edges by copies of other voxels."""
    return _inside(torch.arange(-before, length + after, device="cpu").unsqueeze(1), length)


def _inside(taps: Tensor, length: int) -> Tensor:
    return torch.where((taps >= 0) & (taps < length), taps, POISON)


def _step(length: int, outputs: int, scale: float | None) -> float:
    return 1 / scale if scale else length / outputs


def _column(length: int) -> Tensor:
    return torch.arange(length, device="cpu").unsqueeze(1)


def _row(length: int) -> Tensor:
    return torch.arange(length, device="cpu")
