"""Which workers a run gets; a value without Dask, so that planning needs none."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import PlanError
from pipeline.run.machine import Machine

CHUNKS_AT_ONCE = 3
"""Chunks that a worker has in hand: one being read, one in the network, one being written."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What workers a run gets.

    Attributes:
        workers: number of local worker processes.
        threads: threads of the network in each worker; None takes those that the worker was given.
        memory_limit: bytes of resident memory a worker; above 95 % it is replaced.
        gpus: CUDA device of each worker; empty for CPU workers.
        address: of an existing scheduler (``tcp://...``); then no process is started.
    """

    workers: int
    threads: int | None
    memory_limit: int
    gpus: tuple[str, ...] = ()
    address: str | None = None


def choose_workers(
    machine: Machine,
    *,
    device: str,
    workers: int | None,
    threads: int | None,
    memory_limit: int | None,
    address: str | None,
) -> tuple[ClusterSpec, str]:
    """Return the workers and their device: one worker a GPU, processes that share the cores, or an existing cluster.

    Args:
        machine: what this machine has.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: how many, or None for as many as fit the cores or the GPUs.
        threads: of the network in each worker, or None for the worker's share of the cores.
        memory_limit: bytes a worker, or None for its share of 80 % of the memory.
        address: of an existing scheduler, or None.

    Raises:
        PlanError: more workers or GPUs than there are, or workers asked of a cluster that has its own.
    """
    if device == "auto":
        device = "cuda" if machine.gpus else "cpu"
    if address is not None:
        if workers is not None:
            raise PlanError("--workers is for workers on this machine; the cluster of --scheduler has its own")
        limit = memory_limit or machine.memory
        return ClusterSpec(1, threads, limit, (), address), device
    if device == "cuda":
        if not machine.gpus:
            raise PlanError(
                "--device cuda: there is no GPU here that the installed torch can use; use --device cpu"
            )
        if workers is not None and workers > len(machine.gpus):
            raise PlanError(f"--workers {workers}: one worker a GPU, and there are {len(machine.gpus)}")
    most = len(machine.gpus) if device == "cuda" else _cpu_workers(machine.cores, threads)
    count = workers or most
    gpus = machine.gpus[:count] if device == "cuda" else ()
    threads = threads or max(1, machine.cores // count)
    limit = memory_limit or int(0.8 * machine.memory / count)
    return ClusterSpec(count, threads, limit, gpus), device


def _cpu_workers(cores: int, threads: int | None) -> int:
    """Return how many processes to share the cores among: a few threads each, for a network gains little from more."""
    if threads is not None:
        return max(1, cores // threads)
    return cores if cores <= 4 else -(-cores // 4)
