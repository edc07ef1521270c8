"""Functions of single numbers, with no ragged end.

torch computes whole vectors of numbers at a time, and what is left over at the end of each thread's share one by one,
with another formula (exp and its kin). Here the numbers are taken in the order of memory, shares end with whole
vectors, and the last few numbers are filled up to one. None is given where a call is left to torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from pipeline.model.arithmetic.geometry import DTYPES

VECTOR = 64
"""Numbers that torch's loops take at a time, or a multiple: four vectors of 512 bits in float32."""

SHARE = 32768
"""Numbers below which torch's loops stay in one thread (``at::internal::GRAIN_SIZE``)."""

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946

aten = torch.ops.aten


def in_vectors(out: OpOverload, x: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
    """Return a function of each number, such as ``aten.silu.out`` with its settings."""
    if x.dtype not in DTYPES or x.numel() == 0:
        return None
    x = x if _is_dense(x) else x.contiguous()
    return _apply(out, [x], args, kwargs, torch.empty_like(x))


def in_vectors_(out: OpOverload, x: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
    """Replace each number by a function of it."""
    if x.dtype in DTYPES and x.numel() and _is_dense(x):
        return _apply(out, [x], args, kwargs, x)
    found = in_vectors(out, x, *args, **kwargs)
    return None if found is None else x.copy_(found)


def pair_in_vectors(out: OpOverload, a: Tensor, b: Tensor) -> Tensor | None:
    """Return a function of two numbers, of tensors that broadcast, such as ``aten.atan2.out``."""
    dtype = torch.result_type(a, b)
    if dtype not in DTYPES:
        return None
    pair = [part.to(dtype).contiguous() for part in torch.broadcast_tensors(a, b)]
    return _apply(out, pair, (), {}, torch.empty_like(pair[0]))


def selu(x: Tensor) -> Tensor | None:
    """Return the scaled exponential linear unit (Klambauer et al. 2017, equation 2 and section 3)."""
    return in_vectors(aten.elu.out, x, SELU_ALPHA, SELU_SCALE)


def selu_(x: Tensor) -> Tensor | None:
    """Replace ``x`` by :func:`selu` of it."""
    return in_vectors_(aten.elu.out, x, SELU_ALPHA, SELU_SCALE)


def celu(x: Tensor, alpha: float = 1.0) -> Tensor | None:
    """Return the continuously differentiable exponential linear unit (Barron 2017, equation 2)."""
    return in_vectors(aten.elu.out, x, alpha, 1.0, 1 / alpha)


def celu_(x: Tensor, alpha: float = 1.0) -> Tensor | None:
    """Replace ``x`` by :func:`celu` of it."""
    return in_vectors_(aten.elu.out, x, alpha, 1.0, 1 / alpha)


def glu(x: Tensor, dim: int = -1) -> Tensor | None:
    """Return the first half of the channels times the sigmoid of the second."""
    first, second = x.chunk(2, dim)
    gate = in_vectors(aten.sigmoid.out, second)
    return None if gate is None else first * gate


def add(x: Tensor, other: Tensor, *, alpha: float = 1) -> Tensor:
    """Return ``x + alpha * other``; in bfloat16 torch rounds the product, or does not."""
    return torch.add(x, other * alpha) if alpha != 1 else torch.add(x, other)


def add_(x: Tensor, other: Tensor, *, alpha: float = 1) -> Tensor:
    """Add ``alpha * other`` to ``x``."""
    return x.add_(other * alpha) if alpha != 1 else x.add_(other)


def whole_shares(numbers: int, threads: int) -> int:
    """Return how many of the numbers can be computed at once so that each thread's share ends with a whole vector."""
    shares = max(1, min(threads, math.ceil(numbers / SHARE)))
    whole = numbers // (VECTOR * shares) * VECTOR * shares
    # So few would be cut into fewer shares: one less, all of them full.
    return whole if whole > (shares - 1) * SHARE else (shares - 1) * SHARE


def _apply(out: OpOverload, inputs: Sequence[Tensor], args: Any, kwargs: Any, result: Tensor) -> Tensor:
    """Compute into ``result``, which lies in memory as the dense inputs do (or is one of them)."""
    flat, target = [_flat(x) for x in inputs], _flat(result)
    whole = whole_shares(len(target), torch.get_num_threads())
    if whole:
        out(*(x[:whole] for x in flat), *args, **kwargs, out=target[:whole])
    rest = len(target) - whole
    if rest:
        room = math.ceil(rest / VECTOR) * VECTOR
        filled = [torch.cat([x[whole:], x.new_zeros(room - rest)]) for x in flat]
        target[whole:] = out(*filled, *args, **kwargs, out=torch.empty_like(filled[0]))[:rest]
    return result


def _flat(x: Tensor) -> Tensor:
    """Return the numbers of a dense tensor in the order of memory."""
    return x.as_strided((x.numel(),), (1,), x.storage_offset())


def _is_dense(x: Tensor) -> bool:
    if x.is_contiguous():
        return True
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    return layout is not None and x.is_contiguous(memory_format=layout)
