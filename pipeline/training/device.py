"""Where training runs: the device, and the threads that torch has while it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import InputError


def choose_device(wanted: str) -> str:
    """Return ``cpu`` or ``cuda`` for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: a GPU is wanted, but torch finds none.
    """
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise InputError("device cuda: torch finds no GPU on this machine; use device cpu or auto")
    return "cuda" if found and wanted != "cpu" else "cpu"


def memory_for_training(device: str, memory: int, cache: int) -> int:
    """Return the bytes that a step may take: four fifths of a GPU's, else half of what the cache leaves.

    Args:
        device: ``cpu`` or ``cuda``.
        memory: bytes of this machine.
        cache: bytes for decoded voxels.
    """
    if device == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory * 0.8)
    return max(1 << 30, (memory - cache) // 2)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Give torch so many threads on the CPU for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
