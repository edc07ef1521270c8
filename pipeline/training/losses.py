"""Losses: cross-entropy of a softmax, or of one sigmoid, averaged over the voxels that count."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of logits ``(N, C, *spatial)`` and class ids ``(N, *spatial)`` in int64; gives one number."""

_NEVER = -(2**62)  # no volume holds this class id


def loss_for(outputs: int, *, ignore: int | None) -> Loss:
    """Return the loss of a network with so many output channels.

    One channel is a sigmoid, whose foreground is class 1; more are a softmax. Voxels whose target is ``ignore``
    take no part: neither their logits nor their number. A batch without any other voxel has the loss 0.

    Args:
        outputs: channels of the network's output.
        ignore: value of the target that does not count; None where all count.
    """
    function = _sigmoid_cross_entropy if outputs == 1 else _cross_entropy
    return partial(function, ignore=_NEVER if ignore is None else ignore)


def _cross_entropy(logits: Tensor, target: Tensor, *, ignore: int) -> Tensor:
    """``-log softmax(logits)[target]``, the mean over the voxels that count."""
    total = F.cross_entropy(logits, target, ignore_index=ignore, reduction="sum")
    return total / (target != ignore).sum().clamp(min=1)


def _sigmoid_cross_entropy(logits: Tensor, target: Tensor, *, ignore: int) -> Tensor:
    """``-log sigmoid(l)`` where the target is 1, ``-log(1 - sigmoid(l))`` where it is 0; the mean."""
    counted = target != ignore
    each = F.binary_cross_entropy_with_logits(logits[:, 0], (target == 1).to(logits.dtype), reduction="none")
    return each.where(counted, 0).sum() / counted.sum().clamp(min=1)
