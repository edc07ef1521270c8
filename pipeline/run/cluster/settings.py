"""What workers and schedulers of every kind of cluster are told: as Dask's configuration, and as variables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

WORKER_CONFIG: dict[str, Any] = {
    # A network keeps its memory, so pausing a full worker would stop it for ever; above the limit it is replaced.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # Dask's profile of its own tasks takes 40 MiB and grows for an hour; the ledger says where time goes.
    "distributed.worker.profile.enabled": False,
    # A worker runs what the run brings along, and nothing that a machine's own configuration adds.
    "distributed.worker.preload": [],
    "distributed.nanny.preload": [],
}

SCHEDULER_CONFIG: dict[str, Any] = {
    # A unit on which workers die twice has something in it that kills workers: its chunks are then tried alone.
    "distributed.scheduler.allowed-failures": 1,
    # A result that was lost with its worker is found lost after this long (30 s otherwise).
    "distributed.comm.timeouts.connect": "5s",
}

ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
"""glibc reads these when a process starts: keep what a network frees at each layer, in one arena for all threads (see
:func:`pipeline.run.worker.keep_freed_memory`, which does what can still be done in workers that others started)."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What libraries read their number of threads from; Dask's nannies would make it 1."""


def worker_variables(threads: int | None) -> dict[str, str]:
    """Return the environment that every worker process starts with.

    Args:
        threads: of the network.
    """
    return ALLOCATOR | dict.fromkeys(THREADS, str(threads or 1))


def as_variables(config: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as the variables from which a Dask process of another machine reads them."""
    return {
        f"DASK_{key.upper().replace('.', '__').replace('-', '_')}": str(value) for key, value in config.items()
    }


@contextmanager
def inherited(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for child processes, over the user's own as Dask would not; take them back in the end."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
