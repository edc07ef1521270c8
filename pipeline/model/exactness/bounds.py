"""Which input voxels each element of a tensor depends on, along one axis: an interval for each element.

An element has two numbers: the first voxel that it depends on, and minus the last one. So both are lower bounds,
and every way of combining elements is a minimum. Infinity means that an element depends on no voxel, and minus
infinity that it is *poisoned*: invented values (padding) went into it.

Along a dimension in which all elements are alike the bounds are stored once, whatever its length: nearly all
dimensions of a network's tensors, so that a long axis costs what its own length costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

POISON, NOTHING = -1, -2
"""Places among taps that are no index: an invented value, and a tap that is not there."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a tensor's elements.

    Attributes:
        shape: shape of the tensor.
        data: ``(2, *thin)``, float32; each length is the tensor's, or 1 where all elements are alike.
    """

    shape: tuple[int, ...]
    data: Tensor

    def full(self) -> Tensor:
        """Return the bounds of every element, ``(2, *shape)``, as a view."""
        return self.data.expand(2, *self.shape)

    def varies(self, dim: int) -> bool:
        """Whether elements differ along a dimension."""
        return self.data.shape[dim + 1] > 1

    def share(self, span: float) -> float:
        """Return the share of elements whose interval is at least ``span`` voxels long."""
        return float((self.data.sum(0) <= -span).float().mean())


def positions(shape: Sequence[int], dim: int) -> Bounds:
    """Return the bounds of an input: every element depends on its own place along ``dim``."""
    thin = [n if d == dim else 1 for d, n in enumerate(shape)]
    places = torch.arange(shape[dim], dtype=torch.float32, device="cpu").reshape(thin)
    return Bounds(tuple(shape), torch.stack([places, -places]))


def nothing(shape: Sequence[int]) -> Bounds:
    """Return the bounds of a constant."""
    data = torch.full((2, *(1 for _ in shape)), math.inf, dtype=torch.float32, device="cpu")
    return Bounds(tuple(shape), data)


def hull(bounds: Sequence[Bounds], shape: Sequence[int]) -> Bounds:
    """Return bounds of ``shape`` whose every element depends on all that ``bounds`` depend on."""
    lowest = reduce(torch.minimum, [b.data.flatten(1).amin(1) for b in bounds])
    return Bounds(tuple(shape), lowest.reshape(2, *(1 for _ in shape)))


def together(bounds: Sequence[Bounds], shape: Sequence[int]) -> Bounds:
    """Combine element by element, broadcasting to ``shape``."""
    aligned = [b.data.reshape(2, *(1,) * (len(shape) - len(b.shape)), *b.data.shape[1:]) for b in bounds]
    return Bounds(tuple(shape), reduce(torch.minimum, aligned))


def moved(bounds: Bounds, view: Callable[[Tensor], Tensor]) -> Bounds:
    """Apply an operation that gives a view, such as a permutation or a slice."""
    parts = [view(part) for part in bounds.full()]
    shape = tuple(parts[0].shape)
    return Bounds(shape, torch.stack([_unexpanded(part) for part in parts]))


def rearranged(
    bounds: Sequence[Bounds], dims: Sequence[int], shape: Sequence[int], move: Callable[[list[Tensor]], Tensor]
) -> Bounds:
    """Apply an operation that only moves elements, along ``dims`` alone, such as concatenation.

    Args:
        bounds: what is moved; all have the same number of dimensions.
        dims: dimensions that the operation touches, counted from the front.
        shape: shape of the result.
        move: the operation, for the tensors in the order of ``bounds``.
    """
    ndim = len(bounds[0].shape)
    others = [max(b.data.shape[d + 1] for b in bounds) for d in range(ndim)]
    parts = []
    for side in range(2):
        sizes = [[b.shape[d] if d in dims else others[d] for d in range(ndim)] for b in bounds]
        parts.append(move([b.data[side].expand(size) for b, size in zip(bounds, sizes, strict=True)]))
    return Bounds(tuple(shape), _thinned(torch.stack(parts)))


def reduced(bounds: Bounds, dims: Sequence[int]) -> Bounds:
    """Let each element depend on all those along ``dims``, which become 1 long."""
    shape = tuple(1 if d in dims else n for d, n in enumerate(bounds.shape))
    return Bounds(shape, bounds.data.amin([d + 1 for d in dims], keepdim=True) if dims else bounds.data)


def gathered(bounds: Bounds, dim: int, taps: Tensor) -> Bounds:
    """Make each element along ``dim`` of the elements that its taps name.

    Args:
        bounds: of the input.
        dim: the dimension, from the front.
        taps: ``(length, taps)``, int64: indices into the input, :data:`POISON` or :data:`NOTHING`.
    """
    shape = tuple(len(taps) if d == dim else n for d, n in enumerate(bounds.shape))
    if not bounds.varies(dim):
        return Bounds(shape, bounds.data)
    size = list(bounds.data.shape)
    size[dim + 1] = 1
    ends = [torch.full(size, value, device="cpu") for value in (math.inf, -math.inf)]  # at -2 and at -1
    data = torch.cat([bounds.data, *ends], dim + 1)
    index = torch.where(taps < 0, taps + data.shape[dim + 1], taps)
    found = data.index_select(dim + 1, index.flatten()).unflatten(dim + 1, tuple(taps.shape))
    return Bounds(shape, found.amin(dim + 2))


def reshaped(bounds: Bounds, shape: Sequence[int]) -> Bounds:
    """Give the elements another shape, in C order."""
    wide, final = list(bounds.data.shape), [2]
    for old, new in _groups(bounds.shape, shape):
        alike = all(wide[d + 1] == 1 for d in old)
        for d in old:
            wide[d + 1] = 1 if alike else bounds.shape[d]
        final += [1 if alike else shape[d] for d in new]
    return Bounds(tuple(shape), _thinned(bounds.data.expand(wide).reshape(final)))


def _groups(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[range, range]]:
    """Split two shapes of one size into the smallest runs of dimensions that hold equally many elements."""
    i = j = 0
    while i < len(old) or j < len(new):
        first, second, left, right = i, j, 1, 1
        if i < len(old):
            left, i = old[i], i + 1
        if j < len(new):
            right, j = new[j], j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        yield range(first, i), range(second, j)


def _unexpanded(part: Tensor) -> Tensor:
    """Keep one element along every dimension that a view repeats."""
    for dim, stride in enumerate(part.stride()):
        if stride == 0 and part.shape[dim] > 1:
            part = part.narrow(dim, 0, 1)
    return part


def _thinned(data: Tensor) -> Tensor:
    """Keep one element along every dimension along which all are alike."""
    for dim in range(1, data.ndim):
        first = data.narrow(dim, 0, 1)
        if data.shape[dim] > 1 and torch.equal(data, first.expand_as(data)):
            data = first
    return data
