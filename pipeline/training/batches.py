"""Batches for the network: decoded, turned and normalised in a thread, a bounded number ahead of the steps."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from pipeline.model.checkpoint import Normalisation
from pipeline.model.unet import UNet
from pipeline.training.patches import PatchStream, Voxels

Batch = tuple[Tensor, Tensor]
"""Normalised images ``(N, C, *spatial)`` in float32, and class ids ``(N, *spatial)`` in int64."""

AHEAD = 3
"""Batches that are made ahead of the one in use."""


class Batches(IterableDataset[Batch]):
    """The first patches of a stream, in order; each iteration makes them anew.

    Args:
        stream: where patches come from.
        normalisation: mean and standard deviation of each channel.
        count: patches in all.
        size: patches a batch; the last one may have fewer.
    """

    def __init__(self, stream: PatchStream, normalisation: Normalisation, *, count: int, size: int) -> None:
        super().__init__()
        self.layout = stream.layout
        self._stream = stream
        self._edges = [*range(0, count, size), count]
        column = (-1,) + (1,) * len(stream.layout.patch)
        self._mean = np.array(normalisation.mean, np.float32).reshape(column)
        self._std = np.array(normalisation.std, np.float32).reshape(column)

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches; the thread that makes them ends with the iterator."""
        thread = ThreadPoolExecutor(1, "patches")
        pending: deque[Future[Batch]] = deque()
        try:
            for first, last in itertools.pairwise(self._edges):
                pending.append(thread.submit(self._batch, first, last))
                if len(pending) > AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            thread.shutdown(wait=True, cancel_futures=True)

    def _batch(self, first: int, last: int) -> Batch:
        """Make the batch of some patches; 2-D images are laid out channels last, which is faster."""
        patches = [self._stream[index] for index in range(first, last)]
        images = torch.from_numpy(np.stack([self._normalised(image) for image, _ in patches]))
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, torch.from_numpy(np.stack([target.astype(np.int64) for _, target in patches]))

    def _normalised(self, image: Voxels) -> Voxels:
        voxels = image.astype(np.float32)
        voxels -= self._mean
        voxels /= self._std
        return voxels


def loader(batches: Batches) -> DataLoader[Batch]:
    """Wrap batches, which are whole already, for Lightning."""
    return DataLoader(batches, batch_size=None, num_workers=0)


def predictions(model: UNet, batches: Batches) -> Iterator[tuple[Voxels, Voxels]]:
    """Yield the class ids that a network finds in each batch, and the target's, ``(N, *spatial)`` each.

    Args:
        model: the network, in evaluation mode, on any device.
        batches: laid out exactly (``PatchLayout.exact``) for class ids as in the whole volume.
    """
    device = next(model.parameters()).device
    for images, targets in batches:
        with torch.no_grad():
            logits = model(images.to(device))[:, :, *batches.layout.kept]
        # A sigmoid says foreground from the probability 0.5, which is a checkpoint's usual threshold.
        found = (logits[:, 0] >= 0).int() if logits.shape[1] == 1 else logits.argmax(1)
        yield found.cpu().numpy(), targets.numpy()
