"""Batches for the network: made in threads, in order, a bounded number ahead of the steps.

::

    threads   draw a change ─ read what it shows ─ change ─ cut ─ normalise ─┐
              draw a change ─ read what it shows ─ change ─ cut ─ normalise ─┴─▶ batch ──▶ queue ──▶ the step
                                                                                 at most so many     how long it
                                                                                 ahead               waited is kept
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from pipeline.geometry import Box
from pipeline.model.checkpoint import Normalisation
from pipeline.training.patches import Patch, PatchStream
from pipeline.training.targets import Voxels

AHEAD = 3
"""Batches that are made ahead of the one in use, at least; one more a thread beyond the second."""

_CHANGES = 1
"""Tells the random numbers of a patch's changes from those of its place."""


class Batch(NamedTuple):
    """What a step learns from.

    Attributes:
        images: normalised, ``(N, C, *input)`` in float32.
        targets: class ids ``(N, *patch)`` in int64, :data:`pipeline.training.targets.IGNORE` where nothing is known.
        weights: of the loss, ``(N, *patch)`` in float32; None where all voxels weigh the same.
    """

    images: Tensor
    targets: Tensor
    weights: Tensor | None


class Change(Protocol):
    """What is done to one patch, drawn before it is read."""

    @property
    def seen(self) -> Box:
        """What has to be read: a box counted from the first voxel of the network's input; may reach outside of it."""
        ...

    def __call__(self, patch: Patch) -> Patch:
        """Return the patch of the input's extent, from what was read."""
        ...


DrawChange = Callable[[tuple[int, ...], np.random.Generator], Change]
"""Draws a change: a function of the extent of the network's input and of the random numbers alone."""


class Batches(IterableDataset[Batch]):
    """Patches of a stream, in order; each iteration makes them anew, the same ones.

    Args:
        stream: where patches come from.
        normalisation: mean and standard deviation of each channel.
        count: patches in all, counted from the stream's first.
        size: patches a batch; the last one may have fewer.
        first: index of the first patch: of a training that goes on.
        change: draws a change for each patch, which is done before it is normalised; None for none.
        loaders: threads that make batches.
        share: which of so many equal shares of each batch to make: ``(0, 1)`` is all of it.
    """

    def __init__(
        self,
        stream: PatchStream,
        normalisation: Normalisation,
        *,
        count: int,
        size: int,
        first: int = 0,
        change: DrawChange | None = None,
        loaders: int = 1,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        self.layout = stream.layout
        self._stream = stream
        self._edges = [*range(first, count, size), count]
        self._change = change
        self._loaders = loaders
        self._which, self._shares = share
        column = (-1,) + (1,) * len(stream.layout.patch)
        self._mean = np.array(normalisation.mean, np.float32).reshape(column)
        self._std = np.array(normalisation.std, np.float32).reshape(column)
        self._lock = threading.Lock()
        self._waited = 0.0

    @property
    def waited(self) -> float:
        """Seconds that those who iterate waited for a batch; of all iterations. The first of each is not counted."""
        with self._lock:
            return self._waited

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches; the threads that make them end with the iterator."""
        threads = ThreadPoolExecutor(self._loaders, "patches")
        ahead = AHEAD + max(0, self._loaders - 2)
        edges = itertools.pairwise(self._edges)
        pending: deque[Future[Batch]] = deque()
        started = False
        try:
            while True:
                for first, last in itertools.islice(edges, ahead + 1 - len(pending)):
                    pending.append(threads.submit(self._batch, first, last))
                if not pending:
                    return
                yield self._next(pending.popleft(), counted=started)
                started = True
        finally:
            threads.shutdown(wait=True, cancel_futures=True)

    def _next(self, future: Future[Batch], *, counted: bool) -> Batch:
        """Wait for a batch, and for how long."""
        began = time.monotonic()
        batch = future.result()
        if counted:
            with self._lock:
                self._waited += time.monotonic() - began
        return batch

    def _batch(self, first: int, last: int) -> Batch:
        """Make the batch of some patches; 2-D images are laid out channels last, which is faster."""
        patches = [self._patch(index) for index in range(first, last)[self._which :: self._shares]]
        images = torch.from_numpy(self._normalised([patch.image for patch in patches]))
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        targets = torch.from_numpy(np.stack([patch.target for patch in patches]).astype(np.int64, copy=False))
        weights = [patch.weights for patch in patches if patch.weights is not None]
        return Batch(images, targets, torch.from_numpy(np.stack(weights)) if weights else None)

    def _patch(self, index: int) -> Patch:
        """Make one patch, with random numbers of its own."""
        if self._change is None:
            return self.layout.cut(self._stream[index])
        change = self._change(self.layout.input, np.random.default_rng((*self._stream.seed, index, _CHANGES)))
        return self.layout.cut(change(self._stream.read(self._stream.draw(index), change.seen)))

    def _normalised(self, images: Sequence[Voxels]) -> Voxels:
        """Return images in float32 in one array, in units of the channels."""
        voxels = np.empty((len(images), *images[0].shape), np.float32)
        for one, image in zip(voxels, images, strict=True):
            one[...] = image
            one -= self._mean
            one /= self._std
        return voxels


def loader(batches: Batches) -> DataLoader[Batch]:
    """Wrap batches, which are whole already, for Lightning."""
    return DataLoader(batches, batch_size=None, num_workers=0)
