"""The job models: the one source of the command line's options, the flows' parameters and the server's forms.

A job is loose at the edge (``"2048,2048"``, ``"4GiB"``, ``"0:1000,500:2500"``) and strict inside: frozen, typed,
and every key that it does not know is refused with the nearest one that it does.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from pipeline.errors import InputError
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.network import OutputMeaning

Kind = Literal["labels", "probabilities", "logits"]
Precision = Literal["auto", "float32", "bfloat16", "float64"]
Device = Literal["auto", "cpu", "cuda"]
Mode = Literal["auto", "exact", "blend"]
Turns = Literal["none", "flips", "all"]
Holes = Literal["error", "background"]


def _voxels(value: Any) -> Any:
    """Accept ``"2048,2048"`` for a list of whole numbers."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return (value,) if isinstance(value, int) else value


def _numbers(value: Any) -> Any:
    """Accept ``"0.5,0.5"`` or one number for a list of numbers."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return (value,) if isinstance(value, int | float) else value


def _names(value: Any) -> Any:
    """Accept ``"background,nucleus"`` for a list of names."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _ranges(value: Any) -> Any:
    """Accept ``"0:1000,500:2500"`` for a list of start and stop; either may be left out."""
    if not isinstance(value, str):
        return value
    pairs = []
    for part in value.split(","):
        found = re.fullmatch(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*", part)
        if found is None:
            raise ValueError(f"{part.strip()!r} is not start:stop, for example 0:1000")
        pairs.append(tuple(None if number is None else int(number) for number in found.groups()))
    return pairs


def _bytes(value: Any) -> Any:
    """Accept ``"4GiB"`` for a number of bytes."""
    if not isinstance(value, str):
        return value
    try:
        return int(TypeAdapter(ByteSize).validate_python(value))
    except ValidationError:
        raise ValueError(f"{value!r} is not a number of bytes, for example 4GiB or 500MB") from None


Positive = Annotated[int, Field(ge=1)]
Overlap = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_voxels)]
Voxels = Annotated[tuple[Positive, ...], BeforeValidator(_voxels)]
Ranges = Annotated[tuple[tuple[int | None, int | None], ...], BeforeValidator(_ranges)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_numbers)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=1)]


class Job(BaseModel):
    """What all jobs have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SegmentJob(Job):
    """Segment a volume: the main job."""

    input: str = Field(description="volume to segment: a Zarr array or an OME-Zarr image")
    output: str = Field(description="result, OUT.zarr; its run is kept beside it, in OUT.zarr.run")
    model: str = Field(description="checkpoint (.safetensors)")
    axes: str | None = Field(
        None, description="names of the input's stored axes (cyx, zyx ...), where it has none"
    )
    level: int = Field(0, ge=0, description="resolution level of the input; 0 is the finest")
    region: Ranges | None = Field(None, description="part of the input, spatial axes: 0:1000,500:2500")
    kind: Kind = Field("labels", description="what to store: class ids, probabilities or the network's raw output")
    dtype: Literal["uint8", "float32"] | None = Field(
        None, description="how to store probabilities: uint8 is round(255 p), the default, or float32"
    )
    chunk: Voxels | None = Field(None, description="voxels of a chunk, the unit of work: 2048,2048")
    shard: Voxels | None = Field(None, description="voxels of a stored shard; a chunk is a whole multiple of it")
    tile: Voxels | None = Field(None, description="voxels that a network input yields; a multiple of the stride")
    batch: Positive | None = Field(
        None, description="network inputs at a time on a GPU; a CPU takes them one by one"
    )
    mode: Mode = Field(
        "auto", description="exact tiles, or overlapping ones, blended; auto is exact wherever the network can be"
    )
    blend: Literal["gaussian", "mean"] | None = Field(
        None, description="weights of overlapping tiles; gaussian where none are named"
    )
    overlap: Overlap | None = Field(
        None, description="voxels that blended tiles share: 64,64; a quarter of the tile where left out"
    )
    tta: Turns = Field(
        "none",
        description="average over flips, or over all flips and right-angle turns (--tta alone)",
        json_schema_extra={"flag": "all"},
    )
    holes: Holes = Field("error", description="what a stored chunk that is missing from the input means")
    precision: Precision = Field("auto", description="arithmetic of the network; auto is float32")
    device: Device = Field("auto", description="where the network runs; auto takes the GPUs that there are")
    workers: Positive | None = Field(None, description="worker processes on this machine; one a GPU at most")
    threads: Positive | None = Field(None, description="threads of the network in each worker")
    scheduler: str | None = Field(None, description="address of an existing Dask cluster: tcp://host:8786")
    memory_limit: Bytes | None = Field(None, description="memory of a worker: 4GiB")
    retries: int = Field(2, ge=0, le=20, description="further attempts at a chunk that failed")
    pyramid: bool = Field(True, description="store coarser levels of the result for viewers")


class IngestJob(Job):
    """Bring an image into OME-Zarr."""

    source: str = Field(description="image, folder or glob of slices, .npy file, or Zarr")
    output: str = Field(description="volume to make, OUT.zarr")
    axes: str | None = Field(None, description="names of the source's axes (zyx, cyx, yxc ...), where it has none")
    level: int = Field(0, ge=0, description="resolution level of the source; 0 is the finest")
    voxel_size: Annotated[tuple[float, ...], BeforeValidator(_voxels)] | None = Field(
        None, description="extent of a voxel along each spatial axis: 0.5,0.5"
    )
    unit: str | None = Field(None, description="unit of the voxel size, as OME-NGFF names it: micrometer")
    shard: Voxels | None = Field(None, description="voxels of a stored shard: 2048,2048")
    classes: Names | None = Field(
        None, description="names of the class ids, if it is a class map: background,cell"
    )
    values: dict[int, int] | None = Field(None, description="class id of each value of the source")
    threshold: float | None = Field(
        None, description="make class 1 of all values above this, class 0 of the others"
    )
    threads: Positive = Field(2, description="shards that are copied at once")
    pyramid: bool = Field(True, description="store coarser levels too")


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


class CheckJob(Job):
    """Try a checkpoint on a part of a volume, whole and tiled."""

    model: str = Field(description="checkpoint (.safetensors)")
    input: str = Field(description="volume to try it on")
    axes: str | None = Field(
        None, description="names of the input's stored axes (cyx, zyx ...), where it has none"
    )
    level: int = Field(0, ge=0, description="resolution level of the input; 0 is the finest")
    region: Ranges | None = Field(
        None, description="the part, spatial axes: 0:1000,500:2500; a corner if left out"
    )
    precision: Precision = Field("auto", description="arithmetic of the network; auto is float32")
    device: Device = Field("auto", description="where the network runs")


class EvaluateJob(Job):
    """Measure a prediction against a target."""

    prediction: str = Field(description="class ids, as `overtile segment` stores them")
    target: str = Field(description="class ids, of the same shape")
    out: str | None = Field(None, description="folder for metrics.json and the statistics of each chunk")
    region: Ranges | None = Field(None, description="part of both, spatial axes: 0:1000,500:2500")
    classes: Names | None = Field(
        None, description="names of the class ids: background,cell; the prediction's own otherwise"
    )
    ignore: int | None = Field(None, description="target value that is not counted")
    threads: Positive = Field(2, description="chunks that are compared at once")


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


AnyJob = TypeVar("AnyJob", bound=Job)


def load_job(model: type[AnyJob], options: Mapping[str, Any], file: str | Path | None = None) -> AnyJob:
    """Make a job of a file's content and of options, which win over it.

    Args:
        model: which job.
        options: values by field name; None means not given.
        file: job file (YAML or JSON), or None.

    Raises:
        InputError: the file is not readable, a key is unknown (the nearest known one is named), a value is wrong.
    """
    values = _read(file) if file is not None else {}
    values |= {key: value for key, value in options.items() if value is not None}
    for key in values:
        if key not in model.model_fields:
            near = difflib.get_close_matches(str(key), model.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(model.model_fields)}"
            raise InputError(f"{file or 'job'}: unknown key {key!r}{hint}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(explain(error)) from error


def explain(error: ValidationError) -> str:
    """Return pydantic's findings as one readable sentence a finding."""
    found = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"] if not str(part).startswith(("function-", "tuple[")))
        option = f"--{place.replace('_', '-')}" if place and "." not in place else place or "job"
        given = "" if item["type"] == "missing" else f" (given: {item['input']!r})"
        message = "is needed" if item["type"] == "missing" else item["msg"].removeprefix("Value error, ")
        found.append(f"{option}: {message}{given}")
    return "; ".join(found)


def _read(file: str | Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(file).read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file}: the job file cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: a job file is a list of `key: value` lines")
    return {str(key).replace("-", "_"): value for key, value in content.items()}
