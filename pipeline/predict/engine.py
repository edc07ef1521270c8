"""The network in a worker process: tiles in, the exact core out, in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import InputError, ModelError, NonFiniteError
from pipeline.geometry import Box, Tile, TileLayout
from pipeline.model.checkpoint import digest, read_header
from pipeline.model.convolution import fix_arithmetic
from pipeline.model.weights import load_model
from pipeline.predict.output import OutputSpec

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


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
    """

    model: str
    model_digest: str
    precision: str
    device: str
    batch: int
    threads: int | None


class Engine:
    """One network, loaded once a process. Chunks queue for it; one at a time has it."""

    def __init__(self, spec: EngineSpec, layout: TileLayout, output: OutputSpec, *, worker_threads: int) -> None:
        found = digest(Path(spec.model))
        if found != spec.model_digest:
            raise ModelError(
                f"{spec.model}: the checkpoint here is {found}, but the plan was made for {spec.model_digest}"
            )
        if spec.device == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "device cuda: torch finds no GPU in this worker; use --device cpu or give the worker a GPU"
            )
        header = read_header(Path(spec.model))
        self._layout = layout
        self._output = output
        self._batch = spec.batch
        self._dims = header.architecture.dims
        self._device = torch.device(spec.device)
        self._dtype = DTYPES[spec.precision]
        model = load_model(Path(spec.model), dtype=self._dtype, device=self._device)
        # Channels last is faster, and gives the same bits with any number of threads.
        self._format = torch.channels_last if self._dims == 2 else torch.channels_last_3d
        self._model = fix_arithmetic(model.to(memory_format=self._format))  # type: ignore[call-overload]
        wide = torch.float64 if self._dtype == torch.float64 else torch.float32
        column = (-1,) + (1,) * self._dims
        self._mean = torch.tensor(header.normalisation.mean, dtype=wide, device=self._device).reshape(column)
        self._std = torch.tensor(header.normalisation.std, dtype=wide, device=self._device).reshape(column)
        threads = spec.threads or worker_threads
        self._thread = ThreadPoolExecutor(1, "network", initializer=torch.set_num_threads, initargs=(threads,))

    def predict(self, shown: npt.NDArray[Any], read_box: Box, core: Box) -> tuple[npt.NDArray[Any], float, float]:
        """Run the network over a chunk; waits while another chunk has it.

        Args:
            shown: ``(c, [z,] y, x)``, what the volume shows in ``read_box``.
            read_box: from :meth:`TileLayout.read_box`, in the volume's voxels.
            core: what the chunk writes, in the volume's voxels.

        Returns:
            The core as it is stored, ``(c, [z,] y, x)`` or ``([z,] y, x)`` for class ids; seconds waited; seconds
            computed.

        Raises:
            NonFiniteError: the network gave NaN or infinity.
        """
        asked = time.monotonic()
        return self._thread.submit(self._predict, shown, read_box, core, asked).result()

    def _predict(
        self, shown: npt.NDArray[Any], read_box: Box, core: Box, asked: float
    ) -> tuple[npt.NDArray[Any], float, float]:
        started = time.monotonic()
        result = self._output.empty(core.shape)
        with torch.inference_mode():
            for tiles in _batches(self._layout.tiles(core), self._batch):
                self._run_tiles(tiles, shown, read_box, core, result)
        return self._output.stored(result), started - asked, time.monotonic() - started

    def _run_tiles(
        self, tiles: Sequence[Tile], shown: npt.NDArray[Any], read_box: Box, core: Box, result: npt.NDArray[Any]
    ) -> None:
        inputs = [shown[:, *tile.input.relative_to(read_box.start).slices] for tile in tiles]
        outputs = self._forward(np.stack(inputs)).cpu().numpy()
        for tile, output in zip(tiles, outputs, strict=True):
            kept = tile.core.intersect(core)
            source = kept.relative_to(tile.core.start)
            result[:, *kept.relative_to(core.start).slices] = output[:, *source.slices]

    def _forward(self, inputs: npt.NDArray[Any]) -> torch.Tensor:
        """Return the finished output over the tiles' cores: ``(n, c, [z,] y, x)`` for raw ``(n, c, [z,] y, x)``."""
        flat = inputs.ndim - 2 > self._dims  # a 2-D network takes each slice of a stack by itself
        if flat:
            inputs = inputs[:, :, 0]
        voxels = torch.from_numpy(np.ascontiguousarray(inputs).astype(_plain(inputs.dtype), copy=False))
        voxels = voxels.to(self._device).to(self._mean.dtype).sub_(self._mean).div_(self._std)
        logits = self._model(voxels.to(self._dtype).contiguous(memory_format=self._format))
        crop = self._layout.reaches[-self._dims :]
        tile = self._layout.tile[-self._dims :]
        kept = tuple(slice(r.crop, r.crop + t) for r, t in zip(crop, tile, strict=True))
        logits = logits[:, :, *kept]
        if not bool(torch.isfinite(logits).all()):
            raise NonFiniteError(
                "the network gave NaN or infinity; look at this chunk's input and the normalisation"
            )
        finished = self._output.finish(logits)
        return finished.unsqueeze(2) if flat else finished


def _batches(tiles: Iterator[Tile], size: int) -> Iterator[list[Tile]]:
    while batch := list(islice(tiles, size)):
        yield batch


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype that torch takes, and that holds every value."""
    wider = {"uint16": "int32", "uint32": "int64", "uint64": "float64"}
    return np.dtype(wider.get(dtype.name, dtype.newbyteorder("=")))
