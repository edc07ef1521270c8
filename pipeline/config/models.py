"""Jobs that make checkpoints: training, and conversion of networks of somebody else."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.values import Bytes, Device, Holes, Job, Names, Numbers, Positive, Voxels
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.network import OutputMeaning


class Pair(Job):
    """A volume and its target, for training."""

    image: str = Field(description="volume")
    target: str = Field(description="class ids, of the same shape")
    weight: float = Field(1.0, gt=0, description="how often it is drawn from, beside the others")


class TrainJob(Job):
    """Train a U-Net on pairs of volumes and targets."""

    pairs: tuple[Pair, ...] = Field(min_length=1, description="what to learn from")
    output: str = Field(description="checkpoint to write (.safetensors)")
    validation: tuple[Pair, ...] = Field(
        (), description="what the learning curve is measured on; never trained on"
    )
    architecture: UNetArchitecture = Field(description="the network; in_channels and classes must fit the pairs")
    classes: Names = Field(min_length=2, description="names of the class ids 0, 1, ...")
    patch: Voxels = Field((256, 256), description="voxels of a patch of target, along the network's axes")
    batch: Positive = Field(8, description="patches a step")
    steps: Positive = Field(1000, description="steps of the optimiser")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of AdamW (one cycle)")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of AdamW")
    ignore: int | None = Field(None, description="target value that no loss and no metric counts")
    holes: Holes = Field("error", description="what a stored chunk that is missing from a volume or target means")
    augment: bool = Field(True, description="random flips and right-angle turns in the plane")
    cache: Bytes = Field(2 << 30, description="volumes up to this size in all are held decoded in memory")
    seed: int = Field(0, ge=0, description="seed of everything that is random")
    device: Device = Field("auto", description="where to train")
    threads: Positive | None = Field(None, description="threads of the network")
    validate_every: Positive = Field(100, description="steps between two points of the learning curve")
    time_limit: float | None = Field(None, gt=0, description="stop, with a checkpoint, after so many seconds")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.classes) != max(2, self.architecture.classes):
            raise ValueError(
                f"{len(self.classes)} class names for a network of {self.architecture.classes} outputs"
            )
        if len(self.patch) != self.architecture.dims:
            raise ValueError(f"patch {self.patch} has not the {self.architecture.dims} axes of the network")
        return self


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
