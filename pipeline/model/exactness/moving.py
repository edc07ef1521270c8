"""Rules of operations that move, repeat or drop elements, and of those that work element by element."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from pipeline.model.exactness.bounds import Bounds, gathered, moved, rearranged, reshaped, together
from pipeline.model.exactness.call import Call, Rule
from pipeline.model.exactness.taps import mirrored

VIEWS = [
    "alias",
    "detach",
    "diagonal",
    "expand",
    "movedim",
    "permute",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "transpose",
    "unbind",
    "unfold",
    "unsqueeze",
]
RESHAPES = ["view", "reshape", "_unsafe_view", "_reshape_alias", "view_copy", "flatten", "unflatten"]
POINTWISE = [
    "_to_copy",
    "_prelu_kernel",
    "prelu",
    "clone",
    "contiguous",
    "copy",
    "celu",
    "hardswish",
    "lift_fresh",
    "lift_fresh_copy",
    "log_sigmoid_forward",
    "logit",
    "mish",
    "native_dropout",
    "nan_to_num",
    "type_as",
    "_conj",
]
"""Work element by element without torch's tag that says so."""
CONSTANTS = [
    "empty_like",
    "fill",
    "full_like",
    "new_empty",
    "new_empty_strided",
    "new_full",
    "new_ones",
    "new_zeros",
    "ones_like",
    "rand_like",
    "randn_like",
    "zeros_like",
]
"""Take a tensor for its shape alone."""


def pointwise(call: Call) -> Sequence[Bounds]:
    """Each element depends on the elements at its place."""
    return [together(call.dependent(), tensor.shape) for tensor in call.outputs]


def constant(call: Call) -> Sequence[None]:
    """Nothing of the input but its shape."""
    return [None] * len(call.outputs)


def view(call: Call) -> Sequence[Bounds]:
    """The very operation, applied to the bounds."""
    bounds = call.first()
    return [moved(bounds, partial(_output, call, index)) for index in range(len(call.outputs))]


def reshape(call: Call) -> Sequence[Bounds]:
    """The same elements in C order."""
    return [reshaped(call.first(), call.shape)]


def cat(call: Call) -> Sequence[Bounds]:
    """Concatenation; empty one-dimensional tensors do not count, as in torch."""
    parts = [call.of(t) for t in call["tensors"] if tuple(t.shape) != (0,)]
    dim = call["dim"] % len(call.shape)
    return [rearranged(parts, [dim], call.shape, lambda tensors: torch.cat(tensors, dim))]


def stack(call: Call) -> Sequence[Bounds]:
    """Concatenation along a new dimension."""
    dim = call["dim"] % len(call.shape)
    parts = [moved(call.of(t), lambda part: part.unsqueeze(dim)) for t in call["tensors"]]
    return [rearranged(parts, [dim], call.shape, lambda tensors: torch.cat(tensors, dim))]


def flip(call: Call) -> Sequence[Bounds]:
    """The other way round along some dimensions."""
    bounds = call.first()
    dims = call.dims(len(bounds.shape), "dims")
    return [rearranged([bounds], dims, call.shape, lambda tensors: tensors[0].flip(dims))]


def turn(call: Call) -> Sequence[Bounds]:
    """A turn by right angles."""
    bounds = call.first()
    dims = call.dims(len(bounds.shape), "dims")
    return [rearranged([bounds], dims, call.shape, lambda tensors: tensors[0].rot90(call["k"], dims))]


def roll(call: Call) -> Sequence[Bounds]:
    """Round and round along some dimensions, or through all elements."""
    bounds = call.first()
    dims = call.dims(len(bounds.shape), "dims")
    given = [d % len(bounds.shape) for d in call["dims"]]
    shifts = list(call["shifts"])
    return [rearranged([bounds], dims, call.shape, lambda tensors: tensors[0].roll(shifts, given))]


def repeat(call: Call) -> Sequence[Bounds]:
    """Copies side by side."""
    bounds = call.first()
    lead = len(call.shape) - len(bounds.shape)
    wide = Bounds((1,) * lead + bounds.shape, bounds.data.reshape(2, *(1,) * lead, *bounds.data.shape[1:]))
    repeats = [int(n) for n in call["repeats"]]
    dims = [d for d, n in enumerate(repeats) if n > 1]
    inner = [n if wide.varies(d) else 1 for d, n in enumerate(repeats)]
    kept = [d for d in dims if wide.varies(d)]
    return [rearranged([wide], kept, call.shape, lambda tensors: tensors[0].repeat(inner))]


def pad_constant(call: Call) -> Sequence[Bounds]:
    """Invented values around (or a crop where the padding is negative)."""
    bounds = call.first()
    for dim, (before, after) in zip(reversed(range(len(bounds.shape))), _pairs(call["pad"]), strict=False):
        bounds = gathered(bounds, dim, mirrored(bounds.shape[dim], before, after))
    return [bounds]


def pad_copies(call: Call) -> Sequence[Bounds]:
    """Copies of other voxels around, which are invented too."""
    bounds = call.first()
    for dim, (before, after) in zip(reversed(range(len(bounds.shape))), _pairs(call["padding"]), strict=False):
        bounds = gathered(bounds, dim, mirrored(bounds.shape[dim], before, after))
    return [bounds]


def shuffle(call: Call) -> Sequence[Bounds]:
    """Depth to space, or back."""
    bounds = call.first()
    ndim = len(bounds.shape)
    dims = [d for d in range(ndim - 3, ndim)]
    return [rearranged([bounds], dims, call.shape, lambda tensors: _output(call, 0, tensors[0].contiguous()))]


def slice_scatter(call: Call) -> Sequence[Bounds]:
    """A tensor with a slice of it replaced."""
    dim = call["dim"] % len(call.shape)
    parts = [call.of(call["self"]), call.of(call["src"])]
    where = (dim, call["start"], call["end"], call["step"])
    return [rearranged(parts, [dim], call.shape, lambda t: t[0].slice_scatter(t[1], *where))]


def select_scatter(call: Call) -> Sequence[Bounds]:
    """A tensor with one index of it replaced."""
    dim = call["dim"] % len(call.shape)
    index = call["index"] % call.shape[dim]
    own, source = call.of(call["self"]), moved(call.of(call["src"]), lambda part: part.unsqueeze(dim))
    return [
        rearranged([own, source], [dim], call.shape, lambda t: t[0].slice_scatter(t[1], dim, index, index + 1))
    ]


def glu(call: Call) -> Sequence[Bounds]:
    """One half of the channels gates the other."""
    bounds = call.first()
    dim = call["dim"] % len(bounds.shape)
    half = bounds.shape[dim] // 2
    halves = [moved(bounds, lambda part, at=at: part.narrow(dim, at, half)) for at in (0, half)]  # type: ignore[misc]
    return [together(halves, call.shape)]


def _output(call: Call, index: int, part: Tensor) -> Tensor:
    """Run the operation itself on bounds, and return one of its outputs."""
    found: Tensor | Sequence[Tensor] = call.func(part, **{k: v for k, v in call.arguments.items() if k != "self"})
    return found if isinstance(found, Tensor) else found[index]


def _pairs(pad: Sequence[int]) -> list[tuple[int, int]]:
    """Return the padding before and after each dimension, from the last."""
    return [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(VIEWS, view),
    **dict.fromkeys(RESHAPES, reshape),
    **dict.fromkeys(POINTWISE, pointwise),
    **dict.fromkeys(CONSTANTS, constant),
    **dict.fromkeys([f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)], pad_copies),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "native_channel_shuffle", "channel_shuffle"), shuffle),
    "cat": cat,
    "concat": cat,
    "constant_pad_nd": pad_constant,
    "flip": flip,
    "glu": glu,
    "repeat": repeat,
    "roll": roll,
    "rot90": turn,
    "select_scatter": select_scatter,
    "slice_scatter": slice_scatter,
    "stack": stack,
}
