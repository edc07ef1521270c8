"""How many runs may use GPUs at a time, on all machines of a server together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.concurrency.sync import concurrency

from pipeline.run.machine import this_machine

GPU = "overtile-gpu"
"""Name of the global concurrency limit; where the server has none of this name, runs do not wait for each other."""


@contextmanager
def gpu_slot(device: str, count: int = 1) -> Iterator[None]:
    """Wait for slots of the limit and hold them through the block, where the device is a GPU.

    Args:
        device: ``cpu``, ``cuda``, or ``auto`` for what this machine has.
        count: GPUs, and so slots.
    """
    if device == "auto":
        device = "cuda" if this_machine().gpus else "cpu"
    if device != "cuda":
        yield
        return
    with concurrency(GPU, occupy=count, strict=False):
        yield
