"""What this machine has: cores, memory, GPUs. The one place that asks; nothing here imports torch."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Machine:
    """The resources that a run on this machine may use.

    Attributes:
        cores: processor cores that this process may run on, or the container's quota if that is lower.
        memory: bytes of memory, or the container's limit if that is lower.
        gpus: names for ``CUDA_VISIBLE_DEVICES`` of the GPUs that torch could use.
        processor: model name of the processor, for the record.
    """

    cores: int
    memory: int
    gpus: tuple[str, ...]
    processor: str


def this_machine(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Machine:
    """Look at the machine that this process runs on.

    Args:
        environment: variables; ``CUDA_VISIBLE_DEVICES`` says which GPUs may be used.
        root: below it lie ``proc`` and ``sys``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    groups = list(_control_groups(root))
    gpus = _gpus(environment, root) if _torch_has_cuda() else ()
    return Machine(
        cores=min([cores, *(quota for group in groups for quota in _quotas(group))]),
        memory=min([psutil.virtual_memory().total, *(limit for group in groups for limit in _limits(group))]),
        gpus=gpus,
        processor=_processor(root),
    )


def _control_groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups (versions 1 and 2) that this process is in, and of those above."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, place = line.split(":", 2)
        top = root / "sys/fs/cgroup" / controllers
        group = top / place.strip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _limits(group: Path) -> Iterator[int]:
    """Yield the bytes of memory that a control group may have, where it is limited."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _read(group / name)
        if text.isdigit():
            yield int(text)


def _quotas(group: Path) -> Iterator[int]:
    """Yield the cores' worth of time that a control group may have, where it is limited; at least one."""
    halves = [_read(group / "cpu.max").split(), [_read(group / f"cpu.cfs_{n}_us") for n in ("quota", "period")]]
    for words in halves:
        if len(words) == 2 and all(word.isdigit() for word in words):
            quota, period = map(int, words)
            yield max(1, -(-quota // period))


def _gpus(environment: Mapping[str, str], root: Path) -> tuple[str, ...]:
    """Return the GPUs that CUDA would show; it stops at the first name of the variable that is none."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(takewhile(lambda name: name not in ("", "-1"), map(str.strip, visible.split(","))))
    return tuple(str(i) for i, _ in enumerate((root / "proc/driver/nvidia/gpus").glob("*")))


def _torch_has_cuda() -> bool:
    """Whether the installed torch was built for CUDA, by its version file, without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return False
    text = _read(Path(spec.origin).with_name("version.py"))
    return re.search(r"^cuda\b[^=]*=\s*['\"]", text, re.MULTILINE) is not None


def _processor(root: Path) -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    return match.group(1) if match else platform.processor() or platform.machine()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
