"""Losses: what training makes small, of logits and class ids, over the voxels that count.

Laws that all of them keep:

- A voxel whose target is ``IGNORE`` takes no part: neither its logits, whatever they are, nor its number.
- A voxel with a weight of two counts as two voxels.
- A batch in which nothing counts has the loss 0, with a gradient of 0.
- One channel is a sigmoid, whose foreground is class 1; more are a softmax.
- Sums are in float32 at least, also of logits in bfloat16 or float16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from monai.losses.dice import DiceLoss
from monai.losses.tversky import TverskyLoss
from torch import Tensor

from pipeline.config.losses import (
    BorderCrossEntropy,
    CrossEntropy,
    Dice,
    DiceCrossEntropy,
    Focal,
    LossSettings,
    Tversky,
)
from pipeline.training.targets import IGNORE
from pipeline.training.weights import class_weights

__all__ = ["IGNORE", "Loss", "loss_for"]

_Formula = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The loss of logits ``(N, C, *spatial)``, class ids that all exist and the weight of each voxel."""

_Weigh = Callable[[Tensor, Tensor], Tensor]
"""The weight of each voxel, of its class id and its given weight."""


class Loss(Protocol):
    """A function of a batch; gives one number."""

    def __call__(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            logits: ``(N, C, *spatial)`` in any floating dtype, two or three spatial axes.
            target: class ids ``(N, *spatial)`` in int64; ``IGNORE`` where nothing is known.
            weights: of the voxels, ``(N, *spatial)``; None where all weigh the same.
        """
        ...


def loss_for(settings: LossSettings, *, outputs: int, class_shares: Sequence[float] | None = None) -> Loss:
    """Return the loss of these settings.

    Args:
        settings: which loss, and its numbers.
        outputs: channels of the network's output; 1 for a sigmoid, which has two classes.
        class_shares: share of the labelled voxels that each class has; needed by balanced class weights.

    Raises:
        InputError: class weights do not fit the classes, or a class that is to be balanced has no voxel.
    """
    given = class_weights(getattr(settings, "class_weights", "none"), max(2, outputs), class_shares)
    weigh = partial(_multiplied, classes=given)
    match settings:
        case CrossEntropy():
            return _Counting(weigh, _cross_entropy)
        case BorderCrossEntropy():
            return _Counting(partial(_added, classes=given), _cross_entropy, needs_weights=True)
        case Dice():
            return _Counting(_given, partial(_dice, squared=settings.squared, smooth=settings.smooth))
        case DiceCrossEntropy():
            dice = loss_for(Dice(squared=settings.squared, smooth=settings.smooth), outputs=outputs)
            other = _Counting(weigh, _cross_entropy)
            return _Sum(((settings.dice_weight, dice), (settings.cross_entropy_weight, other)))
        case Focal():
            return _Counting(weigh, partial(_focal, gamma=settings.gamma))
        case Tversky():
            alpha, beta = settings.false_positives, settings.false_negatives
            return _Counting(_given, partial(_tversky, alpha=alpha, beta=beta, smooth=settings.smooth))


@dataclass(frozen=True, slots=True)
class _Counting:
    """Keep what does not count away from a formula, and weigh the rest."""

    weigh: _Weigh
    formula: _Formula
    needs_weights: bool = False

    def __call__(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        assert weights is not None or not self.needs_weights, "this loss is made of border weights"
        counted = target != IGNORE
        # Taken out here, because even a weight of zero does not keep an infinite logit out of a gradient.
        logits = torch.where(counted.unsqueeze(1), _single(logits), 0)
        target = torch.where(counted, target, 0)
        given = torch.ones_like(target, dtype=logits.dtype) if weights is None else weights.to(logits.dtype)
        return self.formula(logits, target, torch.where(counted, self.weigh(target, given), 0))


@dataclass(frozen=True, slots=True)
class _Sum:
    """The weighted sum of losses; one without weight is not computed."""

    parts: tuple[tuple[float, Loss], ...]

    def __call__(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        terms = [weight * loss(logits, target, weights) for weight, loss in self.parts if weight]
        return torch.stack(terms).sum()


def _given(target: Tensor, given: Tensor) -> Tensor:
    return given


def _multiplied(target: Tensor, given: Tensor, *, classes: Sequence[float] | None) -> Tensor:
    """The weight of the voxel times that of its class."""
    return given if classes is None else given * given.new_tensor(classes)[target]


def _added(target: Tensor, given: Tensor, *, classes: Sequence[float] | None) -> Tensor:
    """``w(x) = w_c(x) + border(x)``: Ronneberger et al. (2015), section 3, equation 2."""
    return given + (1 if classes is None else given.new_tensor(classes)[target])


def _cross_entropy(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """``-log p_t``, the weighted mean: the sum of ``weight * -log p_t`` over the sum of weights, as in torch."""
    return _mean(_surprise(logits, target), weights)


def _focal(logits: Tensor, target: Tensor, weights: Tensor, *, gamma: float) -> Tensor:
    """``-(1 - p_t)**gamma * log p_t``, the weighted mean: Lin et al. (2017), section 3.2, equation 4.

    ``1 - p_t`` is taken as the logarithm of the other classes' share, so that its power has a gradient also where
    ``p_t`` rounds to one.
    """
    if logits.shape[1] == 1:
        others = F.logsigmoid(torch.where(target == 1, -logits[:, 0], logits[:, 0]))
    else:
        wrong = logits.masked_fill(_is_class(logits, target), -torch.inf)
        others = wrong.logsumexp(1) - logits.logsumexp(1)
    return _mean((gamma * others).exp() * _surprise(logits, target), weights)


def _dice(logits: Tensor, target: Tensor, weights: Tensor, *, squared: bool, smooth: float) -> Tensor:
    """One minus soft Dice, ``(2 sum(w p g) + s) / (sum(w p) + sum(w g) + s)``, the mean over the classes.

    Sums run over the whole batch, so that a class which one image lacks does not count there. ``p`` is the
    probability, ``g`` one in the voxels of the class, ``w`` the voxel's weight; ``p**2`` and ``g**2`` in the
    denominator where it is squared (Milletari et al. 2016, section 3). A sigmoid has one class, the foreground.
    """
    # MONAI's soft targets take ``w p`` and ``w g`` for what they are, sums and products: see its compute_tp_fp_fn.
    scale = weights.unsqueeze(1)
    scale = scale.sqrt() if squared else scale
    p, g = _probabilities(logits, target)
    loss = DiceLoss(batch=True, soft_label=True, squared_pred=squared, smooth_nr=smooth, smooth_dr=smooth)
    value: Tensor = loss(p * scale, g * scale)
    return value


def _tversky(
    logits: Tensor, target: Tensor, weights: Tensor, *, alpha: float, beta: float, smooth: float
) -> Tensor:
    """One minus ``(TP + s) / (TP + alpha FP + beta FN + s)``: Salehi et al. (2017), section 2; the mean over classes.

    ``TP = sum(w p g)``, ``FP = sum(w p (1 - g))``, ``FN = sum(w (1 - p) g)`` over the whole batch, as of Dice, which
    this is for ``alpha = beta = 0.5`` (with half the ``s``).
    """
    scale = weights.unsqueeze(1)
    p, g = _probabilities(logits, target)
    loss = TverskyLoss(alpha=alpha, beta=beta, batch=True, soft_label=True, smooth_nr=smooth, smooth_dr=smooth)
    value: Tensor = loss(p * scale, g * scale)
    return value


def _surprise(logits: Tensor, target: Tensor) -> Tensor:
    """``-log p_t`` of each voxel, ``(N, *spatial)``."""
    if logits.shape[1] == 1:
        foreground = (target == 1).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits[:, 0], foreground, reduction="none")
    return F.cross_entropy(logits, target, reduction="none")


def _probabilities(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probabilities and the truth, ``(N, C, *spatial)`` each; of a sigmoid, of the foreground alone."""
    if logits.shape[1] == 1:
        return logits.sigmoid(), (target == 1).to(logits.dtype).unsqueeze(1)
    return logits.softmax(1), _is_class(logits, target).to(logits.dtype)


def _is_class(logits: Tensor, target: Tensor) -> Tensor:
    """Whether a voxel's target is the channel's class, ``(N, C, *spatial)``; made without a scatter."""
    ids = torch.arange(logits.shape[1], device=logits.device)
    return target.unsqueeze(1) == ids.view(-1, *[1] * (logits.ndim - 2))


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean; 0, with a gradient of 0, where no weight is above zero."""
    return (values * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def _single(logits: Tensor) -> Tensor:
    """Return logits in float32, or in float64 if they are."""
    return logits if logits.dtype == torch.float64 else logits.float()
