"""Calibration on what is held out: the threshold that is best, and the temperature that makes probabilities honest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from pipeline.evaluation.calibration import calibration_metrics
from pipeline.evaluation.histograms import CalibrationStatistics
from pipeline.evaluation.logit_sample import LogitSample
from pipeline.evaluation.temperature import Likelihood, fit_temperature
from pipeline.training.validation import Measured

Reals = npt.NDArray[np.floating[Any]]
Whole = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the network's output becomes honest probabilities and class ids.

    Attributes:
        threshold: calibrated probability from which a sigmoid says foreground.
        temperature: what logits are divided by.
        document: how both were found, ready for JSON; None where nothing was held out.
    """

    threshold: float = 0.5
    temperature: float = 1.0
    document: dict[str, Any] | None = None


def calibrate(measured: Measured | None) -> Calibration:
    """Find the best threshold and temperature.

    The threshold is that of the greatest mean IoU of both classes (which a foreground that is nearly everywhere does
    not decide alone), of raw probabilities; the header's is carried over to calibrated ones, so that it cuts the logits
    at the same place. Where no temperature is best (a network that is
    never wrong, or knows nothing), it is 1.

    Args:
        measured: the network on all that was held out, with a sample of its logits.
    """
    if measured is None or not measured.targets:
        return Calibration()
    logits, target = np.concatenate(measured.logits), np.concatenate(measured.targets)
    likelihood: Likelihood = measured.histogram
    if logits.shape[1] > 1:
        likelihood = LogitSample(len(target), np.arange(len(target), dtype=np.uint64), logits, target)
    fitted = fit_temperature(likelihood)
    temperature = 1.0 if fitted.value is None else fitted.value
    swept = best_cut(measured.sweep)
    threshold = 0.5 if swept is None else carried(swept["threshold"], temperature)
    document = {
        "threshold": threshold,
        "temperature": temperature,
        "fit": fitted.to_dict(),
        "sweep": swept,
        "raw": reliability(logits, target),
        "calibrated": reliability(logits / temperature, target),
    }
    return Calibration(threshold, temperature, document)


def best_cut(total: CalibrationStatistics) -> dict[str, float] | None:
    """Return the threshold of the greatest mean IoU of both classes, and what it is there and at one half.

    Args:
        total: probabilities of the foreground.

    Returns:
        ``threshold`` (a multiple of the bins' width, above 0; of equal ones the nearest to one half), ``mean_iou`` and
        ``mean_iou_at_half``; None where one of the classes is not there.
    """
    background, foreground = total.counts.sum(axis=1).astype(np.float64)
    if not background or not foreground:
        return None
    wrong, right = total.counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    missed, left = foreground - right, background - wrong
    means = (right / (foreground + wrong) + left / (background + missed)) / 2
    half = total.bins // 2
    best = max(range(1, total.bins), key=lambda i: (means[i], -abs(i - half)))
    return {
        "threshold": best / total.bins,
        "mean_iou": float(means[best]),
        "mean_iou_at_half": float(means[half]),
    }


def carried(threshold: float, temperature: float) -> float:
    """Return the threshold of calibrated probabilities that cuts logits where one of raw probabilities does."""
    if temperature == 1:
        return threshold
    cut = math.log(threshold / (1 - threshold)) / temperature
    # Far from the middle a float has no number between this and one; a threshold is below it.
    return min(max(1 / (1 + math.exp(-cut)), 1e-6), 1 - 1e-6)


def reliability(logits: Reals, target: Whole) -> dict[str, Any]:
    """Return how often the network is right by how sure it is: ``ece``, ``mce`` and ``reliability``, ready for JSON.

    Args:
        logits: ``(voxels, channels)``; one channel is a sigmoid.
        target: class ids ``(voxels,)``.
    """
    wide = logits.astype(np.float64).T
    if len(wide) == 1:
        foreground = expit(wide[0])
        probabilities = np.stack([1 - foreground, foreground])
    else:
        probabilities = softmax(wide, axis=0)
    found = calibration_metrics(CalibrationStatistics.of_top_label(probabilities, target))
    return {name: found[name] for name in ("voxels", "ece", "mce", "reliability")}
