"""Layers that are matrix products, as torch calls them; None is given where a call is left to torch."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.model.arithmetic import products
from pipeline.model.arithmetic.geometry import DTYPES


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """``aten.linear``."""
    if not _are_ours(x, weight, bias) or x.numel() == 0 or x.shape[-1:] != weight.shape[1:]:
        return None
    return products.linear(x, weight, bias)


def mm(a: Tensor, b: Tensor) -> Tensor | None:
    """``aten.mm``."""
    return products.matrix_product(a, b) if _fit(a, b, 2) else None


def mv(a: Tensor, vector: Tensor) -> Tensor | None:
    """``aten.mv``."""
    found = mm(a, vector[:, None])
    return None if found is None else found[:, 0]


def bmm(a: Tensor, b: Tensor) -> Tensor | None:
    """``aten.bmm``, each matrix of the batch by itself."""
    if not _fit(a, b, 3) or len(a) == 0:
        return None
    return torch.stack([products.matrix_product(*pair) for pair in zip(a, b, strict=True)])


def addmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor | None:
    """``aten.addmm``."""
    return _added(c, mm(a, b), beta, alpha)


def baddbmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor | None:
    """``aten.baddbmm``."""
    return _added(c, bmm(a, b), beta, alpha)


def _added(c: Tensor, found: Tensor | None, beta: float, alpha: float) -> Tensor | None:
    if found is None:
        return None
    found = found if alpha == 1 else found * alpha
    if beta == 0:
        return found
    return found + (c if beta == 1 else c * beta)


def _fit(a: Tensor, b: Tensor, ndim: int) -> bool:
    """Say whether matrices, or batches of them, can be multiplied here."""
    multiply = a.ndim == b.ndim == ndim and a.shape[-1] == b.shape[-2] and a.shape[:-2] == b.shape[:-2]
    return multiply and _are_ours(a, b)


def _are_ours(*tensors: Tensor | None) -> bool:
    found = [part for part in tensors if part is not None]
    dtype = found[0].dtype
    same = all(part.dtype == dtype and part.device.type == "cpu" for part in found)
    return same and (dtype == torch.float64 or (dtype in DTYPES and torch.backends.mkldnn.is_available()))
