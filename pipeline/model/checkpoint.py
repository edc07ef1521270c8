"""The header of a checkpoint: everything that planning needs to know of a model, read without torch.

A checkpoint is one safetensors file. Its metadata has one entry, ``overtile``: this header as JSON. The tensors are
named after the layers (``down0_conv1.weight``).
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from safetensors import SafetensorError, safe_open

from pipeline.errors import ModelError
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.constructed import ConstructedArchitecture

FORMAT: Literal["overtile-checkpoint/1"] = "overtile-checkpoint/1"
KEY = "overtile"

StrPath = str | os.PathLike[str]
Scalar = str | int | float | bool | None

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _kind(document: Any) -> str:
    """Return the family of a described or a made network; a U-Net where none is named."""
    found = document.get("kind", "unet") if isinstance(document, dict) else getattr(document, "kind", "unet")
    return str(found)


Architecture = Annotated[
    Annotated[UNetArchitecture, Tag("unet")] | Annotated[ConstructedArchitecture, Tag("constructor")],
    Discriminator(_kind),
]
"""The families of networks that a checkpoint may hold."""

_AXES = {2: "yx", 3: "zyx"}


class Normalisation(BaseModel):
    """``(voxel - mean) / std`` per channel; one for the whole volume, never per chunk."""

    model_config = _STRICT

    mean: tuple[float, ...] = Field(min_length=1, description="Mean of each channel, in the volume's values.")
    std: tuple[float, ...] = Field(min_length=1, description="Standard deviation of each channel, above zero.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means for {len(self.std)} standard deviations")
        if min(self.std) <= 0:
            raise ValueError(f"standard deviations must be above zero, these are {self.std}")
        return self


class CheckpointHeader(BaseModel):
    """What a checkpoint says of itself."""

    model_config = _STRICT

    format: Literal["overtile-checkpoint/1"] = Field(
        default=FORMAT, description="Format and version of this header."
    )
    architecture: Architecture = Field(description="The network that the tensors belong to.")
    normalisation: Normalisation = Field(description="What is done to voxels before the network sees them.")
    classes: tuple[str, ...] = Field(description="Names of the classes; background, foreground for a sigmoid.")
    axes: str = Field(description="Spatial axes in the order of the tensors: yx or zyx.")
    voxel_size: tuple[float, ...] | None = Field(
        default=None, description="Voxel size of the training data per axis."
    )
    unit: str | None = Field(default=None, description="Unit of the voxel size, such as nanometer.")
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="Probability from which a sigmoid says foreground."
    )
    temperature: float = Field(
        default=1.0, gt=0, description="What logits are divided by to become calibrated probabilities."
    )
    provenance: dict[str, Scalar] = Field(default_factory=dict, description="Where the weights come from.")

    @field_validator("classes")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(names) or len(set(names)) != len(names):
            raise ValueError(f"class names must be distinct and not empty, these are {names}")
        return names

    @model_validator(mode="after")
    def _fits_architecture(self) -> Self:
        architecture, names = self.architecture, max(self.architecture.classes, 2)
        if architecture.output == "classes":  # ids: as many classes as there are names
            names = max(len(self.classes), 2)
        if len(self.classes) != names:
            raise ValueError(
                f"{len(self.classes)} class names, but a network of {architecture.classes} output channels"
                f" tells {names} classes apart"
            )
        if len(self.normalisation.mean) != architecture.in_channels:
            raise ValueError(
                f"normalisation of {len(self.normalisation.mean)} channels for {architecture.in_channels}"
            )
        if self.axes != _AXES[architecture.dims]:
            raise ValueError(f"axes must be {_AXES[architecture.dims]!r}, not {self.axes!r}")
        size = self.voxel_size
        if self.temperature != 1 and architecture.output != "logits":
            raise ValueError(f"a temperature is of logits; this network gives {architecture.output}")
        if size is not None and (len(size) != architecture.dims or min(size) <= 0):
            raise ValueError(f"voxel_size must be {architecture.dims} lengths above zero, not {size}")
        return self

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of the safetensors file.

        A temperature of 1 is left out: versions that know of none read such a file too, and its digest is as it was.
        """
        left_out = {"temperature"} if self.temperature == 1 else set()
        return {KEY: self.model_dump_json(exclude=left_out)}


def read_header(path: StrPath) -> CheckpointHeader:
    """Read the header of a checkpoint; the tensors stay on disk.

    Raises:
        ModelError: if the file is missing, damaged, not one of ours, of another version, or inconsistent.
    """
    try:
        text = _metadata(Path(path)).get(KEY)
        if text is None:
            raise ModelError(
                f"{path} is a safetensors file without an {KEY!r} header: it was not written by Overtile."
            )
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelError(f"The {KEY!r} header of {path} is not JSON: {error}.") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise ModelError(f"{path} is of the format {found!r}; this version of Overtile reads {FORMAT!r} alone.")
    try:
        return CheckpointHeader.model_validate_json(text)
    except ValidationError as error:
        raise ModelError(f"The header of {path} is invalid: {_summary(error)}.") from error


def digest(path: StrPath) -> str:
    """Return ``sha256:...`` of the file's bytes, read piece by piece.

    Raises:
        ModelError: if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise ModelError(f"The checkpoint {path} cannot be read: {error.strerror}.") from error


def describe(path: StrPath) -> dict[str, Any]:
    """Return what ``overtile model info --json`` says of a checkpoint.

    ``halo`` and ``stride`` are in voxels along each axis; ``legal_sizes`` are ``minimum + k * step`` voxels of input.

    Raises:
        ModelError: as ``read_header``.
    """
    header = read_header(path)
    architecture, document = header.architecture, header.model_dump(mode="json")
    axes = dict(zip(header.axes, architecture.reaches(), strict=True))
    return {
        **{key: document[key] for key in ("architecture", "classes", "normalisation", "threshold", "temperature")},
        "parameters": architecture.parameters(),
        "halo": {axis: list(reach.halo) for axis, reach in axes.items()} if architecture.exact else None,
        "stride": {axis: reach.stride for axis, reach in axes.items()},
        "shrink": {axis: reach.shrink for axis, reach in axes.items()},
        "legal_sizes": {axis: {"minimum": reach.minimum, "step": reach.stride} for axis, reach in axes.items()},
        "exact": architecture.exact,
        "reasons": list(architecture.reasons),
        "digest": digest(path),
        **{key: document[key] for key in ("axes", "voxel_size", "unit", "provenance")},
    }


def _metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, whose table of tensors is checked against its length."""
    if not path.is_file():
        raise ModelError(f"There is no checkpoint file {path}.")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except OSError as error:
        raise ModelError(f"The checkpoint {path} cannot be read: {error}.") from error
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file, or a damaged one: {error}.") from error


def _summary(error: ValidationError) -> str:
    """Put the problems of a document on one line."""
    problems = ((".".join(map(str, found["loc"])), found["msg"]) for found in error.errors())
    return "; ".join(f"{place}: {message}" if place else message for place, message in problems)
