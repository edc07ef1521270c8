"""Checks of what is installed: versions, combinations that are known not to work, extras, the allocator."""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.jobs.doctor.finding import OK, WARNING, Finding, judged

NAMED = ("overtile", "torch", "zarr", "dask", "distributed", "prefect", "numpy")
"""Packages whose versions are told."""

EXTRAS = {
    "geo": ("rasterio", "shapely", "pyogrio"),
    "hdf5": ("h5py",),
    "slides": ("openslide-python",),
    "tensorstore": ("tensorstore",),
    "s3": ("obstore",),
    "slurm": ("dask-jobqueue",),
    "kubernetes": ("dask-kubernetes",),
    "bioimageio": ("bioimageio.spec",),
    "dashboard": ("bokeh",),
}
"""The extras, and the packages that each one stands for."""


class Bad(NamedTuple):
    """Two packages that do not work together in these versions."""

    one: str
    its: str
    other: str
    others: str
    why: str


KNOWN_BAD = (
    Bad("prefect", ">=3.8,<3.9", "fastapi", ">=0.151", "the Prefect server does not start"),
    Bad("prefect", ">=3.8,<3.9", "sqlalchemy", ">=2.1", "the Prefect server's scheduler creates no runs"),
    Bad("overtile", ">=0", "numcodecs", "<0.16", "a Zarr of version 2 can run code when it is opened"),
    Bad("overtile", ">=0", "torch", "<2.10", "torch.load runs code of a checkpoint, even with weights_only"),
)
"""Combinations that were met, with what comes of them."""


def installed_versions() -> dict[str, str]:
    """Return the version of everything that is installed, by names in small letters with dashes."""
    found: dict[str, str] = {}
    for each in importlib.metadata.distributions():
        if each.metadata["Name"]:
            found.setdefault(_canonical(each.metadata["Name"]), each.version)
    return found


def requirements() -> list[str]:
    """Return what the installed Overtile asks for."""
    try:
        return importlib.metadata.requires("overtile") or []
    except importlib.metadata.PackageNotFoundError:
        return []


def check_versions(versions: Mapping[str, str], python: str = platform.python_version()) -> Finding:
    """Tell the versions that matter; ``dask`` and ``distributed`` must be of one release."""
    named = {"python": python} | {name: versions.get(name, "not installed") for name in NAMED}
    failed = [f"install {name}" for name in NAMED if name not in versions and name != "overtile"]
    if versions.get("dask") != versions.get("distributed"):
        failed.append("dask and distributed are made for each other: install the same version of both")
    return judged("versions", ", ".join(f"{name} {version}" for name, version in named.items()), failed=failed)


def check_combinations(versions: Mapping[str, str], needed: list[str]) -> Finding:
    """Find versions that are known not to work, or that are not those that Overtile asks for.

    Args:
        versions: what is installed.
        needed: Overtile's requirements, as package metadata has them.
    """
    bad = [
        each
        for each in KNOWN_BAD
        if _has(versions, each.one, each.its) and _has(versions, each.other, each.others)
    ]
    known = {each.other for each in bad}
    reasons = [f"{b.other} {versions[b.other]} with {b.one} {versions[b.one]}: {b.why}" for b in bad]
    wrong = [(name, asked) for name, asked in _wrong(versions, needed) if name not in known]
    reasons += [
        f"{name} {versions.get(name, 'not installed')}, but overtile needs {asked}" for name, asked in wrong
    ]
    advice = (
        ["pip install -c constraints.txt -e . brings back the versions that were tested together"]
        if reasons
        else []
    )
    return judged("combinations", "; ".join(reasons) or "no combination that is known not to work", failed=advice)


def check_extras(versions: Mapping[str, str]) -> Finding:
    """Tell which extras are installed; one of which only a part is there deserves a warning."""
    state = {extra: [name for name in names if _canonical(name) in versions] for extra, names in EXTRAS.items()}
    whole = [extra for extra, there in state.items() if len(there) == len(EXTRAS[extra])]
    partly = [extra for extra, there in state.items() if there and extra not in whole]
    absent = [extra for extra, there in state.items() if not there]
    found = f"installed: {', '.join(whole) or 'none'}" + (f"; not: {', '.join(absent)}" if absent else "")
    return judged(
        "extras", found, warned=[f"pip install 'overtile[{extra}]': a part of it is missing" for extra in partly]
    )


def has_mallopt() -> bool:
    """Whether the C library lets a process keep what a network frees (glibc)."""
    return hasattr(ctypes.CDLL(None), "mallopt")


def check_allocator(environment: Mapping[str, str], mallopt: bool) -> Finding:
    """Check whether workers can keep the memory that a network frees at each layer.

    Args:
        environment: variables.
        mallopt: whether the C library is glibc.
    """
    other = [name for name in environment.get("LD_PRELOAD", "").replace(":", " ").split() if "malloc" in name]
    if other:
        return Finding("allocator", OK, f"{other[0]}, preloaded")
    if not mallopt:
        advice = "on a CPU a network runs up to 1.5 times slower than with glibc; use an image that is based on it"
        return Finding("allocator", WARNING, "not glibc", advice)
    return Finding("allocator", OK, "glibc; workers are told to keep what a network frees")


def _has(versions: Mapping[str, str], name: str, wanted: str) -> bool:
    return name in versions and SpecifierSet(wanted).contains(versions[name], prereleases=True)


def _wrong(versions: Mapping[str, str], needed: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the names and versions that are asked for and not there; extras are not asked for."""
    for text in needed:
        asked = Requirement(text)
        if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        name = _canonical(asked.name)
        if name not in versions or not asked.specifier.contains(versions[name], prereleases=True):
            yield name, str(asked.specifier)


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
