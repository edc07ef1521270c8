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
from torch import Tensor, nn

from pipeline.errors import EnvironmentFaultError, ModelError
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import Architecture, CheckpointHeader, StrPath, digest, read_header
from pipeline.model.constructors import construct
from pipeline.model.unet import UNet

CODE = "overtile.code"
"""The entry of the file that holds the source of a network's constructor, as bytes, where it needs one."""


def save_checkpoint(
    path: StrPath,
    model: nn.Module,
    header: CheckpointHeader,
    *,
    code: bytes | None = None,
    allowed: frozenset[str] | None = None,
) -> str:
    """Write a checkpoint: to a temporary name beside it, to disk, then under its own name.

    Args:
        path: file to write; one that is there is replaced, its folder is made if needed.
        model: the network; its tensors are stored in their own dtype, one that has two names under both.
        header: what the file says of itself; its architecture must be the model's.
        code: source of the module of the network's constructor, where it is not an installed one.
        allowed: what may be called to build it; by default what the operator allows (see ``allowed_packages``).

    Returns:
        The digest of the file (``sha256:...``).

    Raises:
        ModelError: if the tensors are not those of the header's architecture, or not finite.
        EnvironmentFaultError: if the file cannot be written; what was there before stays as it was.
    """
    found = getattr(model, "architecture", None)
    if isinstance(header.architecture, UNetArchitecture) and found != header.architecture:
        raise ModelError(
            f"The model is {found!r}, but the header says {header.architecture!r}: make them the same."
        )
    tensors = _apart({name: tensor.detach().cpu() for name, tensor in _named(model).items()})
    check_tensors(tensors, _named(_empty(header.architecture, code, allowed)), "The model")
    if code is not None:
        tensors[CODE] = torch.frombuffer(bytearray(code), dtype=torch.uint8)
    return _write(Path(path), save(tensors, metadata=header.to_metadata()))


def load_model(
    path: StrPath,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    allowed: frozenset[str] | None = None,
) -> nn.Module:
    """Read a checkpoint into a network for inference: evaluation mode, no gradients.

    Args:
        path: the checkpoint.
        dtype: floating-point type of the network; the stored numbers are rounded to it.
        device: where the network is put.
        allowed: what may be called to build it; by default what the operator allows (see ``allowed_packages``).

    Raises:
        ModelError: if the header is refused (see ``read_header``), the network cannot be built (see ``construct``),
            or a tensor is missing, unexpected, of another shape or not finite in ``dtype``; the tensor is named.
    """
    header = read_header(path)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The tensors of {path} cannot be read: {error}.") from error
    code = tensors.pop(CODE, None)
    model = _empty(header.architecture, None if code is None else code.numpy().tobytes(), allowed)
    fill(model, tensors, f"The checkpoint {path}", dtype=dtype)
    return model.to(device)


def fill(
    model: nn.Module, tensors: Mapping[str, Tensor], owner: str, *, dtype: torch.dtype = torch.float32
) -> None:
    """Put tensors into a network, all of them, and make it ready for inference.

    Args:
        model: the network; on the meta device it takes the tensors themselves, else their values.
        tensors: its parameters and buffers by name.
        owner: who has them, for the message: ``The checkpoint m.safetensors``.
        dtype: floating-point type of the network.

    Raises:
        ModelError: if a tensor is missing, unexpected, of another shape, not finite, or the network does not hold
            it afterwards (two names of one tensor with two values, or a network that changes what it loads).
    """
    model.to(dtype)
    converted = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }
    check_tensors(converted, _named(model), owner)
    try:
        model.load_state_dict(converted, assign=isinstance(model, UNet))
    except Exception as error:  # a network's own way of loading
        raise ModelError(f"{owner} cannot be loaded by its network: {type(error).__name__}: {error}.") from error
    for name, held in _named(model).items():
        if not torch.equal(held, converted[name].to(held.dtype)):
            raise ModelError(
                f"{owner} has the tensor {name}, but its network holds other values after loading: it changes what it"
                " loads, or gives one tensor several names, for which there are different values."
            )
    model.eval().requires_grad_(False)


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], owner: str) -> None:
    """Refuse tensors that are not exactly those of a network, or not finite.

    Raises:
        ModelError: which names the tensor.
    """
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


def _named(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers that a network stores, by name."""
    state = model.state_dict()
    if other := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ModelError(
            f"The network stores more than tensors ({', '.join(other)}), which a checkpoint cannot hold."
        )
    return state


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors, contiguous, each in memory of its own: a file of tensors takes no shared ones."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.contiguous().clone() if place in seen else tensor.contiguous()
        seen.add(place)
    return apart


def _empty(architecture: Architecture, code: bytes | None, allowed: frozenset[str] | None) -> nn.Module:
    """Build a network to put tensors in: ours without memory for them, others for real.

    A network of somebody else may have buffers that it does not store, and those are made when it is built.
    """
    if isinstance(architecture, UNetArchitecture):
        with torch.device("meta"):
            return construct(architecture)
    return construct(architecture, code=code, allowed=allowed)


def _write(target: Path, content: bytes) -> str:
    """Put a file in its place in one step, and return its digest."""
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
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


def _sync(path: StrPath) -> None:
    """Ask the operating system to put a file or folder on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
