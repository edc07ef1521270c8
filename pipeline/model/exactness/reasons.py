"""Sentences for people: what prevents exactness, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.model.exactness.trace import Culprit

MOST = 6
"""Layers that get a sentence each; more of a kind share one."""

_BLEND = "segment in blend mode"
_NORMS = {
    "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_functional",
    "_batch_norm_with_update", "_batch_norm_with_update_functional", "native_group_norm", "native_layer_norm",
    "_fused_rms_norm", "var_mean", "var", "std", "std_mean",
}  # fmt: skip
_DROPOUT = {"native_dropout", "bernoulli", "rrelu_with_noise"}
_PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "_softmax", "_safe_softmax", "_log_softmax"}


def sentences(culprits: Sequence[Culprit]) -> tuple[str, ...]:
    """Return a sentence for each layer; of more than six of one kind, one for all."""
    groups: dict[tuple[str, str], list[str]] = {}
    for culprit in dict.fromkeys(culprits):
        places = groups.setdefault((culprit.layer, _says(culprit)), [])
        if culprit.path not in places:
            places.append(culprit.path)
    return tuple(
        f"{_where(layer, part)} {says}"
        for (layer, says), paths in groups.items()
        for part in (([path] for path in paths) if len(paths) <= MOST else [paths])
    )


def _where(layer: str, paths: Sequence[str]) -> str:
    """Name the layers, at most three of them by their place."""
    if list(paths) == [""]:
        return f"{layer} (the network's own code)" if layer != "NoneType" else "The network"
    named = ", ".join(path or "the top" for path in paths[: 3 if len(paths) > MOST else None])
    more = f" (and {len(paths) - 3} more)" if len(paths) > MOST else ""
    return f"{layer} at {named}{more}"


def _says(culprit: Culprit) -> str:
    """Return what a layer does and what to do, to stand behind its name."""
    match culprit.kind:
        case "corners":
            return (
                "interpolates with align_corners=True, so every voxel hangs on how long the input is: train with"
                f" align_corners=False, or {_BLEND}"
            )
        case "random" if culprit.training and culprit.operation in _DROPOUT:
            return "draws random numbers, as it is in training mode: call eval() on the network"
        case "random":
            return f"draws random numbers ({culprit.operation}) in every call: take it out, or {_BLEND}"
        case "values":
            return f"decides by the values of its input which operations run: take that out, or {_BLEND}"
        case "unknown":
            return (
                f"uses the operation {culprit.operation}, of which the analysis does not know what it sees: use"
                f" another one, or {_BLEND}"
            )
        case "untraceable":
            return f"cannot be followed operation by operation ({culprit.operation}): {_BLEND}"
        case "global":
            return _sees_all(culprit)


def _sees_all(culprit: Culprit) -> str:
    """Return what a layer that sees the whole input does."""
    name, layer = culprit.operation, culprit.layer
    if "batch_norm" in name and layer.startswith("BatchNorm"):
        if culprit.training:
            return (
                "takes its statistics over the whole batch, as it is in training mode: call eval() on the network"
            )
        return f"has no running statistics and takes them over the whole batch: train with them, or {_BLEND}"
    if name in _NORMS:
        return f"takes its statistics over the whole input: train with BatchNorm, or {_BLEND}"
    if name in _PRODUCTS:
        return f"lets every voxel see the whole input (attention): use local layers, or {_BLEND}"
    if name.startswith("cum") or name == "logcumsumexp":
        return f"adds up along the whole input ({name}): {_BLEND}"
    return f"looks at the whole input ({name}): train without it, or {_BLEND}"
