"""From a described network to a checkpoint: built, filled, measured, written, and read again to prove it.

Runs code of others: see :func:`pipeline.model.foreign.guard.run_guarded`.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.geometry.reach import Reach
from pipeline.model.checkpoint import CheckpointHeader, Normalisation, Scalar, digest
from pipeline.model.constructed import Analysis, ConstructedArchitecture
from pipeline.model.constructors import CODE, VARIABLE, allowed_packages, call_constructor
from pipeline.model.foreign.described import Claims, Described
from pipeline.model.foreign.reference import check_meaning, check_reference
from pipeline.model.foreign.states import match_names, read_tensors
from pipeline.model.weights import fill, load_model, save_checkpoint

_SAMPLE = {2: 64, 3: 32}
"""Voxels along each axis of the input on which the written network is compared."""


class Findings(Protocol):
    """What an analysis finds of a network."""

    @property
    def analysis(self) -> Analysis:
        """What is kept in the checkpoint."""
        ...

    @property
    def outputs(self) -> int:
        """Channels of its output."""
        ...


Analyse = Callable[..., Findings]
"""``analyse(network, dims=, in_channels=)``."""


@dataclass(frozen=True, slots=True)
class _Built:
    """A network with its weights, and what was done to get there."""

    network: nn.Module
    allowed: frozenset[str]
    notes: tuple[str, ...]


def build(described: Described, target: Path, *, analyse: Analyse) -> dict[str, Any]:
    """Make a checkpoint of a network of somebody else.

    Args:
        described: what is known of it.
        target: file to write.
        analyse: measures what the network sees: ``analyse(network, dims=, in_channels=)``.

    Returns:
        ``digest``; ``reference``, the largest absolute difference from the package's reference output, or None;
        ``notes``, what a person should know.

    Raises:
        ModelError: if it is refused, fails, gives another output after it was written, or another than its package
            says; a file that was written by then is not removed here.
    """
    built = _built(described)
    network = built.network
    dims, channels = _input(described, network)
    findings = analyse(network, dims=dims, in_channels=channels)
    header = _header(described, findings, dims, channels)
    found = save_checkpoint(target, network, header, code=described.code, allowed=built.allowed)
    loaded = load_model(target, allowed=built.allowed)
    sample = _sample(channels, [axis.reach() for axis in findings.analysis.reaches])
    output = run(network, sample)
    meaning = check_meaning(output, header.architecture)
    if not torch.equal(output, run(loaded, sample)):
        raise ModelError(
            "The network gives another output after it was written and read again: it keeps state that is not in its"
            " state_dict (a plain tensor, or a buffer that is drawn at random and not stored). Make that a"
            " parameter or a stored buffer."
        )
    notes = [*described.notes, *built.notes, *meaning]
    difference = None
    if described.reference is not None:
        difference = check_reference(described.reference, lambda x: run(loaded, x), header.normalisation)
    if described.claims is not None:
        notes += _compared(described.claims, findings)
    return {"digest": found, "reference": difference, "notes": notes}


def run(network: nn.Module, x: Tensor) -> Tensor:
    """Run a network once; what is random in it is drawn from the same seed each time.

    Raises:
        ModelError: if it fails, or gives no tensor.
    """
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            output = network(x)
        except Exception as error:
            raise ModelError(
                f"The network fails on an input of shape {tuple(x.shape)}: {type(error).__name__}: {error}."
            ) from error
    if not isinstance(output, Tensor):
        raise ModelError(
            f"The network gives a {type(output).__name__}; Overtile runs networks that give a tensor."
        )
    return output


def _built(described: Described) -> _Built:
    """Build the network, and put its weights in."""
    trusted = described.trust if described.code is not None else frozenset()
    allowed = allowed_packages() | trusted
    tensors, notes = read_tensors(described.weights)
    network = call_constructor(described.constructor, described.arguments, code=described.code, allowed=allowed)
    named, more = match_names(tensors, network)
    if any(tensor.dtype == torch.float64 for tensor in named.values()):
        more.append("weights of double precision were rounded to float32")
    fill(network, named, f"The file {described.weights.name}")
    if described.code is not None:
        trust = described.constructor.partition(":")[0].replace(CODE, "sha256:")
        more.append(f"the checkpoint carries the package's code: whoever runs it must set {VARIABLE}={trust}")
    return _Built(network, allowed, (*notes, *more))


def _input(described: Described, network: nn.Module) -> tuple[int, int]:
    """Return the spatial axes and the channels: as said, else those of the first convolution."""
    dims, channels = described.dims, described.in_channels
    if dims is None or channels is None:
        first = next((m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)), None)
        if first is None:
            raise ModelError("The network has no convolution to tell its input from: give dims and in_channels.")
        dims = dims or (2 if isinstance(first, nn.Conv2d) else 3)
        channels = channels or first.in_channels
    return dims, channels


def _header(described: Described, findings: Findings, dims: int, channels: int) -> CheckpointHeader:
    """Return what the checkpoint says of itself."""
    meaning = described.output_meaning or "logits"
    if meaning == "classes" and described.classes is None:
        raise ModelError("output_meaning classes: give the names of the classes, in the order of their ids.")
    mean, std = described.mean or (0.0,), described.std or (1.0,)
    try:
        return CheckpointHeader.model_validate(
            {
                "architecture": ConstructedArchitecture.model_validate(
                    {
                        "constructor": described.constructor,
                        "arguments": dict(described.arguments),
                        "dims": dims,
                        "in_channels": channels,
                        "classes": findings.outputs,
                        "output": meaning,
                        "analysis": findings.analysis,
                    }
                ),
                "normalisation": Normalisation(mean=_each(mean, channels), std=_each(std, channels)),
                "classes": described.classes or _default_classes(findings.outputs),
                "axes": "zyx"[-dims:],
                "voxel_size": described.voxel_size,
                "unit": described.unit,
                "threshold": 0.5 if described.threshold is None else described.threshold,
                "provenance": _provenance(described),
            }
        )
    except ValidationError as error:
        problems = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise ModelError(f"The checkpoint would not be valid: {problems}.") from error


def _each(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Give one value to every channel."""
    return values * channels if len(values) == 1 else values


def _default_classes(outputs: int) -> tuple[str, ...]:
    return ("background", "foreground") if outputs == 1 else tuple(f"class {i}" for i in range(outputs))


def _provenance(described: Described) -> dict[str, Scalar]:
    """Return where the weights come from, and with what they were converted."""
    root = described.constructor.partition(":")[0].partition(".")[0]
    try:
        package = f"{root} {importlib.metadata.version(root)}"
    except importlib.metadata.PackageNotFoundError:
        package = None
    return {
        "overtile": importlib.metadata.version("overtile"),
        "torch": torch.__version__,
        "converted": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "weights": described.weights.name,
        "weights_digest": digest(described.weights),
        "package": package,
        **described.provenance,
    }


def _sample(channels: int, reaches: Sequence[Reach]) -> Tensor:
    """Return a random input of a legal size, the same each time."""
    wanted = _SAMPLE[len(reaches)]
    lengths = [r.minimum + max(0, -(-(wanted - r.minimum) // r.stride)) * r.stride for r in reaches]
    return torch.randn(1, channels, *lengths, generator=torch.Generator().manual_seed(0))


def _compared(claims: Claims, findings: Findings) -> list[str]:
    """Say where a package's claims are not what was measured."""
    notes = []
    if claims.outputs != findings.outputs:
        notes.append(f"the package says {claims.outputs} output channels; the network gives {findings.outputs}")
    axes, analysis = "zyx"[-len(claims.halo) :], findings.analysis
    for axis, halo, size, reach in zip(axes, claims.halo, claims.sizes, analysis.reaches, strict=True):
        needed = max(reach.halo)
        if analysis.exact and halo != needed:
            word = "too small" if halo < needed else "larger than needed"
            notes.append(f"the package's halo of {halo} voxels along {axis} is {word}: {needed} were measured")
        if size[0] and not reach.reach().is_legal(size[0]):
            notes.append(
                f"the package takes {size[0]} voxels along {axis}; measured were {reach.minimum} + k * {reach.stride}"
            )
    return notes
