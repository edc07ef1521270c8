"""The steps of bioimage.io around a network: which of them a checkpoint can say, and their arithmetic.

The steps and their formulas are those of the model description, version 0.5 (bioimage.io, *Model
specification*, ``preprocessing`` and ``postprocessing``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError
from pipeline.model.foreign.described import Step
from pipeline.model.network import OutputMeaning

Array = npt.NDArray[Any]

PER_IMAGE = ("zero_mean_unit_variance", "scale_range")
_FLOATS = ("float32", "float64")


def global_normalisation(
    steps: Sequence[Step], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and standard deviation that say the same as preprocessing; None where there is none.

    A step ``gain * x + offset`` is ``(x - mean) / std`` with ``std = 1 / gain`` and ``mean = -offset / gain``.

    Raises:
        ModelError: if a step depends on the image, or cannot be said by a mean and a standard deviation.
    """
    gain, offset = np.ones(channels), np.zeros(channels)
    relevant = _without_casts(steps)
    for step in relevant:
        a, b = _affine(step, channels)
        gain, offset = gain * a, offset * a + b
    if not relevant:
        return None
    if gain.min() <= 0:
        raise ModelError(f"The package's preprocessing multiplies by {gain.min():g}, which is no normalisation.")
    return tuple(map(float, -offset / gain)), tuple(map(float, 1 / gain))


def output_meaning(
    steps: Sequence[Step], outputs: int, said: OutputMeaning | None
) -> tuple[OutputMeaning, float | None]:
    """Return what the network gives, and the threshold, so that Overtile does what postprocessing does.

    Args:
        steps: postprocessing.
        outputs: channels of the network.
        said: what the job says that the network gives, if it does.

    Raises:
        ModelError: if Overtile's sigmoid (one channel), softmax (several) or threshold is not what they do.
    """
    relevant = [step for step in steps if step["id"] != "ensure_dtype"]
    names = tuple(step["id"] for step in relevant)
    thresholds = [_threshold(step) for step in relevant if step["id"] == "binarize"]
    activated = names[:1] == ("sigmoid",) or names == ("softmax",)
    if activated and said not in (None, "logits"):
        raise ModelError(
            f"output_meaning {said}: the package applies a {names[0]} to what the network gives, so that is logits."
        )
    match names:
        case ():
            return said or "logits", None
        case ("sigmoid",) if outputs == 1:
            return "logits", None
        case ("softmax",) if outputs > 1 and _channelwise(relevant[0]):
            return "logits", None
        case ("sigmoid", "binarize") if outputs == 1 and 0 < thresholds[0] < 1:
            return "logits", thresholds[0]
        case ("binarize",) if outputs == 1 and said == "logits":
            return said, 1 / (1 + math.exp(-thresholds[0]))
        case ("binarize",) if outputs == 1 and said == "probabilities" and 0 < thresholds[0] < 1:
            return said, thresholds[0]
        case ("binarize",) if outputs == 1 and said is None:
            raise ModelError(
                f"The package compares what the network gives with {thresholds[0]:g}, but does not say what that is:"
                " give output_meaning (logits or probabilities)."
            )
    raise ModelError(
        f"The package's postprocessing ({', '.join(names)}, on {outputs} channels) is not what Overtile does after a"
        " network (one channel: sigmoid, then perhaps a threshold; several: softmax). Convert the weights by"
        " themselves (weights, constructor, arguments), say what the network gives with output_meaning, and do the"
        " rest on the result."
    )


def apply(steps: Iterable[Step], values: Array, axes: Sequence[str]) -> Array:
    """Do what steps do.

    Args:
        steps: of pre- or postprocessing.
        values: any shape.
        axes: ids of its axes.

    Raises:
        ModelError: if a step is not known here.
    """
    for step in steps:
        values = _apply(step, values, axes)
    return values


def _apply(step: Step, values: Array, axes: Sequence[str]) -> Array:
    kwargs = step.get("kwargs") or {}
    match step["id"]:
        case "ensure_dtype":
            return values.astype(kwargs["dtype"])
        case "scale_linear" | "fixed_zero_mean_unit_variance":
            channels = values.shape[axes.index("channel")]
            gain, offset = (_along(part, values.ndim, axes) for part in _affine(step, channels))
            return values * gain + offset
        case "zero_mean_unit_variance":
            where = _reduced(kwargs, axes)
            mean, std = values.mean(where, keepdims=True), values.std(where, keepdims=True)
            return np.asarray((values - mean) / (std + kwargs.get("eps", 1e-6)))
        case "scale_range" if kwargs.get("reference_tensor") is None:
            where = _reduced(kwargs, axes)
            limits = (kwargs.get("min_percentile", 0.0), kwargs.get("max_percentile", 100.0))
            low, high = np.percentile(values, limits, axis=where, keepdims=True)
            return np.asarray((values - low) / (high - low + kwargs.get("eps", 1e-6)))
        case "clip" if kwargs.get("min_percentile") is None and kwargs.get("max_percentile") is None:
            return np.clip(values, kwargs.get("min"), kwargs.get("max"))
        case "sigmoid":
            return np.asarray(1 / (1 + np.exp(-values.astype("float64"))))
        case "softmax":
            axis = axes.index((kwargs.get("axis")) or "channel")
            raised = np.exp(values.astype("float64") - values.max(axis, keepdims=True))
            return np.asarray(raised / raised.sum(axis, keepdims=True))
        case "binarize":
            return values > _threshold(step)
    raise ModelError(f"The step {step['id']} of the package's processing is not known.")


def _affine(step: Step, channels: int) -> tuple[Array, Array]:
    """Return the gain and the offset of a step, for each channel."""
    name, kwargs = step["id"], step.get("kwargs") or {}
    hint = (
        "Give mean and std in the job, of the values that the network was trained on; they replace preprocessing."
    )
    if name in PER_IMAGE:
        raise ModelError(
            f"The package normalises every image by itself ({name}), so a voxel's result would depend on what else is"
            f" in the image, and on how it is cut. {hint}"
        )
    if name not in ("scale_linear", "fixed_zero_mean_unit_variance"):
        raise ModelError(f"The package's preprocessing has the step {name}, which a checkpoint cannot say. {hint}")
    if kwargs.get("axis") not in (None, "channel"):
        raise ModelError(f"The package's preprocessing has {name} along the axis {kwargs['axis']!r}. {hint}")
    if name == "scale_linear":
        gain, offset = np.asarray(kwargs.get("gain", 1.0)), np.asarray(kwargs.get("offset", 0.0))
    else:
        gain = 1 / np.asarray(kwargs["std"])
        offset = -np.asarray(kwargs["mean"]) * gain
    if {gain.size, offset.size} - {1, channels}:
        raise ModelError(
            f"The package's preprocessing has {name} for {gain.size} channels; the input has {channels}."
        )
    return np.broadcast_to(gain, channels), np.broadcast_to(offset, channels)


def _without_casts(steps: Sequence[Step]) -> list[Step]:
    """Return steps without casts that change no value: to the input's own type first, later to floating point."""
    kept = []
    for index, step in enumerate(steps):
        if step["id"] == "ensure_dtype" and (index == 0 or step["kwargs"]["dtype"] in _FLOATS):
            continue
        kept.append(step)
    return kept


def _threshold(step: Step) -> float:
    """Return the one threshold of a step."""
    value = step["kwargs"]["threshold"]
    values = value if isinstance(value, list) else [value]
    if len(values) != 1:
        raise ModelError(f"The package has {len(values)} thresholds, one for each channel; Overtile has one.")
    return float(values[0])


def _channelwise(step: Step) -> bool:
    return str((step.get("kwargs") or {}).get("axis", "channel")) == "channel"


def _reduced(kwargs: Step, axes: Sequence[str]) -> tuple[int, ...] | None:
    names = kwargs.get("axes")
    return None if names is None else tuple(axes.index(name) for name in names)


def _along(values: Array, rank: int, axes: Sequence[str]) -> Array:
    """Shape values of the channels so that they meet theirs."""
    shape = [1] * rank
    shape[axes.index("channel")] = -1
    return values.reshape(shape)
