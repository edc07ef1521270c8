"""The network itself on its device: raw voxels of tiles in, the answer over the tiles' cores out."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import InputError, ModelError, NonFiniteError
from pipeline.geometry import BlendLayout, Layout, Turn, Weighting
from pipeline.model.arithmetic import fix_arithmetic
from pipeline.model.checkpoint import digest, read_header
from pipeline.model.weights import load_model
from pipeline.predict.output import OutputSpec

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}

Voxels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What the network runs as.

    Attributes:
        model: path of the checkpoint.
        model_digest: digest that the file must have.
        precision: ``float32``, ``bfloat16`` or ``float64``.
        device: ``cpu`` or ``cuda``.
        batch: network inputs at a time.
        threads: threads of the network; None takes those that the worker was given.
        turns: the answer is the mean over these.
        weighting: weights of overlapping tiles; None where tiles are exact.
    """

    model: str
    model_digest: str
    precision: str
    device: str
    batch: int
    threads: int | None
    turns: tuple[Turn, ...]
    weighting: Weighting | None = None


class Forward:
    """A network that is loaded, with what is done to its input and output.

    Args:
        spec: what it runs as.
        layout: where a tile's core lies in its output.
        output: what its output becomes.

    Raises:
        ModelError: the checkpoint is not the one that was planned with.
        InputError: there is no such device.
    """

    def __init__(self, spec: EngineSpec, layout: Layout, output: OutputSpec) -> None:
        _check(spec)
        header = read_header(Path(spec.model))
        self.dims = header.architecture.dims
        self._turns = spec.turns
        self._blended = isinstance(layout, BlendLayout)
        self._output = output
        self._kept = _kept_output(layout, self.dims)
        self._device = torch.device(spec.device)
        self._dtype = DTYPES[spec.precision]
        model = load_model(Path(spec.model), dtype=self._dtype, device=self._device)
        # Channels last is faster, and gives the same bits with any number of threads.
        self._format = torch.channels_last if self.dims == 2 else torch.channels_last_3d
        self._model = fix_arithmetic(model.to(memory_format=self._format))  # type: ignore[call-overload]
        wide = torch.float64 if self._dtype == torch.float64 else torch.float32
        column = (-1,) + (1,) * self.dims
        self._mean = torch.tensor(header.normalisation.mean, dtype=wide, device=self._device).reshape(column)
        self._std = torch.tensor(header.normalisation.std, dtype=wide, device=self._device).reshape(column)

    def tiled(self, layout: Layout) -> Forward:
        """Return the same loaded network for other tiles of the same kind."""
        other = copy.copy(self)
        other._kept = _kept_output(layout, self.dims)
        return other

    def answer(self, inputs: Voxels, place: Sequence[int]) -> Voxels:
        """Return what is stitched over the tiles' cores: ``(n, c, [z,] y, x)`` for raw ``(n, c, [z,] y, x)``.

        Finished values where tiles are pasted, scores where they are blended.

        Args:
            inputs: voxels of the tiles' inputs.
            place: first voxel of the first tile.

        Raises:
            NonFiniteError: the network gave NaN or infinity.
        """
        flat = inputs.ndim - 2 > self.dims  # a 2-D network takes each slice of a stack by itself
        with torch.inference_mode():
            voxels = self._normalised(inputs[:, :, 0] if flat else inputs)
            if self._blended:
                torch.manual_seed(
                    _seed(place)
                )  # a network that draws at random draws the same for a tile each time
                found = self._mean_scores(voxels)
            elif len(self._turns) == 1:
                found = self._output.finish(self._raw(voxels, self._turns[0]))
            else:
                found = self._output.finish_scores(self._mean_scores(voxels))
            answer: Voxels = (found.unsqueeze(2) if flat else found).cpu().numpy()
        return answer

    def _normalised(self, inputs: Voxels) -> torch.Tensor:
        voxels = torch.from_numpy(np.ascontiguousarray(inputs).astype(_plain(inputs.dtype), copy=False))
        return voxels.to(self._device).to(self._mean.dtype).sub_(self._mean).div_(self._std).to(self._dtype)

    def _mean_scores(self, voxels: torch.Tensor) -> torch.Tensor:
        """Return the mean of the scores over all turns, in their order."""
        first, *others = self._turns
        total = self._output.scores(self._raw(voxels, first))
        for turn in others:
            total = total + self._output.scores(self._raw(voxels, turn))
        return total / len(self._turns) if others else total

    def _raw(self, voxels: torch.Tensor, turn: Turn) -> torch.Tensor:
        """Return the raw output over the tiles' cores, asked in a turn and turned back."""
        turned = voxels if turn.is_plain else _turned(voxels, turn)
        raw = self._run(turned.contiguous(memory_format=self._format))
        raw = raw if turn.is_plain else _turned_back(raw, turn)
        raw = raw[:, :, *self._kept]
        if not bool(torch.isfinite(raw).all()):
            raise NonFiniteError(
                "the network gave NaN or infinity; look at this chunk's input and the normalisation"
            )
        return raw

    def _run(self, voxels: torch.Tensor) -> torch.Tensor:
        """Run the network; on a CPU one input at a time, because kernels are chosen by the number of inputs too."""
        parts = [voxels] if self._device.type != "cpu" else voxels.split(1)
        return torch.cat([self._model(part) for part in parts]) if len(parts) > 1 else self._model(parts[0])


def _check(spec: EngineSpec) -> None:
    found = digest(Path(spec.model))
    if found != spec.model_digest:
        raise ModelError(
            f"{spec.model}: the checkpoint here is {found}, but the plan was made for {spec.model_digest}"
        )
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device cuda: torch finds no GPU in this worker; use --device cpu or give the worker a GPU"
        )


def _kept_output(layout: Layout, dims: int) -> tuple[slice, ...]:
    """Return where a tile's core lies in the network's output, along the network's axes."""
    if isinstance(layout, BlendLayout):
        return (slice(None),) * dims
    reaches, tile = layout.reaches[-dims:], layout.tile[-dims:]
    return tuple(slice(r.crop, r.crop + t) for r, t in zip(reaches, tile, strict=True))


def _turned(voxels: torch.Tensor, turn: Turn) -> torch.Tensor:
    """Return ``(n, c, [z,] y, x)`` turned."""
    exchanged = voxels.swapaxes(-1, -2) if turn.exchange else voxels
    return exchanged.flip(turn.flipped)


def _turned_back(voxels: torch.Tensor, turn: Turn) -> torch.Tensor:
    """Return ``(n, c, [z,] y, x)`` as it was before :func:`_turned`."""
    flipped = voxels.flip(turn.flipped)
    return flipped.swapaxes(-1, -2) if turn.exchange else flipped


def _seed(place: Sequence[int]) -> int:
    """Return a number that depends on a tile's place alone."""
    text = ",".join(map(str, place))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype that torch takes, and that holds every value."""
    wider = {"uint16": "int32", "uint32": "int64", "uint64": "float64"}
    return np.dtype(wider.get(dtype.name, dtype.newbyteorder("=")))
