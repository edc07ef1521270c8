"""One layer of a network without torch: how it maps lengths, what it sees, what it costs.

An architecture is a chain of these; its reach, sizes, parameters, operations and memory are sums over the chain,
and the module is built from the same chain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Op = Literal[
    "convolution",
    "batch_norm",
    "relu",
    "dropout",
    "pool",
    "indexed_pool",
    "transposed",
    "interpolate",
    "shuffle",
    "unpool",
    "concat",
    "add",
]

_BLOCK = 16
_INDEX = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """One step from one feature map to the next; all axes are treated alike.

    Attributes:
        name: name of the module, and the prefix of its tensors in a checkpoint.
        op: what it does. ``pool`` is the 2x2 maximum and ``indexed_pool`` one that remembers where the maxima were;
            ``transposed`` the 2x2 up-convolution; ``interpolate`` linear by two (voxel centres); ``shuffle`` depth
            to space; ``unpool`` puts each voxel where its maximum was; ``concat`` and ``add`` join the map that
            the pooling of the same level left.
        inputs: channels coming in (without those of the joined map).
        outputs: channels going out.
        kernel: length of a convolution's kernel along each axis.
        padded: whether the length is kept (``same``) or only voxels with full context come out (``valid``).
        bias: whether a convolution adds one number a channel.
    """

    name: str
    op: Op
    inputs: int
    outputs: int
    kernel: int = 1
    padded: bool = False
    bias: bool = True

    @property
    def learns(self) -> bool:
        """Whether this is a convolution, of either kind (the paper counts these as its layers)."""
        return self.op in ("convolution", "transposed")

    def length(self, length: int) -> int:
        """Voxels that come out along an axis for ``length`` voxels that go in (even ones at a pooling)."""
        match self.op:
            case "convolution":
                return length if self.padded else length - self.kernel + 1
            case "pool" | "indexed_pool":
                return length // 2
            case "transposed" | "shuffle" | "unpool":
                return 2 * length
            case "interpolate":
                return 2 * length if self.padded else 2 * length - 2
            case _:
                return length

    def needs(self, first: int, last: int) -> tuple[int, int]:
        """First and last input voxel that output voxels ``first`` to ``last`` (inclusive) are made of.

        Indices count from the first voxel of each map; a padded layer also asks for voxels before it.
        """
        match self.op:
            case "convolution":
                before = self.kernel // 2 if self.padded else 0
                return first - before, last - before + self.kernel - 1
            case "pool" | "indexed_pool":
                return 2 * first, 2 * last + 1
            case "transposed" | "shuffle" | "unpool":
                return first // 2, last // 2
            case "interpolate":
                cut = 0 if self.padded else 1
                return (first + cut - 1) // 2, (last + cut + 1) // 2
            case _:
                return first, last

    def parameters(self, dims: int) -> int:
        """Learned numbers: weights and biases (a norm has two a channel)."""
        if self.op == "batch_norm":
            return 2 * self.outputs
        if not self.learns:
            return 0
        return self.inputs * self.outputs * self._taps(dims) + (self.outputs if self.bias else 0)

    def operations(self, inputs: int, outputs: int, dims: int) -> int:
        """Floating-point operations of the convolutions, two a multiply-add.

        Args:
            inputs: voxels of the map that goes in.
            outputs: voxels of the map that comes out.
            dims: spatial axes.
        """
        if not self.learns:
            return 0
        voxels = inputs if self.op == "transposed" else outputs
        return 2 * voxels * self.inputs * self.outputs * self._taps(dims)

    def working_elements(self, inputs: int, outputs: int) -> int:
        """Elements that the layer takes beyond its input while it runs, its output included.

        Measured on a CPU (float32 and bfloat16, contiguous): a 3x3 convolution reorders its input and its output to
        blocks of 16 channels, an up-convolution takes two more maps of the size of its output, and a pooling keeps
        the positions of its maxima as 8-byte integers (counted as four elements of two bytes each).

        Args:
            inputs: voxels of the map that goes in.
            outputs: voxels of the map that comes out.
        """
        written = self.outputs * outputs
        match self.op:
            case "convolution" if self.kernel > 1:
                blocked = _blocks(self.outputs) * outputs
                return max(_blocks(self.inputs) * inputs + blocked, blocked + written)
            case "transposed":
                return 3 * written
            case "unpool":
                return 2 * written
            case "pool":
                return (1 + _INDEX) * written
            case "indexed_pool":
                return self.inputs * inputs + (1 + _INDEX) * written
            case "concat" | "add" | "convolution" | "batch_norm" | "interpolate" | "shuffle":
                return written
            case _:
                return 0

    def _taps(self, dims: int) -> int:
        return math.prod([2 if self.op == "transposed" else self.kernel] * dims)


def _blocks(channels: int) -> int:
    """Channels rounded up to whole blocks."""
    return -(-channels // _BLOCK) * _BLOCK
