"""The job of training: what is learnt from, what it is measured on, and how. What is left out is planned from the data.

Numbers of space are in voxels of the level that is trained on, along the network's axes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from pipeline.config.losses import LossSettings
from pipeline.config.values import Bytes, Device, Holes, Job, Names, Positive, Ranges, Voxels
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import Normalisation

Share = Annotated[float, Field(gt=0, lt=1)]
Instances = Literal["none", "foreground", "boundary", "three_class"]
LoggerName = Literal["csv", "tensorboard", "mlflow", "wandb"]
SplitBy = Literal["auto", "none", "volume", "slice", "block"]


class Pair(Job):
    """A volume and its target, for training."""

    image: str = Field(description="image of any format")
    target: str = Field(
        description="class ids (or instance ids, see `instances`) of the same shape; or polygons: .geojson, .gpkg"
    )
    weight: float = Field(1.0, gt=0, description="how often it is drawn from, beside the others")
    level: int = Field(0, ge=0, description="resolution level of the image and of its target; 0 is the finest")
    within: str | None = Field(
        None,
        description="what of it is labelled: a mask volume or polygons; everything outside is ignored",
    )
    boxes: tuple[Ranges, ...] = Field(
        (), description="what of it is labelled, as boxes of spatial axes: 0:512,1024:1536; all where left out"
    )
    attribute: str | None = Field(None, description="attribute of the target's polygons that tells their class")


class Split(Job):
    """How the pairs are split into what is learnt from and what the network is measured on."""

    by: SplitBy = Field(
        "auto",
        description="volume, slice or block: what is held out as a whole; auto takes the first that there are five"
        " of; none measures nothing",
    )
    share: Share = Field(0.2, description="share that is held out")
    folds: int = Field(
        0, ge=0, le=20, description="train so many networks, each measured on another part of the pairs; 0: one"
    )
    block: Voxels | None = Field(None, description="voxels of a block, along the network's axes; two patches")
    guard: int | None = Field(
        None, ge=0, description="voxels around a held-out block that neither side uses; what the network sees"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.folds and self.by == "none":
            raise ValueError(
                f"{self.folds} folds are measured on parts of the pairs: split by something, not by none"
            )
        return self


class Elastic(Job):
    """Elastic deformation (Ronneberger et al. 2015, section 3.1): random displacements of a coarse grid, bicubic."""

    probability: float = Field(0.5, ge=0, le=1, description="share of the patches that are deformed")
    sigma: float = Field(
        10.0,
        gt=0,
        description="standard deviation of the displacements, in voxels; less where the grid's points are nearer than"
        " six times that, so that nothing folds",
    )
    grid: int = Field(3, ge=2, le=16, description="points of the coarse grid along each axis of the plane")


class Augmentation(Job):
    """What is done to patches at random; each with its own chance, on image and target alike.

    Where voxels move, real ones are read around the patch (for networks without padding, around its context): as
    many as the change brings into it, at most its own length again on each side along y and x. Beyond that, and
    outside of the volume, lies the mirror image, whose target is ignored.
    """

    flips: bool = Field(True, description="flips along every axis")
    turns: bool = Field(True, description="right-angle turns in the plane, of square patches")
    elastic: Elastic | None = Field(None, description="elastic deformation")
    scale: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="largest change of size: 0.2 is 0.8 to 1.25 times; what comes into a patch is read around it, at"
        " most its length again on each side",
    )
    rotation: float = Field(0.0, ge=0, le=180, description="largest turn in the plane, in degrees")
    brightness: float = Field(0.0, ge=0, description="largest shift, in standard deviations of the channel")
    contrast: float = Field(0.0, ge=0, lt=1, description="largest change of contrast around the mean")
    gamma: float = Field(0.0, ge=0, lt=1, description="largest change of the exponent: 0.3 is 0.7 to 1.43")
    noise: float = Field(0.0, ge=0, description="largest deviation of added noise, in standard deviations")
    blur: float = Field(0.0, ge=0, description="largest sigma of a Gaussian blur, in voxels")
    stain: float = Field(
        0.0, ge=0, le=1, description="jitter of the stains' strengths of H&E images (RGB), as a share"
    )


class TrainJob(Job):
    """Train a U-Net on pairs of volumes and targets; what is left out is planned from the data, with its reasons."""

    pairs: tuple[Pair, ...] = Field(min_length=1, description="what to learn from")
    output: str = Field(description="checkpoint to write (.safetensors)")
    validation: tuple[Pair, ...] = Field(
        (), description="what the network is measured on, never trained on; in place of `split`"
    )
    split: Annotated[Split, BeforeValidator(lambda value: {"by": value} if isinstance(value, str) else value)] = (
        Field(Split(), description="how pairs are held out to measure on, where there is no `validation`")
    )
    classes: Names = Field(min_length=2, description="names of the class ids 0, 1, ...")
    instances: Instances = Field(
        "none",
        description="what becomes of targets that are instance ids: foreground, boundary, or three_class (background,"
        " interior, boundary)",
    )
    boundary: Positive = Field(1, description="voxels from an instance's edge that are boundary, on its inside")
    architecture: UNetArchitecture | None = Field(None, description="the network; planned where left out")
    patch: Voxels | None = Field(None, description="voxels of a patch of target, along the network's axes")
    batch: Positive | None = Field(None, description="patches a step")
    steps: Positive | None = Field(None, description="steps of the optimiser")
    balance: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the patches that hold a class drawn evenly; the others lie anywhere",
    )
    loss: Annotated[
        LossSettings | None, BeforeValidator(lambda value: {"kind": value} if isinstance(value, str) else value)
    ] = Field(None, description="what is made small; planned from the balance of classes where left out")
    optimiser: Literal["adamw", "sgd"] = Field("adamw", description="AdamW, or SGD with the paper's momentum")
    learning_rate: float | None = Field(None, gt=0, description="peak learning rate; 0.001 of AdamW, 0.01 of SGD")
    momentum: float = Field(0.99, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "one_cycle", description="how the learning rate changes over the steps"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the rate of `cosine` rises")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the moving average of the weights that is kept; 0: none"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of the steps: bfloat16 and float16 are mixed with float32"
    )
    ignore: int | None = Field(None, description="target value that no loss and no metric counts")
    holes: Holes = Field("error", description="what a stored chunk that is missing from a volume or target means")
    augment: Annotated[Augmentation | None, BeforeValidator(lambda value: _augmentation(value))] = Field(
        None,
        description="random changes of patches; true: flips and turns; false: none; planned where left out",
    )
    normalisation: Normalisation | None = Field(
        None, description="mean and standard deviation of each channel; measured where left out"
    )
    cache: Bytes = Field(2 << 30, description="memory for decoded voxels")
    loaders: Positive | None = Field(None, description="threads that make patches; as many as there are cores")
    dry_run: bool = Field(False, description="show what is planned and why, and train nothing")
    restart: bool = Field(False, description="throw away what an unfinished training left behind, and begin anew")
    seed: int = Field(0, ge=0, description="seed of everything that is random")
    deterministic: bool = Field(False, description="refuse operations whose bits differ from run to run (GPU)")
    device: Device = Field("auto", description="where to train")
    devices: Positive = Field(
        1, description="GPUs of this machine that share each batch (on a CPU: processes); `batch` is that of all"
    )
    threads: Positive | None = Field(None, description="threads of the network")
    validate_every: Positive | None = Field(None, description="steps between two points of the learning curve")
    patience: Positive | None = Field(
        None, description="stop when so many points of the curve have brought nothing better"
    )
    time_limit: float | None = Field(None, gt=0, description="stop, with a checkpoint, after so many seconds")
    calibrate: bool = Field(
        True, description="store the best threshold and temperature, measured on what is held out"
    )
    loggers: Annotated[tuple[LoggerName, ...], BeforeValidator(lambda value: _split(value))] = Field(
        ("csv",), description="where losses and metrics are logged, beside the checkpoint"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.validation and self.split != Split():
            raise ValueError("validation and split are two ways to say what the network is measured on: give one")
        if self.architecture is None:
            return self
        if len(self.classes) != max(2, self.architecture.classes):
            raise ValueError(
                f"{len(self.classes)} class names for a network of {self.architecture.classes} outputs"
            )
        if self.patch is not None and len(self.patch) != self.architecture.dims:
            raise ValueError(f"patch {self.patch} has not the {self.architecture.dims} axes of the network")
        return self

    @model_validator(mode="after")
    def _instances_fit(self) -> Self:
        if self.loss is not None and self.loss.kind == "border_cross_entropy" and self.instances == "none":
            raise ValueError(
                "loss border_cross_entropy is made of instance ids: say what becomes of them (instances)"
            )
        expected = {"none": None, "foreground": 2, "boundary": 2, "three_class": 3}[self.instances]
        if expected is not None and len(self.classes) != expected:
            raise ValueError(
                f"instances: {self.instances} makes {expected} classes, but {len(self.classes)} are named"
            )
        return self


def _split(value: Any) -> Any:
    """Accept ``"csv,tensorboard"`` for a list of names."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _augmentation(value: Any) -> Any:
    """Accept ``true`` for flips and turns, ``false`` for nothing."""
    if isinstance(value, bool):
        return {"flips": value, "turns": value}
    return value
