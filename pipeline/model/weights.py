"""The tensors of a checkpoint: written whole or not at all, and read only when every one of them fits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pipeline.errors import EnvironmentFaultError, ModelError
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import CheckpointHeader, StrPath, digest, read_header
from pipeline.model.unet import UNet


def save_checkpoint(path: StrPath, model: UNet, header: CheckpointHeader) -> str:
    """Write a checkpoint: to a temporary name beside it, to disk, then under its own name.

    Args:
        path: file to write; one that is there is replaced, its folder is made if needed.
        model: the network; its tensors are stored in their own dtype.
        header: what the file says of itself; its architecture must be the model's.

    Returns:
        The digest of the file (``sha256:...``).

    Raises:
        ModelError: if the tensors are not those of the header's architecture, or not finite.
        EnvironmentFaultError: if the file cannot be written; what was there before stays as it was.
    """
    if model.architecture != header.architecture:
        raise ModelError(
            f"The model is {model.architecture!r}, but the header says {header.architecture!r}: make them the same."
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    _check(tensors, header.architecture, "The model")
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(save(tensors, metadata=header.to_metadata()))
        _sync(temporary)
        found = digest(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise EnvironmentFaultError(f"The checkpoint {target} cannot be written: {error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return found


def load_model(path: StrPath, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> UNet:
    """Read a checkpoint into a network for inference: evaluation mode, no gradients.

    Args:
        path: the checkpoint.
        dtype: floating-point type of the network; the stored numbers are rounded to it.
        device: where the network is put.

    Raises:
        ModelError: if the header is refused (see ``read_header``), or a tensor is missing, unexpected, of another
            shape or not finite in ``dtype``; the tensor is named.
    """
    header = read_header(path)
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The tensors of {path} cannot be read: {error}.") from error
    tensors = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
    _check(tensors, header.architecture, f"The checkpoint {path}")
    model = _empty(header.architecture)
    model.load_state_dict(tensors, assign=True)
    return model.to(device).eval().requires_grad_(False)


def _check(tensors: Mapping[str, Tensor], architecture: UNetArchitecture, owner: str) -> None:
    """Refuse tensors that are not exactly those of an architecture, or not finite."""
    expected = _empty(architecture).state_dict()
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ModelError(f"{owner} lacks tensors that its architecture has: {', '.join(missing)}.")
    if unexpected := sorted(tensors.keys() - expected.keys()):
        raise ModelError(f"{owner} has tensors that its architecture has not: {', '.join(unexpected)}.")
    for name, wanted in expected.items():
        tensor = tensors[name]
        if tensor.shape != wanted.shape or tensor.is_floating_point() != wanted.is_floating_point():
            raise ModelError(
                f"{owner} has the tensor {name} as {tensor.dtype} {tuple(tensor.shape)};"
                f" its architecture has it as {wanted.dtype} {tuple(wanted.shape)}."
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{owner} has values in the tensor {name} that are not finite in {tensor.dtype}.")


def _empty(architecture: UNetArchitecture) -> UNet:
    """Build a network without memory for its tensors."""
    with torch.device("meta"):
        return UNet(architecture)


def _sync(path: StrPath) -> None:
    """Ask the operating system to put a file or folder on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
