"""The mode in which a network's operations are taken over, one by one, by those that treat every voxel alike.

Operations are caught below Python's functions and modules, as torch dispatches them: a convolution is served whether
it is a layer, a subclass of one, a call inside a ``forward``, or part of a scripted module.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.model.arithmetic import elementwise, matrices, reductions, resample
from pipeline.model.arithmetic.layers import Convolutions
from pipeline.model.arithmetic.prepared import PreparedWeights

aten = torch.ops.aten

Operations = dict[OpOverload, Callable[..., Any]]

CURVES = (
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "elu", "erf", "erfc", "exp", "exp2", "expm1",
    "gelu", "hardsigmoid", "hardswish", "log", "log10", "log1p", "log2", "mish", "rsqrt", "sigmoid", "silu", "sin",
    "sinh", "softplus", "tan", "tanh",
)  # fmt: skip
"""Functions of one number that torch computes by two formulas, one for vectors of them."""

COMPOSED = (aten.matmul.default, aten.einsum.default, aten.tensordot.default, aten.var.dim, aten.std.dim)
"""Operations that torch makes of others before it dispatches those."""


def fix_arithmetic(model: nn.Module) -> nn.Module:
    """Return a CPU model whose result at a voxel has the same bits whatever the size of the input around it.

    Nor does it depend on the voxel's place in the input, on the other inputs of the batch, or on the number of
    threads, as long as the model is local: statistics of the whole map are of the whole map. Same weights (the model's
    own: ``model`` stays as it is), same function up to rounding, in float32, bfloat16 and float64. A model on another
    device is returned as it is.

    Args:
        model: any module, in evaluation mode.
    """
    tensors = [*model.parameters(), *model.buffers()]
    if isinstance(model, FixedArithmetic) or any(tensor.device.type != "cpu" for tensor in tensors):
        return model
    return FixedArithmetic(model)


class FixedArithmetic(nn.Module):
    """A module under the mode.

    Args:
        model: the module.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._operations = _operations(PreparedWeights())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module does."""
        with _Arithmetic(self._operations):
            return self.model(*args, **kwargs)


class _Arithmetic(TorchDispatchMode):
    """Replaces operations; those that are not in the table, or that it gives None for, stay torch's."""

    def __init__(self, operations: Operations) -> None:
        TorchDispatchMode.__init__(self)
        self._operations = operations

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        settings = kwargs or {}
        operation = self._operations.get(func)
        if operation is not None:
            found = operation(*args, **settings)
            if found is not None:
                return found
        elif func in COMPOSED:
            with self:
                return func.decompose(*args, **settings)
        return func(*args, **settings)


def _operations(prepared: PreparedWeights) -> Operations:
    """Return what replaces each operation."""
    layers = Convolutions(prepared)
    table: Operations = {
        aten.convolution.default: layers.convolution,
        aten._convolution.default: layers.convolution,
        aten.conv_transpose1d.default: layers.transposed,
        aten.conv_transpose2d.input: layers.transposed,
        aten.conv_transpose3d.input: layers.transposed,
        aten.linear.default: matrices.linear,
        aten.mm.default: matrices.mm,
        aten.mv.default: matrices.mv,
        aten.bmm.default: matrices.bmm,
        aten.addmm.default: matrices.addmm,
        aten.baddbmm.default: matrices.baddbmm,
        aten.glu.default: elementwise.glu,
        aten.selu.default: elementwise.selu,
        aten.selu_.default: elementwise.selu_,
        aten.celu.default: elementwise.celu,
        aten.celu_.default: elementwise.celu_,
        aten.add.Tensor: elementwise.add,
        aten.add_.Tensor: elementwise.add_,
        aten.atan2.default: partial(elementwise.pair_in_vectors, aten.atan2.out),
        aten.pow.Tensor_Tensor: partial(elementwise.pair_in_vectors, aten.pow.Tensor_Tensor_out),
        aten.pow.Tensor_Scalar: partial(elementwise.in_vectors, aten.pow.Tensor_Scalar_out),
        aten.pow_.Scalar: partial(elementwise.in_vectors_, aten.pow.Tensor_Scalar_out),
    }
    for packet in (aten.conv1d, aten.conv2d, aten.conv3d):
        table |= {packet.default: layers.conv, packet.padding: layers.conv}
    for name in CURVES:
        out = getattr(aten, name).out
        table[getattr(aten, name).default] = partial(elementwise.in_vectors, out)
        if hasattr(aten, f"{name}_"):
            table[getattr(aten, f"{name}_").default] = partial(elementwise.in_vectors_, out)
    return table | _sums() | _interpolations()


def _sums() -> Operations:
    keeping = (aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten._log_softmax.default)
    spreads = (aten.var.correction, aten.std.correction, aten.var_mean.correction, aten.std_mean.correction)
    sums = (aten.sum.dim_IntList, aten.mean.dim, aten.logsumexp.default, *spreads)
    return {func: partial(reductions.along, func) for func in keeping} | {
        func: partial(reductions.over, func) for func in sums
    }


def _interpolations() -> Operations:
    linear = (aten.upsample_linear1d, aten.upsample_bilinear2d, aten.upsample_trilinear3d)
    funcs = [func for packet in (*linear, aten.upsample_bicubic2d) for func in (packet.default, packet.vec)]
    return {func: partial(resample.resample, func) for func in funcs}
