"""From the architecture of a checkpoint to a network: the one door through which code of others is called.

A checkpoint is data, and data must not choose what runs. So a constructor is called only if the operator allows its
package: the constructors of MONAI's networks are, ``OVERTILE_MODEL_PACKAGES=mylab.networks,sha256:...`` adds others
(packages or modules by their dotted name, and code that a checkpoint carries by its digest).
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from pipeline.errors import ModelError
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.constructed import ConstructedArchitecture
from pipeline.model.unet import UNet

VARIABLE = "OVERTILE_MODEL_PACKAGES"
ALLOWED = frozenset({"monai.networks.nets"})
"""What is allowed without being asked for. Not all of MONAI: parts of it run what their arguments name."""

CODE = "sha256_"
"""How the module of a constructor begins that lies in the checkpoint itself: its digest follows."""


def allowed_packages(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Return what may be called: dotted names of packages or modules, and ``sha256:...`` of code."""
    entries = (entry.strip() for entry in environment.get(VARIABLE, "").split(","))
    return ALLOWED | {entry for entry in entries if entry}


def construct(
    architecture: UNetArchitecture | ConstructedArchitecture,
    *,
    code: bytes | None = None,
    allowed: frozenset[str] | None = None,
) -> nn.Module:
    """Build the network of an architecture, with the weights that its constructor draws.

    Args:
        architecture: of either family.
        code: source of the constructor's module, where the checkpoint carries it.
        allowed: what may be called; by default :func:`allowed_packages`.

    Raises:
        ModelError: as :func:`call_constructor`.
    """
    if isinstance(architecture, UNetArchitecture):
        return UNet(architecture)
    return call_constructor(architecture.constructor, architecture.arguments, code=code, allowed=allowed)


def call_constructor(
    constructor: str,
    arguments: Mapping[str, Any],
    *,
    code: bytes | None = None,
    allowed: frozenset[str] | None = None,
) -> nn.Module:
    """Call ``module:callable`` with keyword arguments, if it is allowed and makes a network.

    The callable must be a plain attribute of an allowed module, a subclass of ``nn.Module`` or a function, and be
    defined in an allowed module itself: what a module has only imported is not called.

    Args:
        constructor: ``module:callable``; the module ``sha256_...`` is ``code``.
        arguments: keyword arguments.
        code: source of that module.
        allowed: what may be called; by default :func:`allowed_packages`.

    Returns:
        The network on the CPU, as it was made (in training mode).

    Raises:
        ModelError: if it is not allowed, not installed, not a constructor, fails, or makes something else.
    """
    allowed = allowed_packages() if allowed is None else allowed
    check_allowed(constructor, allowed)
    place, _, name = constructor.partition(":")
    module = _code_module(place, code) if place.startswith(CODE) else _import(place)
    function = _callable(module, name, constructor, allowed)
    try:
        network = function(**arguments)
    except Exception as error:
        raise ModelError(
            f"The constructor {constructor} fails with {_shown(arguments)}: {type(error).__name__}: {error}."
        ) from error
    return _checked(network, constructor)


def code_name(code: bytes) -> str:
    """Return the name of the module that source code becomes: ``sha256_...``."""
    return CODE + hashlib.sha256(code).hexdigest()


def check_allowed(constructor: str, allowed: frozenset[str]) -> None:
    """Refuse a constructor whose module the operator does not allow; nothing is imported.

    Raises:
        ModelError: which names the setting.
    """
    place = constructor.partition(":")[0]
    if place.startswith(CODE):
        trust = place.replace(CODE, "sha256:")
        if trust not in allowed:
            raise ModelError(
                f"The network is made by Python code that the checkpoint carries ({trust}), which is not allowed here."
                f" It is a file of the package that it was converted from: read it, and if you trust it, set"
                f" {VARIABLE}={trust} (a list, with commas)."
            )
    elif not _is_allowed(place, allowed):
        raise ModelError(
            f"The constructor {constructor} is not allowed: it would run code of {place}. Allowed are"
            f" {', '.join(sorted(allowed))}; if you trust it, set {VARIABLE}={place} (a list, with commas)."
        )


def _import(place: str) -> types.ModuleType:
    """Import an allowed module."""
    root = place.partition(".")[0]
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name == root:
            raise ModelError(
                f"The network needs the package {root}, which is not installed: install {root} in this environment."
            ) from error
        raise ModelError(f"The constructor's module {place} cannot be imported: {error}.") from error
    except Exception as error:
        raise ModelError(
            f"The constructor's module {place} cannot be imported: {type(error).__name__}: {error}."
        ) from error


def _code_module(place: str, code: bytes | None) -> types.ModuleType:
    """Make a module of allowed code, under a name of its own."""
    if code is None or code_name(code) != place:
        raise ModelError(
            f"The constructor's code {place} is not in the checkpoint, or was changed: convert it anew."
        )
    name = f"_overtile_{place}"
    if name in sys.modules:
        return sys.modules[name]
    module = sys.modules[name] = types.ModuleType(name)
    module.__package__ = ""
    try:
        exec(compile(code, f"<{place}>", "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise ModelError(
            f"The network's code {place} cannot be run: {type(error).__name__}: {error}. It must be one file, and"
            " what it imports must be installed."
        ) from error
    return module


def _callable(
    module: types.ModuleType, name: str, constructor: str, allowed: frozenset[str]
) -> Callable[..., object]:
    """Return the constructor, if it is one, and defined where code is allowed."""
    found = vars(module).get(name)
    if found is None:
        raise ModelError(f"The constructor {constructor} does not exist: {module.__name__} has no {name!r}.")
    if not (inspect.isfunction(found) or (isinstance(found, type) and issubclass(found, nn.Module))):
        raise ModelError(
            f"{constructor} is neither a torch.nn.Module class nor a function: name one that makes the network."
        )
    home = str(found.__module__)
    if home != module.__name__ and not _is_allowed(home, allowed):
        raise ModelError(
            f"{constructor} is defined in {home}, which is not allowed; if you trust it, set {VARIABLE}={home}."
        )
    return found


def _is_allowed(place: str, allowed: frozenset[str]) -> bool:
    """Whether a module is an allowed one, or lies in one."""
    parts = place.split(".")
    return any(".".join(parts[: length + 1]) in allowed for length in range(len(parts)))


def _checked(network: object, constructor: str) -> nn.Module:
    """Return what a constructor made, if it is a network with all its tensors, on the CPU."""
    if not isinstance(network, nn.Module):
        raise ModelError(f"The constructor {constructor} makes a {type(network).__name__}, not a torch.nn.Module.")
    if lazy := [name for name, tensor in network.state_dict(keep_vars=True).items() if is_lazy(tensor)]:
        raise ModelError(
            f"The network of {constructor} has lazy layers, whose shapes are unknown before it has run"
            f" ({', '.join(lazy)}): give every layer its channels."
        )
    return network.cpu()


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "no arguments"
