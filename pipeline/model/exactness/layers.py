"""Rules of a network's layers: convolutions, pooling, interpolation, norms, reductions and products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from pipeline.model.exactness import taps
from pipeline.model.exactness.bounds import Bounds, gathered, hull, reduced, reshaped, together
from pipeline.model.exactness.call import Call, Rule

LARGEST = 2**24
"""Elements of a matrix product's bounds; of a larger one every element counts as depending on everything."""

REDUCTIONS = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "linalg_vector_norm",
    "logsumexp",
    "max",
    "mean",
    "median",
    "min",
    "mode",
    "nanmedian",
    "nansum",
    "norm",
    "prod",
    "std",
    "std_mean",
    "sum",
    "var",
    "var_mean",
]
ALONG = [
    "_log_softmax",
    "_safe_softmax",
    "_softmax",
    "argsort",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "logcumsumexp",
    "msort",
    "sort",
    "topk",
]
"""Every element depends on all those along one dimension."""

Taps = Callable[[int, int, int], Tensor]
"""Gives the taps for a spatial axis, its length, and the length of the output."""


def convolution(call: Call) -> Sequence[Bounds]:
    """Every stride, dilation, padding and group; weights that depend on the input count everywhere."""
    own, weight = call.of(call["input"]), call["weight"]
    mixed = _mixed(own, call["groups"], call.shape[1])
    across = call.arguments.get("transposed", False)
    table = taps.spreading if across else taps.sliding

    def find(axis: int, length: int, outputs: int) -> Tensor:
        stride, padding, dilation = (_per(call[k], axis) for k in ("stride", "padding", "dilation"))
        kernel = weight.shape[axis + 2]
        return table(length, outputs, kernel=kernel, stride=stride, padding=padding, dilation=dilation)

    found = _spatial(mixed, call.shape, find)
    made = [call.of(t) for t in (weight, call["bias"]) if t is not None and call.lookup(t) is not None]
    return [together([found, hull(made, call.shape)], call.shape) if made else found]


def pool(call: Call) -> Sequence[Bounds]:
    """Maximum or average of windows; also where the maxima were."""

    def find(axis: int, length: int, outputs: int) -> Tensor:
        kernel = _per(call["kernel_size"], axis)
        stride = _per(call["stride"], axis) if call["stride"] else kernel
        dilation = _per(call.arguments.get("dilation", 1), axis)
        padding = _per(call["padding"], axis)
        return taps.sliding(length, outputs, kernel=kernel, stride=stride, padding=padding, dilation=dilation)

    return [_spatial(call.first(), call.shape, find)] * len(call.outputs)


def adaptive_pool(call: Call) -> Sequence[Bounds]:
    """Pooling to a given size."""
    found = _spatial(call.first(), call.shape, lambda axis, length, outputs: taps.adaptive(length, outputs))
    return [found] * len(call.outputs)


def unpool(call: Call) -> Sequence[Bounds]:
    """Each value goes to one place of its window; the windows are taken to be those of a pooling without overlap."""

    def find(axis: int, length: int, outputs: int) -> Tensor:
        step = outputs // length
        return taps.spreading(length, outputs, kernel=step, stride=step, padding=0, dilation=1)

    both = together([call.of(call["self"]), call.of(call["indices"])], call["self"].shape)
    if any(m % n for n, m in zip(both.shape[2:], call.shape[2:], strict=True)):
        return [hull([both], call.shape)]
    return [_spatial(both, call.shape, find)]


def interpolate(call: Call, *, kind: str) -> Sequence[Bounds]:
    """Interpolation to a given size or by given factors."""

    def find(axis: int, length: int, outputs: int) -> Tensor:
        scale = _scale(call, axis)
        if kind in ("nearest", "exact"):
            return taps.nearest(length, outputs, scale, centred=kind == "exact")
        return taps.linear(length, outputs, scale, reach=2 if kind == "cubic" else 1)

    return [_spatial(call.first(), call.shape, find)]


def batch_norm(call: Call) -> Sequence[Bounds]:
    """Pointwise with stored statistics; statistics of the input are those of all images and voxels of a channel."""
    own = call.of(call["input"])
    if not call.arguments.get("training", call.name != "_native_batch_norm_legit_no_training"):
        return [own]
    return [_with_statistics(own, [d for d in range(len(own.shape)) if d != 1])]


def group_norm(call: Call) -> Sequence[Bounds]:
    """Statistics of all voxels of a group of channels (here: of all channels)."""
    own = call.of(call["input"])
    return [_with_statistics(own, list(range(1, len(own.shape))))]


def layer_norm(call: Call) -> Sequence[Bounds]:
    """Statistics of the last dimensions."""
    own = call.of(call["input"])
    ndim = len(own.shape)
    return [_with_statistics(own, list(range(ndim - len(call["normalized_shape"]), ndim)))]


def reduction(call: Call) -> Sequence[Bounds]:
    """Many elements become one."""
    own = call.first()
    gone = reduced(own, call.dims(len(own.shape)))
    return [reshaped(gone, call.shape)] * len(call.outputs)


def along(call: Call) -> Sequence[Bounds]:
    """Every element depends on all along one dimension."""
    own = call.first()
    gone = reduced(own, call.dims(len(own.shape)))
    return [Bounds(tuple(t.shape), gone.data) for t in call.outputs]


def product(call: Call) -> Sequence[Bounds]:
    """Matrix products: a row of the one with a column of the other, and perhaps something added."""
    tensors = list(call.tensors())
    rows, columns = (call.of(t) for t in tensors[-2:])
    shape = tuple(tensors[-2].shape[:-1]) + tuple(tensors[-1].shape[-1:])
    left, right = reduced(rows, [len(rows.shape) - 1]), reduced(columns, [len(columns.shape) - 2])
    sides = [Bounds(shape, left.data), Bounds(shape, right.data)]
    thin = torch.broadcast_shapes(left.data.shape, right.data.shape)
    both = hull(sides, shape) if thin.numel() > LARGEST else together(sides, shape)
    added = [call.of(t) for t in tensors[:-2]]
    return [together([both, *added], call.shape)]


def _with_statistics(own: Bounds, dims: Sequence[int]) -> Bounds:
    return together([own, Bounds(own.shape, reduced(own, dims).data)], own.shape)


def _mixed(own: Bounds, groups: int, outputs: int) -> Bounds:
    """Let every output channel depend on all the channels of its group."""
    data, shape = own.data, (own.shape[0], outputs, *own.shape[2:])
    if not own.varies(1):
        return Bounds(shape, data)
    if groups == 1:
        return Bounds(shape, data.amin(2, keepdim=True))
    split = data.unflatten(2, (groups, -1)).amin(3)
    return Bounds(shape, split.repeat_interleave(outputs // groups, 2))


def _spatial(own: Bounds, shape: Sequence[int], find: Taps) -> Bounds:
    """Gather along every spatial dimension; the dimensions in front of them are kept as they are."""
    spatial = len(shape) - 2 if len(shape) > 3 else len(shape) - 1
    spatial = min(spatial, 3)
    lead = len(shape) - spatial
    for axis in range(spatial):
        if own.varies(lead + axis):
            own = gathered(own, lead + axis, find(axis, own.shape[lead + axis], shape[lead + axis]))
    return Bounds(tuple(shape), own.data)


def _per(value: int | Sequence[int], axis: int) -> int:
    """Return a layer's number for an axis; one number is for all axes."""
    if isinstance(value, int):
        return value
    return int(value[axis] if len(value) > 1 else value[0])


def _scale(call: Call, axis: int) -> float | None:
    if "scale_factors" in call.arguments:
        factors = call["scale_factors"]
        return float(factors[axis]) if factors else None
    names = [k for k in call.arguments if k.startswith("scales")]
    value = call[names[axis]]
    return float(value) if value else None


_POOLS = [f"{kind}{n}d" for kind in ("avg_pool", "max_pool") for n in (1, 2, 3)]
_ADAPTIVE = [f"{p}adaptive_{kind}_pool{n}d" for p in ("", "_") for kind in ("avg", "max") for n in (1, 2, 3)]
_NORMS = [
    "native_batch_norm",
    "cudnn_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_functional",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update",
    "_batch_norm_with_update_functional",
    "_batch_norm_no_update",
]

RULES: dict[str, Rule] = {
    **dict.fromkeys(("convolution", "_convolution", "mkldnn_convolution"), convolution),
    **dict.fromkeys([*_POOLS, *(f"max_pool{n}d_with_indices" for n in (2, 3))], pool),
    **dict.fromkeys(_ADAPTIVE, adaptive_pool),
    **dict.fromkeys(("max_unpool2d", "max_unpool3d"), unpool),
    **dict.fromkeys([f"upsample_nearest{n}d" for n in (1, 2, 3)], partial(interpolate, kind="nearest")),
    **dict.fromkeys([f"_upsample_nearest_exact{n}d" for n in (1, 2, 3)], partial(interpolate, kind="exact")),
    **dict.fromkeys(
        [f"upsample_{k}" for k in ("linear1d", "bilinear2d", "trilinear3d")], partial(interpolate, kind="linear")
    ),
    "upsample_bicubic2d": partial(interpolate, kind="cubic"),
    **dict.fromkeys(_NORMS, batch_norm),
    "native_group_norm": group_norm,
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm"), layer_norm),
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(ALONG, along),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), product),
}
