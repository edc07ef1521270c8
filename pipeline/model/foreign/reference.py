"""Hold the output of a converted network against what it is said to be, and against reference tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.model.checkpoint import Normalisation
from pipeline.model.foreign.described import Reference
from pipeline.model.foreign.processing import apply
from pipeline.model.network import Network

_CLOSE = 1e-3
"""How far from 1 the probabilities of a voxel may add up to."""


def check_meaning(output: Tensor, network: Network) -> list[str]:
    """Compare values of a network with what it is said to give.

    Args:
        output: ``(n, c, [z,] y, x)``.
        network: what is said of it.

    Returns:
        What looks wrong, but need not be.

    Raises:
        ModelError: if they are not finite, or cannot be what is said.
    """
    values = output.double()
    if not bool(torch.isfinite(values).all()):
        raise ModelError("The network gives NaN or infinity for a random input (mean 0, deviation 1).")
    low, high = float(values.min()), float(values.max())
    if network.output == "classes":
        if low < 0 or not torch.equal(values, values.round()):
            raise ModelError(
                f"output_meaning classes: the network gives {low:g} to {high:g}, which are no class ids."
            )
        return []
    whole = network.classes == 1 or float((values.sum(1) - 1).abs().max()) < _CLOSE
    likely = low >= 0 and high <= 1 + 1e-6 and whole
    if network.output == "probabilities" and not likely:
        raise ModelError(
            f"output_meaning probabilities: the network gives {low:g} to {high:g} for a random input, which are no"
            f" probabilities{'' if whole else ' (those of a voxel do not add up to 1)'}; say logits."
        )
    if network.output == "logits" and likely:
        return ["the network's values look like probabilities; if they are, say output_meaning: probabilities"]
    return []


def check_reference(
    reference: Reference, network: Callable[[Tensor], Tensor], normalisation: Normalisation
) -> float:
    """Run a network on a reference input, and compare what comes out with the reference output.

    Args:
        reference: the tensors, the steps around the network and the tolerance.
        network: gives the raw output ``(n, c, [z,] y, x)`` for an input.
        normalisation: what the checkpoint does before it.

    Returns:
        The largest absolute difference.

    Raises:
        ModelError: if a tensor cannot be read, or more values differ than the tolerance allows.
    """
    image, wanted = _read(reference.input, reference.axes), _read(reference.output, reference.axes)
    if reference.preprocessing is None:
        shape = (-1,) + (1,) * (len(reference.axes) - 2)
        shown = image.astype("float32") - np.array(normalisation.mean, "float32").reshape(shape)
        shown /= np.array(normalisation.std, "float32").reshape(shape)
    else:
        shown = apply(reference.preprocessing, image, reference.axes)
    raw = network(torch.from_numpy(np.ascontiguousarray(shown, dtype="float32"))).numpy()
    found = apply(reference.postprocessing, raw, reference.axes)
    if found.shape != wanted.shape:
        raise ModelError(
            f"The network gives an output of shape {found.shape} for the package's reference input; its reference"
            f" output has {wanted.shape}."
        )
    difference = np.abs(found.astype("float64") - wanted.astype("float64"))
    beyond = ~(difference <= reference.absolute + reference.relative * np.abs(wanted.astype("float64")))
    largest = float(difference.max(initial=0.0))
    if beyond.mean() * 1e6 > reference.mismatched:
        raise ModelError(
            f"The network does not give the package's reference output: {beyond.mean():.2%} of the values differ by"
            f" more than {reference.absolute:g} + {reference.relative:g} * value, the largest by {largest:g}. The"
            " weights, the constructor's arguments, the preprocessing or the versions are others than its authors'."
        )
    return largest


def _read(path: Path, axes: tuple[str, ...]) -> npt.NDArray[Any]:
    """Read a reference tensor; nothing in it is run."""
    try:
        values: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"The package's reference tensor {path.name} cannot be read: {error}.") from error
    if values.ndim != len(axes):
        raise ModelError(
            f"The package's reference tensor {path.name} has the shape {values.shape}, which does not have the axes"
            f" {', '.join(axes)}."
        )
    return values
