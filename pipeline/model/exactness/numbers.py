"""Copies of a network with real numbers, which run on small inputs on the CPU."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import psutil
import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.model.arithmetic import fix_arithmetic
from pipeline.model.exactness.costs import peak_elements
from pipeline.model.exactness.ghost import Ghost, says


class Real:
    """A copy of a network that runs.

    Args:
        model: the network; it is copied.
        dims: spatial axes.
        dtype: what it computes in. Float32 is computed as in a run: channels last, with the arithmetic of
            :func:`pipeline.model.arithmetic.fix_arithmetic`.
        seed: where given, the weights are drawn anew: trained ones may be zero and hide what a layer sees.
    """

    def __init__(self, model: nn.Module, dims: int, dtype: torch.dtype, *, seed: int | None = None) -> None:
        made = copy.deepcopy(model).cpu().to(dtype).requires_grad_(False)
        made = made.to(memory_format=torch.channels_last if dims == 2 else torch.channels_last_3d)  # type: ignore[call-overload]
        if seed is not None:
            _draw(made, torch.Generator().manual_seed(seed))
        self.dtype = dtype
        self._model = made if dtype == torch.float64 else fix_arithmetic(made)

    def parameters(self) -> Iterator[Tensor]:
        """Yield the copy's weights."""
        return self._model.parameters()

    def __call__(self, x: Tensor) -> Tensor:
        """Run the network on ``(N, C, *spatial)`` and return its output, contiguous."""
        layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        x = x.to(self.dtype).contiguous(memory_format=layout)
        with torch.no_grad():
            found: Tensor = self._model(x)
        return found.contiguous()


def noise(channels: int, spatial: Sequence[int], *, seed: int, batch: int = 1) -> Tensor:
    """Return images of normal noise, ``(batch, channels, *spatial)`` float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *spatial, dtype=torch.float64, generator=generator)


def difference(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference, relative to the largest value; of whole numbers, the share that differs."""
    if found.shape != wanted.shape:
        return math.inf
    if not found.is_floating_point():
        return float((found != wanted).float().mean())
    if not bool(torch.isfinite(found).all() & torch.isfinite(wanted).all()):
        return math.inf
    scale = float(wanted.abs().max()) or 1.0
    return float((found - wanted).abs().max()) / scale


def check_memory(ghost: Ghost, spatial: Sequence[int], batch: int) -> None:
    """Check that a float64 forward of a batch fits into what memory is left.

    Raises:
        ModelError: if it does not; with what it needs.
    """
    needed = 8 * (peak_elements(ghost, spatial, batch) + 2 * ghost.parameters)
    available = psutil.virtual_memory().available
    if needed > available:
        raise ModelError(
            f"The network needs {needed / 2**30:.3g} GiB for an input of {' x '.join(map(str, spatial))} voxels, and"
            f" this machine has {available / 2**30:.3g} GiB left: take a smaller network or a larger machine."
        )


def check_output(model: Real, x: Tensor) -> Tensor:
    """Return the network's output.

    Raises:
        ModelError: if the network fails, or gives NaN or infinity.
    """
    try:
        found = model(x)
    except Exception as error:
        raise ModelError(f"The network fails on an input of {tuple(x.shape)}: {says(error)}.") from error
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        raise ModelError(
            "The network gives NaN or infinity for an input of normal noise: its weights are damaged, or it expects"
            " another kind of input."
        )
    return found


def _draw(model: nn.Module, generator: torch.Generator) -> None:
    """Draw weights of a sane scale: a forward keeps the scale of its input, and no tap is zero."""
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not tensor.is_floating_point():
            continue
        if tensor.ndim >= 2:
            tensor.normal_(0, math.sqrt(2 * len(tensor) / tensor.numel()), generator=generator)
        elif name.endswith(("weight", "var")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.normal_(0, 0.1, generator=generator)
