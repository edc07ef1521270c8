"""What this machine has: cores, memory, GPUs. The one place that asks; nothing here imports torch."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, slots=True)
class Machine:
    """The resources that a run on this machine may use.

    Attributes:
        cores: processor cores that this process may run on.
        memory: bytes of memory, or the container's limit if that is lower.
        gpus: names for ``CUDA_VISIBLE_DEVICES`` of the GPUs that torch could use.
        processor: model name of the processor, for the record.
    """

    cores: int
    memory: int
    gpus: tuple[str, ...]
    processor: str


def this_machine(environment: Mapping[str, str] = os.environ) -> Machine:
    """Look at the machine that this process runs on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [int(text) for text in map(_read, _CGROUP_MEMORY) if text.isdigit()]
    memory = min([psutil.virtual_memory().total, *limits])
    gpus = _gpus(environment) if _torch_has_cuda() else ()
    return Machine(cores, memory, gpus, _processor())


def _gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    count = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    return tuple(str(i) for i in range(count))


def _torch_has_cuda() -> bool:
    """Whether the installed torch was built for CUDA, by its version file, without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return False
    text = _read(Path(spec.origin).with_name("version.py"))
    return re.search(r"^cuda\b[^=]*=\s*['\"]", text, re.MULTILINE) is not None


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return match.group(1) if match else platform.processor() or platform.machine()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
