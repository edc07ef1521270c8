"""Checks of the machine: cores against threads, memory, shared memory, GPUs and their driver."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.jobs.doctor.finding import FAILED, OK, WARNING, Finding, judged
from pipeline.run.machine import Machine

GIB = 1 << 30

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

LEAST_MEMORY, LEAST_FREE, LEAST_SHARED = 2 * GIB, GIB, 256 << 20
"""Bytes of memory, of memory that is free, and of shared memory below which something is told."""

DRIVERS = {11: 450, 12: 525, 13: 580}
"""The first NVIDIA driver that runs programs of each CUDA version."""


@dataclass(frozen=True, slots=True)
class Gpus:
    """What there is of GPUs.

    Attributes:
        listed: a line of name and memory of each, as the driver lists them.
        driver: its version; empty where there is none.
        error: why it did not answer; empty where it did.
        torch: CUDA version that torch was built for; empty for a build without.
        visible: ``CUDA_VISIBLE_DEVICES``, or None.
    """

    listed: tuple[str, ...] = ()
    driver: str = ""
    error: str = ""
    torch: str = ""
    visible: str | None = None


def find_gpus(environment: Mapping[str, str] = os.environ) -> Gpus:
    """Ask the driver for its GPUs, and torch's version file for its CUDA."""
    visible, torch = environment.get("CUDA_VISIBLE_DEVICES"), _torch_cuda()
    program = shutil.which("nvidia-smi")
    if program is None:
        return Gpus(torch=torch, visible=visible)
    command = [program, "--query-gpu=driver_version,name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Gpus(error=str(error), torch=torch, visible=visible)
    if done.returncode:
        return Gpus(error=(done.stdout + done.stderr).strip()[:200], torch=torch, visible=visible)
    rows = [line.split(", ", 1) for line in done.stdout.splitlines() if ", " in line]
    return Gpus(tuple(row[1] for row in rows), rows[0][0] if rows else "", "", torch, visible)


def check_gpus(gpus: Gpus) -> Finding:
    """Check that the GPUs that are there can be used."""
    if gpus.error:
        return Finding(
            "gpus", FAILED, f"the NVIDIA driver does not answer: {gpus.error}", "reload it, or restart the machine"
        )
    if not gpus.listed:
        return Finding("gpus", OK, "none; networks run on the cores")
    found = (
        f"{len(gpus.listed)}: {'; '.join(gpus.listed)}; driver {gpus.driver}, torch for CUDA {gpus.torch or '-'}"
    )
    if not gpus.torch:
        return Finding(
            "gpus", WARNING, found, "the installed torch is for CPUs only; install one that is built for CUDA"
        )
    if gpus.visible in ("", "-1"):
        return Finding("gpus", WARNING, found, "CUDA_VISIBLE_DEVICES hides them all; unset it")
    needed = DRIVERS.get(int(gpus.torch.split(".")[0]), 0)
    if gpus.driver and int(gpus.driver.split(".")[0]) < needed:
        return Finding("gpus", FAILED, found, f"CUDA {gpus.torch} needs the driver {needed} or later; renew it")
    return Finding("gpus", OK, found)


def check_cores(
    machine: Machine, environment: Mapping[str, str], installed: int | None = os.cpu_count()
) -> Finding:
    """Check the settings of threads against the cores that may be used.

    Args:
        machine: its cores are those of the affinity, or of the container's quota.
        environment: variables.
        installed: cores of the machine.
    """
    of = (
        f" of {installed} (by affinity or the container's quota)"
        if installed and installed > machine.cores
        else ""
    )
    given = {name: environment[name] for name in THREADS if environment.get(name)}
    found = f"{machine.cores}{of}, {machine.processor}" + "".join(
        f", {name}={value}" for name, value in given.items()
    )
    advice = [
        f"{name}={value}: unset it, or give at most {machine.cores}; more threads than cores hinder each other"
        for name, value in given.items()
        if not value.isdecimal() or int(value) > machine.cores
    ]
    return judged("cores", found, warned=advice)


def check_memory(machine: Machine, free: int) -> Finding:
    """Check the memory that may be used.

    Args:
        machine: its memory is the container's limit where that is lower.
        free: bytes that are free now.
    """
    found = f"{machine.memory / GIB:.1f} GiB, {min(free, machine.memory) / GIB:.1f} GiB of it free"
    warned = []
    if machine.memory < LEAST_MEMORY:
        warned.append(f"a worker needs about 1 GiB; give {LEAST_MEMORY / GIB:.0f} GiB or more, or use --workers 1")
    elif free < LEAST_FREE:
        warned.append("end what uses the memory, or lower --memory-limit")
    return judged("memory", found, warned=warned)


def check_shared_memory(size: int | None) -> Finding:
    """Check ``/dev/shm``, through which the processes of a training hand each other patches.

    Args:
        size: bytes; None where there is none.
    """
    if size is None:
        return Finding("shared memory", OK, "none on this system")
    advice = ["containers get 64 MiB: docker run --shm-size 1g"] if size < LEAST_SHARED else []
    return judged("shared memory", f"/dev/shm of {size / (1 << 20):.0f} MiB", warned=advice)


def free_memory() -> int:
    """Return the bytes of memory that are free."""
    return int(psutil.virtual_memory().available)


def shared_memory() -> int | None:
    """Return the size of ``/dev/shm`` in bytes; None where there is none."""
    return shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None


def _torch_cuda() -> str:
    """Return the CUDA version that torch was built for, from its version file."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return ""
    try:
        text = Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return ""
    match = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match.group(1) if match else ""
