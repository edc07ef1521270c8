"""Matrix products whose elements depend neither on how many rows and columns there are nor on where they stand.

A library cuts a product to the sizes of the processor, and sums an element at the edge of a cut in another order than
one in its middle; with several threads it may share one sum among them. Here every call has one shape whose sides have
no edges, and one thread. In float32 and bfloat16 oneDNN's 1x1
convolution does as well, and faster: it sums over the channels of each voxel from the first to the last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.model.arithmetic.geometry import Geometry, channels_last

BLOCK = 768
"""Columns of every product: a multiple of the widths in which processors work, so none is an edge."""

ROWS = 48
"""Rows of every product where both sides may be voxels."""

STRIP = 2**21
"""Elements of the matrix of moved inputs at a time (16 MiB in float64): about what stays in a processor's cache."""


def product(weight: Tensor, columns: Tensor) -> Tensor:
    """Return ``weight @ columns`` for ``(m, k)`` and ``(n, k, voxels)``, in products of :data:`BLOCK` columns."""
    result = columns.new_empty(len(columns), len(weight), columns.shape[2])
    for item, found in zip(columns, result, strict=True):
        _multiply([weight], item, [found])
    return result


def matrix_product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b`` for ``(rows, k)`` and ``(k, columns)``, of which either may be voxels."""
    if 0 in a.shape or 0 in b.shape:
        return a @ b
    if a.dtype != torch.float64:
        return by_onednn(a, b.t(), None)
    rows = math.ceil(len(a) / ROWS) * ROWS
    parts = F.pad(a, (0, 0, 0, rows - len(a))).contiguous().split(ROWS)
    result = a.new_empty(rows, b.shape[1])
    _multiply(parts, b, result.split(ROWS))
    return result[: len(a)]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``x @ weight.T + bias`` for ``(..., k)`` and ``(m, k)``, each row of ``x`` by itself."""
    rows = x.reshape(-1, x.shape[-1])
    if x.dtype == torch.float64:
        result = product(weight.contiguous(), rows.t()[None])[0].t()
        result = result if bias is None else result + bias
    else:
        result = by_onednn(rows, weight, bias)
    return result.reshape(*x.shape[:-1], len(weight))


def by_onednn(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``rows @ weight.T + bias`` as a 1x1 convolution, the rows being voxels."""
    if rows.shape[1] == 1:  # one channel has no order in memory, and oneDNN takes it for another
        rows, weight = F.pad(rows, (0, 1)), F.pad(weight, (0, 1))
    image = rows.contiguous().t()[None, :, :, None]
    kernel = channels_last(weight.contiguous()[:, :, None, None])
    result = torch.mkldnn_convolution(image, kernel, bias, [0, 0], [1, 1], [1, 1], 1)
    return result[0, :, :, 0].t()


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return a convolution as products of one shape.

    Args:
        x: ``(N, C, *spatial)``.
        weight: ``(O, C / groups, *kernel)``.
        bias: ``(O,)``.
        geometry: stride, padding, dilation and groups.

    Returns:
        ``(N, O, *spatial_out)``, channels last.
    """
    lengths = geometry.outputs(x.shape[2:], weight.shape[2:])
    x, geometry = geometry.pad(x)
    if geometry.groups > 1 and weight.shape[1] == 1:
        result = _depthwise(x, weight, geometry, lengths)
    else:
        pairs = zip(x.chunk(geometry.groups, 1), weight.chunk(geometry.groups), strict=True)
        result = torch.cat([_in_strips(*pair, geometry, lengths) for pair in pairs], 1)
    if bias is not None:
        result = result + bias.reshape(-1, *(1,) * (x.ndim - 2))
    return channels_last(result)


def _multiply(weights: Sequence[Tensor], columns: Tensor, results: Sequence[Tensor]) -> None:
    """Write ``weight @ columns`` into each result, for ``(k, voxels)`` and weights of one shape."""
    block = columns.new_empty(len(columns), BLOCK)
    found = columns.new_empty(len(weights[0]), BLOCK)
    for start in range(0, columns.shape[1], BLOCK):
        part = columns[:, start : start + BLOCK]
        size = part.shape[1]
        block[:, :size] = part
        block[:, size:] = 0
        with _one_thread():
            for weight, result in zip(weights, results, strict=True):
                torch.mm(weight, block, out=found)
                result[:, start : start + size] = found[:, :size]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have products summed by one thread: some processors' libraries share a long sum among several."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_strips(x: Tensor, weight: Tensor, geometry: Geometry, lengths: Sequence[int]) -> Tensor:
    """Return one group's result, a few lines of the first axis at a time."""
    size = max(1, STRIP // (math.prod(lengths[1:]) * math.prod(weight.shape[1:])))
    rows = weight.flatten(1).contiguous()
    result = x.new_empty(len(x), len(weight), *lengths)
    columns = x.new_empty(x.shape[1], math.prod(weight.shape[2:]), min(size, lengths[0]), *lengths[1:])
    for item, start in itertools.product(range(len(x)), range(0, lengths[0], size)):
        shape = [min(size, lengths[0] - start), *lengths[1:]]
        seen, begin = columns[:, :, : shape[0]], x[item, None, :, start * geometry.stride[0] :]
        for tap, moved in enumerate(_moved(begin, weight.shape[2:], geometry, shape)):
            seen[:, tap] = moved[0]
        found = product(rows, seen.flatten(2).flatten(0, 1)[None])[0]
        result[item, :, start : start + shape[0]] = found.reshape(-1, *shape)
    return result


def _depthwise(x: Tensor, weight: Tensor, geometry: Geometry, lengths: Sequence[int]) -> Tensor:
    """Return the result of a convolution in which each output sees one channel: a sum over taps."""
    x = x.repeat_interleave(len(weight) // geometry.groups, 1)
    result = x.new_zeros(len(x), len(weight), *lengths)
    taps = weight.flatten(2).unbind(2)
    for tap, moved in zip(taps, _moved(x, weight.shape[2:], geometry, lengths), strict=True):
        result += moved * tap.reshape(-1, *(1,) * len(lengths))
    return result


def _moved(x: Tensor, kernel: Sequence[int], geometry: Geometry, shape: Sequence[int]) -> Iterator[Tensor]:
    """Yield, for each tap in C order, the input voxel that each output voxel sees through it."""
    for tap in itertools.product(*(range(k) for k in kernel)):
        axes = zip(tap, geometry.dilation, geometry.stride, shape, strict=True)
        yield x[:, :, *(slice(t * step, t * step + (n - 1) * stride + 1, stride) for t, step, stride, n in axes)]
