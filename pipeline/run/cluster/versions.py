"""What runs where on a cluster: the versions of scheduler, workers and this process."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from typing import Any, cast

from distributed import Client

SHIPPED = ("overtile", "distributed", "torch", "zarr", "numpy")
"""Packages that a worker needs, in the versions of this process."""


@dataclass(frozen=True, slots=True)
class Census:
    """Who is on a cluster.

    Attributes:
        here: version of each of :data:`SHIPPED` in this process, and of ``python``.
        scheduler: version of ``distributed`` and ``python`` of the scheduler.
        workers: as ``here``, of each worker by its name; what is not installed is an empty text.
        address: where the scheduler says that it is.
        error: why the workers could not be asked.
    """

    here: dict[str, str]
    scheduler: dict[str, str]
    workers: dict[str, dict[str, str]]
    address: str
    error: str = ""


def take_census(client: Client) -> Census:
    """Ask everybody on a cluster for versions."""
    told: dict[str, Any] = cast(Any, client.get_versions(check=False))["scheduler"]
    scheduler = {
        "distributed": str(told["packages"].get("distributed")),
        "python": str(told["packages"].get("python", "")).rpartition(".final")[0],
    }
    address = str(client.scheduler_info()["address"])
    try:
        workers: dict[str, dict[str, str]] = client.run(own_versions, on_error="raise")
    except Exception as error:  # whatever a worker lacks so much that it cannot even tell
        return Census(own_versions(), scheduler, {}, address, f"{type(error).__name__}: {error}")
    return Census(own_versions(), scheduler, workers, address)


def own_versions() -> dict[str, str]:
    """Return the versions of this process; runs in workers too."""
    return {name: _version(name) for name in SHIPPED} | {"python": platform.python_version()}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
