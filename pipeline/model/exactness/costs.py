"""What a network costs at a size: operations, and elements alive at one time, counted on shapes alone."""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakTensorKeyDictionary

from pipeline.model.constructed import Cost
from pipeline.model.exactness.ghost import META, Ghost, Op, ShapesOnly
from pipeline.model.exactness.sizes import Legal

_INDEX = 4
"""Elements that an 8-byte integer takes, where elements are bfloat16 (the worst case)."""
_BLOCK = 16
"""Channels of a block, into which a convolution on the CPU reorders its input and output."""


def peak_elements(ghost: Ghost, spatial: Sequence[int], batch: int = 1) -> int:
    """Return the most elements alive at one time for an input of a spatial shape, the weights not counted.

    What a convolution takes besides while it runs was measured on a CPU; it is as in
    :meth:`pipeline.model.layers.Layer.working_elements`.
    """
    x = ghost.input(spatial, batch)
    memory = _Memory(ghost.values, (*ghost.model.parameters(), *ghost.model.buffers()))
    memory.hold(x)
    with torch.no_grad(), META, memory:
        ghost.model(x)
    return max(1, memory.peak)


def operations(ghost: Ghost, spatial: Sequence[int]) -> int:
    """Return the floating-point operations for one input, two a multiply-add, as torch counts them."""
    x = ghost.input(spatial)
    with torch.no_grad(), META, FlopCounterMode(display=False) as counter, ShapesOnly(ghost.values):
        ghost.model(x)
    return int(counter.get_total_flops())


def count_costs(ghost: Ghost, legal: Sequence[Legal]) -> tuple[Cost, ...]:
    """Return the costs at three sizes, each about twice as long along every axis as the one before."""
    base = max(64 if ghost.dims == 2 else 32, *(x.minimum for x in legal))
    found: dict[int, Cost] = {}
    for factor in (1, 2, 4, 8):
        spatial = [x.at_least(base * factor) for x in legal]
        voxels = math.prod(spatial)
        if voxels not in found and ghost.output(spatial) is not None and len(found) < 3:
            peak = peak_elements(ghost, spatial)
            found[voxels] = Cost(voxels=voxels, operations=operations(ghost, spatial), peak_elements=peak)
    return tuple(found.values())


class _Memory(ShapesOnly):
    """Follows the life of storages: each counts once, from the operation that made it until no tensor has it."""

    def __init__(self, values: WeakTensorKeyDictionary, weights: Iterable[Tensor]) -> None:
        super().__init__(values)
        self.peak = 0
        self._alive = 0
        self._weights = {weight.untyped_storage()._cdata for weight in weights}
        self._holders: Counter[int] = Counter()

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor's storage, if it is a new one."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, _elements(tensor, storage.nbytes())
        if key in self._weights:
            return
        if not self._holders[key]:
            self._alive += size
            self.peak = max(self.peak, self._alive)
        self._holders[key] += 1
        weakref.finalize(tensor, self._release, key, size)

    def ran(self, func: Op, args: tuple[Any, ...], kwargs: dict[str, Any], found: Any) -> None:
        """Count what an operation made."""
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self.hold(leaf)
        if func.overloadpacket.__name__ == "convolution":
            self.peak = max(self.peak, self._alive + _working(args, found))

    def _release(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            self._alive -= size


def _elements(tensor: Tensor, size: int) -> int:
    """Return the elements of a storage of ``size`` bytes."""
    return size // tensor.element_size() if tensor.is_floating_point() else size * _INDEX // 8


def _working(args: tuple[Any, ...], output: Tensor) -> int:
    """Return the elements that a convolution takes beyond its input and output while it runs."""
    x, weight, transposed = args[0], args[1], args[6]
    if transposed:
        return 2 * output.numel()
    if math.prod(weight.shape[2:]) == 1:
        return 0
    before, after = (t.numel() // t.shape[1] * (-(-t.shape[1] // _BLOCK) * _BLOCK) for t in (x, output))
    return max(before + after - output.numel(), after)
