"""Softmax and sums over channels, each voxel's channels side by side: elsewhere the order depends on the voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

from pipeline.model.arithmetic.geometry import DTYPES


def along(func: OpOverload, x: Tensor, dim: int, *args: Any, **kwargs: Any) -> Tensor | None:
    """Return a function along one axis that keeps its length, such as ``aten.softmax``; None leaves it to torch."""
    if x.dtype not in DTYPES or x.ndim == 0:
        return None
    result: Tensor = func(x.movedim(dim, -1).contiguous(), -1, *args, **kwargs)
    return result.movedim(-1, dim)


def over(
    func: OpOverload, x: Tensor, dim: Sequence[int] | int | None = None, keepdim: bool = False, **kwargs: Any
) -> Tensor | tuple[Tensor, ...] | None:
    """Return a sum over some axes, such as ``aten.mean.dim``, or several (``aten.var_mean.correction``).

    None leaves it to torch: sums of the whole, or of whole numbers.
    """
    dims = sorted(axis % x.ndim for axis in ([dim] if isinstance(dim, int) else dim or [])) if x.ndim else []
    if x.dtype not in DTYPES or len(dims) in (0, x.ndim):
        return None
    kept = [axis for axis in range(x.ndim) if axis not in dims]
    rows = x.permute(*kept, *dims).contiguous().flatten(len(kept))
    found = func(rows, [len(kept)], keepdim=False, **kwargs)
    if isinstance(found, Tensor):
        return _restored(found, dims, keepdim)
    return tuple(_restored(part, dims, keepdim) for part in found)


def _restored(found: Tensor, dims: Sequence[int], keepdim: bool) -> Tensor:
    for axis in dims if keepdim else ():
        found = found.unsqueeze(axis)
    return found
