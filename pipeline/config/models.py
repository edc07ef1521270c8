"""The job that makes a checkpoint of a network of somebody else."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.values import Bytes, Job, Names, Numbers, Positive
from pipeline.model.network import OutputMeaning


class ConvertJob(Job):
    """Make a checkpoint of a network of somebody else."""

    weights: str = Field(
        description="state_dict (.safetensors; .pt/.pth with trust), or a bioimage.io package (.zip, folder, yaml)"
    )
    output: str = Field(description="checkpoint to write (.safetensors)")
    constructor: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="what makes the network, module:callable: monai.networks.nets:UNet",
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the constructor")
    dims: int | None = Field(
        None, ge=2, le=3, description="spatial axes, 2 or 3; else of the network's first convolution"
    )
    in_channels: Positive | None = Field(
        None, description="channels of the volume; else of the network's first convolution"
    )
    classes: Names | None = Field(None, description="names of the class ids: background,nucleus")
    output_meaning: OutputMeaning | None = Field(
        None, description="what the network gives; logits, if nothing says"
    )
    mean: Numbers | None = Field(None, description="mean of each channel, in the volume's values: 120.5,98")
    std: Numbers | None = Field(None, description="standard deviation of each channel, in the volume's values")
    axes: Literal["yx", "zyx"] | None = Field(None, description="the network's spatial axes")
    voxel_size: Numbers | None = Field(
        None, description="voxel size of the training data along each axis: 0.5,0.5"
    )
    unit: str | None = Field(None, description="unit of the voxel size: micrometer")
    threshold: float | None = Field(
        None, gt=0, lt=1, description="probability from which a sigmoid says foreground; 0.5, if nothing says"
    )
    trust: Names = Field((), description="digests of files that you vouch for: sha256:...")
    time_limit: float = Field(300.0, gt=0, description="seconds for building and measuring the network")
    memory_limit: Bytes | None = Field(
        None, description="memory for building and measuring it: 4GiB; else three quarters of this machine's"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std are given together or not at all")
        if self.axes is not None and self.dims is not None and len(self.axes) != self.dims:
            raise ValueError(f"axes {self.axes} are not {self.dims} dims")
        for trusted in self.trust:
            if not re.fullmatch(r"sha256:[0-9a-f]{64}", trusted):
                raise ValueError(f"trust {trusted!r} is not a digest: sha256: and 64 hexadecimal digits")
        return self
