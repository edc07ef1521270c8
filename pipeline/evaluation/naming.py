"""Short names of models and volumes: the end of an address, as much of it as tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping


def short_names(addresses: Iterable[str]) -> dict[str, str]:
    """Return the shortest end of each address, by whole parts, that no other one has.

    ``/a/x/target.zarr`` and ``/a/y/target.zarr`` are ``x/target.zarr`` and ``y/target.zarr``.
    """
    parts = {address: address.rstrip("/").split("/") for address in addresses}
    names: dict[str, str] = {}
    length = 1
    while waiting := parts.keys() - names.keys():
        ends = {address: "/".join(part[-length:]) for address, part in parts.items()}
        shared = Counter(ends.values())
        names |= {a: ends[a] for a in waiting if shared[ends[a]] == 1 or length >= len(parts[a])}
        length += 1
    return names


def model_names(paths: Mapping[str, str]) -> dict[str, str]:
    """Return a name of each model, by its digest; models that lay at one path are told apart by their digests.

    Args:
        paths: of the checkpoint, by its digest.
    """
    ends = {path: end.removesuffix(".safetensors") for path, end in short_names(set(paths.values())).items()}
    shared = Counter(paths.values())
    return {
        digest: ends[path] if shared[path] == 1 else f"{ends[path]} ({digest.removeprefix('sha256:')[:8]})"
        for digest, path in paths.items()
    }
