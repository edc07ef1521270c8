"""A network of somebody else: the name of its constructor, and what was measured of it when it was converted; no torch.

A checkpoint carries this instead of formulas, so that planning needs neither the network's package nor torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.geometry.reach import Reach
from pipeline.model.network import OutputMeaning

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Field(ge=0)]
Length = Annotated[int, Field(ge=1)]


class AxisReach(BaseModel):
    """What the network sees along one axis: the fields of :class:`pipeline.geometry.Reach`, in voxels."""

    model_config = _STRICT

    stride: Length = Field(description="Shift under which the network is equivariant.")
    halo: tuple[Count, Count] = Field(description="Real voxels needed before and after the output.")
    offset: Count = Field(description="Input voxel below output voxel 0.")
    shrink: Count = Field(description="Input length minus output length.")
    minimum: Length = Field(description="Smallest legal input length; others are minimum + k * stride.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.offset <= self.shrink < self.minimum:
            raise ValueError(
                f"offset {self.offset} <= shrink {self.shrink} < minimum {self.minimum} does not hold"
            )
        return self

    def reach(self) -> Reach:
        """Return it for the geometry."""
        return Reach(self.stride, self.halo, self.offset, self.shrink, self.minimum)


class Cost(BaseModel):
    """What one input of so many voxels costs, counted on a network without memory for its numbers."""

    model_config = _STRICT

    voxels: Length
    operations: Count = Field(description="Floating-point operations, two a multiply-add.")
    peak_elements: Length = Field(description="Most elements alive at one time, the weights not counted.")


class Analysis(BaseModel):
    """What was measured of a network (see docs/exactness.md).

    ``reaches`` holds one entry per spatial axis. Where ``exact`` is false, ``reasons`` say why, and of the reaches
    only the sizes (stride, offset, shrink, minimum) hold: legal inputs, and where their output lies.
    """

    model_config = _STRICT

    exact: bool
    reasons: tuple[str, ...] = ()
    reaches: tuple[AxisReach, ...] = Field(min_length=2, max_length=3)
    parameters: Count
    costs: tuple[Cost, ...] = Field(min_length=2, description="At growing numbers of voxels.")
    method: int = Field(default=1, description="Version of the analysis.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.exact == bool(self.reasons):
            raise ValueError("a network is exact, or there are reasons why it is not")
        if any(a.voxels >= b.voxels for a, b in pairwise(self.costs)):
            raise ValueError("costs must be at growing numbers of voxels")
        return self


class ConstructedArchitecture(BaseModel):
    """A network made by calling a constructor of an installed package, which the operator allows."""

    model_config = _STRICT

    kind: Literal["constructor"] = Field(default="constructor", description="The family of networks.")
    constructor: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="module:callable, such as monai.networks.nets:UNet."
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the constructor.")
    dims: Literal[2, 3] = Field(description="Spatial axes: 2 (y, x) or 3 (z, y, x).")
    in_channels: Length = Field(description="Channels of the volume.")
    classes: Length = Field(description="Channels of the output: 1 is a sigmoid, more are a softmax.")
    output: OutputMeaning = Field(
        default="logits", description="What the network gives: logits, probabilities or classes (ids)."
    )
    analysis: Analysis = Field(description="What was measured of the network.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.analysis.reaches) != self.dims:
            raise ValueError(f"{len(self.analysis.reaches)} reaches for {self.dims} axes")
        return self

    @property
    def exact(self) -> bool:
        """Whether tiles can equal the whole image."""
        return self.analysis.exact

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why they cannot."""
        return self.analysis.reasons

    def reaches(self) -> tuple[Reach, ...]:
        """What the network sees along each axis, in voxels."""
        return tuple(axis.reach() for axis in self.analysis.reaches)

    def parameters(self) -> int:
        """Learned numbers."""
        return self.analysis.parameters

    def operations(self, shape: tuple[int, ...]) -> int:
        """Floating-point operations for one input of the spatial ``shape``, between what was counted."""
        return _between(self.analysis.costs, math.prod(shape), [c.operations for c in self.analysis.costs])

    def peak_elements(self, shape: tuple[int, ...]) -> int:
        """Most elements alive at one time for one input of the spatial ``shape``, between what was counted."""
        return _between(self.analysis.costs, math.prod(shape), [c.peak_elements for c in self.analysis.costs])


def _between(costs: Sequence[Cost], voxels: int, values: Sequence[int]) -> int:
    """Interpolate along a power law between two counts, and beyond them: exact for linear and quadratic growth."""
    last = len(costs) - 2
    index = next((i for i in range(last) if voxels <= costs[i + 1].voxels), last)
    a, b = costs[index], costs[index + 1]
    low, high = max(1, values[index]), max(1, values[index + 1])
    power = math.log(high / low) / math.log(b.voxels / a.voxels)
    return math.ceil(low * math.pow(voxels / a.voxels, power))
