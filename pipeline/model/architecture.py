"""The U-Net as settings and formulas: what it sees, which sizes it takes and what it costs, without torch.

The defaults are the network of Ronneberger, Fischer and Brox (2015), *U-Net: Convolutional Networks for Biomedical
Image Segmentation*, section 2::

    572 ─3x3─3x3─ 568 ──────────────── copy and crop ────────────────▶ 392 ─3x3─3x3─ 388 ─1x1─▶ classes
                   │ max 2x2                                            ▲ up 2x2
                  284 ─3x3─3x3─ 280 ───────── copy and crop ──▶ 200 ─── 196
                                 │             ...               ▲
                                140          32 ─ 28            104
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import ModelError
from pipeline.geometry.reach import Reach
from pipeline.model.layers import Layer, Op
from pipeline.model.network import OutputMeaning

Upsampling = Literal["transposed", "bilinear", "pixel_shuffle", "max_unpool"]

_UPSAMPLE: dict[str, Op] = {
    "transposed": "transposed",
    "bilinear": "interpolate",
    "pixel_shuffle": "shuffle",
    "max_unpool": "unpool",
}


class UNetArchitecture(BaseModel):
    """Settings of one U-Net; the defaults are the paper's network.

    All spatial axes are treated alike, so that reach and legal lengths hold along each of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["unet"] = Field(default="unet", description="The family of networks.")
    dims: Literal[2, 3] = Field(default=2, description="Spatial axes: 2 (y, x) or 3 (z, y, x).")
    in_channels: int = Field(default=1, ge=1, description="Channels of the volume.")
    classes: int = Field(
        default=2, ge=1, description="Channels of the output: 1 is a sigmoid, more are a softmax."
    )
    depth: int = Field(default=5, ge=1, le=7, description="Levels of resolution, each half the one above.")
    width: int = Field(default=64, ge=1, description="Channels at the first level; each level doubles them.")
    padding: Literal["valid", "same"] = Field(
        default="valid",
        description="valid: unpadded, the output is smaller than the input; same: zero-padded, it is not.",
    )
    skip: Literal["concat", "add", "none"] = Field(
        default="concat", description="How a level of the way down joins the way up; none is the autoencoder."
    )
    upsampling: Upsampling = Field(default="transposed", description="How the way up doubles the resolution.")
    norm: Literal["none", "batch"] = Field(
        default="none", description="Normalisation between convolution and ReLU."
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout rate after the two lowest levels of the way down."
    )

    def layers(self) -> tuple[Layer, ...]:
        """The network as a chain of layers, in the order in which they run."""
        down = chain.from_iterable(self._down(level) for level in range(self.depth))
        up = chain.from_iterable(self._up(level) for level in reversed(range(self.depth - 1)))
        return (*down, *up, Layer("head", "convolution", self.width, self.classes))

    @property
    def exact(self) -> bool:
        """Whether tiles can equal the whole image: always (every layer is local, and shifts with its input)."""
        return True

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why they cannot: nothing."""
        return ()

    @property
    def output(self) -> OutputMeaning:
        """What the network gives for a voxel."""
        return "logits"

    def reaches(self) -> tuple[Reach, ...]:
        """What the network sees along each axis, in voxels; the same along all."""
        return (self.reach(),) * self.dims

    def reach(self) -> Reach:
        """What the network sees along each axis, in voxels.

        Asks the layers, from the last to the first, which voxels the output of the smallest legal input is made of:
        what lies beyond its core is the halo, so the halo is minimal. The ways over the skips can be left out: each
        ends in the map from which the way below it starts, and needs less of it.
        """
        stride = 2 ** (self.depth - 1)
        minimum = stride if self.padding == "same" else self._needs(0, 0)[1] + 1
        core = self._lengths(minimum)[-1]
        first, last = self._needs(0, core - 1)
        shrink = minimum - core
        offset = shrink // 2
        halo = (offset - first, last + 1 - offset - core)
        return Reach(stride=stride, halo=halo, offset=offset, shrink=shrink, minimum=minimum)

    def output_length(self, length: int) -> int:
        """Output voxels along an axis for an input of ``length`` voxels.

        Raises:
            ModelError: if the network does not take that length (a pooling would drop a voxel, or nothing is left).
        """
        reach = self.reach()
        if not reach.is_legal(length):
            raise ModelError(_illegal(length, reach))
        return length - reach.shrink

    def parameters(self) -> int:
        """Learned numbers (31,030,658 for the paper's network with one channel and two classes)."""
        return sum(layer.parameters(self.dims) for layer in self.layers())

    def convolutions(self) -> int:
        """Layers in the paper's count: 3x3, up- and 1x1 convolutions (23)."""
        return sum(layer.learns for layer in self.layers())

    def operations(self, shape: tuple[int, ...]) -> int:
        """Floating-point operations of the convolutions for one input, two a multiply-add.

        Args:
            shape: spatial shape of the input, in voxels.

        Raises:
            ModelError: if the network does not take that shape.
        """
        return sum(layer.operations(before, after, self.dims) for layer, before, after in self._walk(shape))

    def peak_elements(self, shape: tuple[int, ...]) -> int:
        """Most elements alive at one time in inference on one input, the input included, the weights not.

        Follows what the module holds: the maps (or positions) kept for the way up, the layer's input, and what the
        layer takes while it runs. Times the bytes of an element, a process on a CPU grows by this and at most about
        25 MiB more (float32 and bfloat16, contiguous; channels last takes up to a fifth less), as long as the C
        library gives freed maps back: glibc does so with a fixed ``MALLOC_TRIM_THRESHOLD_``, as Dask's workers
        have, and else keeps up to half as much again. Not for float64, whose convolutions unfold their input.

        Args:
            shape: spatial shape of the input, in voxels.

        Raises:
            ModelError: if the network does not take that shape.
        """
        peak = 0
        kept = [self.in_channels * math.prod(shape)]
        positions: list[int] = []
        for index, (layer, before, after) in enumerate(self._walk(shape)):
            entering = layer.inputs * before if index else 0
            working = layer.working_elements(before, after)
            peak = max(peak, sum(kept) + sum(positions) + entering + working)
            if layer.op in ("pool", "indexed_pool") and self.skip != "none":
                kept.append(entering)
            if layer.op == "indexed_pool":
                positions.append(-(-layer.outputs * after // 2))
            if layer.op == "unpool":
                positions.pop()
            if layer.op in ("concat", "add"):
                kept.pop()
        return peak

    def training_elements(self, shape: tuple[int, ...]) -> int:
        """Elements that one input holds alive from the way forward to the way back: every map that a layer makes.

        Times the bytes of an element this is most of what a training step takes; gradients and the optimiser come
        on top.

        Args:
            shape: spatial shape of the input, in voxels.

        Raises:
            ModelError: if the network does not take that shape.
        """
        made = sum(layer.outputs * after for layer, _, after in self._walk(shape) if layer.op != "relu")
        return self.in_channels * math.prod(shape) + made

    def _walk(self, shape: tuple[int, ...]) -> Iterable[tuple[Layer, int, int]]:
        """Every layer with the voxels of the maps that enter and leave it."""
        if len(shape) != self.dims:
            raise ModelError(f"The network has {self.dims} spatial axes, the shape {shape} has {len(shape)}.")
        for length in shape:
            self.output_length(length)
        lengths = [self._lengths(length) for length in shape]
        voxels = [math.prod(map_shape) for map_shape in zip(*lengths, strict=True)]
        return zip(self.layers(), voxels, voxels[1:], strict=False)

    def _lengths(self, length: int) -> list[int]:
        """Length along an axis of the input and of what leaves each layer."""
        return list(accumulate(self.layers(), lambda before, layer: layer.length(before), initial=length))

    def _needs(self, first: int, last: int) -> tuple[int, int]:
        """First and last input voxel that output voxels ``first`` to ``last`` are made of."""
        for layer in reversed(self.layers()):
            first, last = layer.needs(first, last)
        return first, last

    def _channels(self, level: int) -> int:
        return self.width << level

    def _down(self, level: int) -> Iterator[Layer]:
        inputs = self._channels(level - 1) if level else self.in_channels
        channels = self._channels(level)
        yield from self._double(f"down{level}", inputs, channels)
        if self.dropout and level >= self.depth - 2:
            yield Layer(f"down{level}_dropout", "dropout", channels, channels)
        if level < self.depth - 1:
            pool: Op = "indexed_pool" if self.upsampling == "max_unpool" else "pool"
            yield Layer(f"down{level}_pool", pool, channels, channels)

    def _up(self, level: int) -> Iterator[Layer]:
        name, channels = f"up{level}", self._channels(level)
        yield from self._double_resolution(name, 2 * channels, channels)
        joined = 2 * channels if self.skip == "concat" else channels
        if self.skip != "none":
            yield Layer(f"{name}_join", self.skip, channels, joined)
        yield from self._double(name, joined, channels)

    def _double_resolution(self, name: str, inputs: int, outputs: int) -> Iterator[Layer]:
        op, padded = _UPSAMPLE[self.upsampling], self.padding == "same"
        if op == "shuffle":
            expanded = outputs * 2**self.dims
            yield Layer(f"{name}_expand", "convolution", inputs, expanded, kernel=3, padded=padded)
            inputs = expanded
        elif op != "transposed":
            yield Layer(f"{name}_halve", "convolution", inputs, outputs)
            inputs = outputs
        yield Layer(f"{name}_upsample", op, inputs, outputs, padded=padded)

    def _double(self, name: str, inputs: int, outputs: int) -> Iterator[Layer]:
        """Two 3x3 convolutions, each with its norm and ReLU."""
        padded, normed = self.padding == "same", self.norm == "batch"
        for index, channels in ((1, inputs), (2, outputs)):
            yield Layer(f"{name}_conv{index}", "convolution", channels, outputs, 3, padded, bias=not normed)
            if normed:
                yield Layer(f"{name}_norm{index}", "batch_norm", outputs, outputs)
            yield Layer(f"{name}_relu{index}", "relu", outputs, outputs)


def _illegal(length: int, reach: Reach) -> str:
    """Why a length is refused, and which ones are not."""
    below = length - (length - reach.minimum) % reach.stride
    nearest = f"{below} and {below + reach.stride}" if length > reach.minimum else f"{reach.minimum}"
    legal = f"{reach.minimum} + k * {reach.stride}"
    return (
        f"The network takes no input of {length} voxels along an axis: legal are {legal}, the nearest {nearest}."
    )
