"""Layers that are matrix products, as torch calls them."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.model.arithmetic import products
from pipeline.model.arithmetic.geometry import DTYPES


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``aten.linear``."""
    if not _are_ours(x, weight, bias) or weight.ndim != 2 or x.numel() == 0:
        return NotImplemented  # type: ignore[no-any-return]
    return products.linear(x, weight, bias)


def mm(a: Tensor, b: Tensor) -> Tensor:
    """``aten.mm``."""
    return products.matrix_product(a, b) if _are_ours(a, b) else NotImplemented


def mv(a: Tensor, vector: Tensor) -> Tensor:
    """``aten.mv``."""
    return products.matrix_product(a, vector[:, None])[:, 0] if _are_ours(a, vector) else NotImplemented


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """``aten.bmm``, each matrix of the batch by itself."""
    if not _are_ours(a, b) or len(a) == 0:
        return NotImplemented  # type: ignore[no-any-return]
    return torch.stack([products.matrix_product(*pair) for pair in zip(a, b, strict=True)])


def addmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``aten.addmm``."""
    return _added(c, mm(a, b), beta, alpha)


def baddbmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``aten.baddbmm``."""
    return _added(c, bmm(a, b), beta, alpha)


def _added(c: Tensor, found: Tensor, beta: float, alpha: float) -> Tensor:
    if found is NotImplemented:
        return found  # type: ignore[no-any-return]
    found = found if alpha == 1 else found * alpha
    if beta == 0:
        return found
    return found + (c if beta == 1 else c * beta)


def _are_ours(*tensors: Tensor | None) -> bool:
    found = [part for part in tensors if part is not None]
    dtype = found[0].dtype
    same = all(part.dtype == dtype and part.device.type == "cpu" for part in found)
    return same and (dtype == torch.float64 or (dtype in DTYPES and torch.backends.mkldnn.is_available()))
