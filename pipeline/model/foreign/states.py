"""Weights of somebody else's file: read without running anything, and brought to the names of their network."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.model.checkpoint import digest

SAFETENSORS = ".safetensors"
TORCH = (".pt", ".pth", ".ckpt", ".bin")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")


def check_file(path: Path, trust: Collection[str]) -> None:
    """Refuse a file of weights that cannot or must not be read, before anything is.

    Args:
        path: safetensors, or a state_dict that torch has saved.
        trust: digests (``sha256:...``) of files that the user vouches for; safetensors need none.

    Raises:
        ModelError: which says what to do.
    """
    if "://" in str(path) or str(path).startswith(("http:", "https:")):
        raise ModelError(f"The weights are an address ({path}): download the file first, and name it here.")
    if not path.is_file():
        raise ModelError(f"There is no file of weights {path}.")
    if path.suffix == SAFETENSORS:
        return
    if path.suffix not in TORCH:
        raise ModelError(
            f"The weights {path} are neither {SAFETENSORS} nor a state_dict of torch ({', '.join(TORCH)}): save the"
            " network's state_dict() as one of these."
        )
    if not zipfile.is_zipfile(path):
        raise ModelError(
            f"The weights {path} are not a file of torch 1.6 or later (a zip archive): load and save them anew with"
            " a newer torch, best as safetensors."
        )
    found = digest(path)
    if found not in trust:
        given = f"; trust says {', '.join(sorted(trust))}" if trust else ""
        raise ModelError(
            f"{path} is a file of torch, whose format can carry code. Only tensors will be read of it, and only if you"
            f" know where it comes from: compare its digest with its source's, then give trust: {found}{given}."
        )


def read_tensors(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read the tensors of a file that :func:`check_file` let pass; nothing in it is run.

    Returns:
        The tensors by name, on the CPU, and what a person should know of how they were found.

    Raises:
        ModelError: if the file is damaged, or holds something else than dense tensors by name.
    """
    if path.suffix == SAFETENSORS:
        try:
            return load_file(path), []
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} is not a safetensors file, or a damaged one: {error}.") from error
    if any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(path).namelist()):
        raise ModelError(f"{path} is TorchScript, which is a program: save the network's state_dict() instead.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} holds more than tensors, or is damaged, and was not read further: {_first_line(error)} Save the"
            " network's state_dict() alone, best as safetensors."
        ) from error
    found, notes = _unwrapped(content, path)
    for name, value in found.items():
        _check_dense(name, value, path)
    return dict(found), notes


def match_names(tensors: Mapping[str, Tensor], network: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """Bring names to those of a network: without what wrappers put before them, and with both names of one tensor.

    Args:
        tensors: as they were read.
        network: where they shall go.

    Returns:
        The tensors (which may still not fit), and what was done to their names.
    """
    state = {n: t for n, t in network.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    notes, found, prefix = [], dict(tensors), ""
    for taken, shorter in _without_prefixes(tensors):
        if len(shorter.keys() & state.keys()) > len(found.keys() & state.keys()):
            found, prefix = shorter, taken
    if prefix:
        notes.append(f"the names of the tensors began with {prefix!r}, which was taken off")
    for name in state.keys() - found.keys():
        twin = next((t for t in found.keys() & state.keys() if _is_same(state[t], state[name])), None)
        if twin is not None:
            found[name] = found[twin]
            notes.append(f"the tensor {name} is that of {twin}, as in the network")
    return found, notes


def _unwrapped(content: Any, path: Path) -> tuple[Mapping[str, Any], list[str]]:
    """Return the state_dict in what torch had saved."""
    notes = []
    while isinstance(content, Mapping) and content:
        key = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if key is None:
            break
        notes.append(f"the weights are the entry {key!r} of {path.name}; its other entries were left out")
        content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(name, str) for name in content):
        raise ModelError(
            f"{path} holds {_kind(content)}, not a state_dict (tensors by name): save the network's state_dict()."
        )
    return content, notes


def _check_dense(name: str, value: object, path: Path) -> None:
    """Refuse what is not a plain dense tensor."""
    if not isinstance(value, Tensor):
        raise ModelError(
            f"{path} has {name!r}, which is {_kind(value)} and not a tensor: save the state_dict() alone."
        )
    plain = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided
    if not plain or value.is_quantized or value.is_nested or value.is_meta:
        raise ModelError(
            f"{path} has the tensor {name} as {value.layout}, {value.dtype} on {value.device}: only dense tensors"
            " with plain numbers are taken; make it one (dequantize(), to_dense()) and save it anew."
        )


def _without_prefixes(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the first parts that all names have in common, one more each time, and the tensors without them."""
    taken, rest = "", dict(tensors)
    while rest and all("." in name for name in rest) and len({name.partition(".")[0] for name in rest}) == 1:
        taken += next(iter(rest)).partition(".")[0] + "."
        rest = {name.partition(".")[2]: tensor for name, tensor in rest.items()}
        yield taken, rest


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Whether two names of a network stand for one tensor."""
    return a.shape == b.shape and a.numel() > 0 and a.data_ptr() == b.data_ptr() and a.stride() == b.stride()


def _kind(value: object) -> str:
    return f"a {type(value).__module__}.{type(value).__name__}".replace("builtins.", "")


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'nothing said'}."
