"""Dask clusters: local worker processes, one worker a GPU, or any existing scheduler by its address."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster, Worker, WorkerPlugin

from pipeline.errors import InputError
from pipeline.run.cluster_spec import CHUNKS_AT_ONCE, ClusterSpec

_WORKER_CONFIG = {
    # A network keeps its memory, so pausing a full worker would stop it for ever; above the limit it is replaced.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # Dask's profile of its own tasks takes 40 MiB and grows for an hour; the ledger says where time goes.
    "distributed.worker.profile.enabled": False,
}

_SCHEDULER_CONFIG = {
    # A unit on which workers die twice has something in it that kills workers: its chunks are then tried alone.
    "distributed.scheduler.allowed-failures": 1,
    # A result that was lost with its worker is found lost after this long (30 s otherwise).
    "distributed.comm.timeouts.connect": "5s",
}

# glibc reads these when a process starts: keep what a network frees at each layer, in one arena for all threads
# (see worker.keep_freed_memory, which does what can still be done in the workers of other people's clusters).
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


@contextmanager
def connect(spec: ClusterSpec) -> Iterator[Client]:
    """Give a client of the cluster; what was started ends with the block.

    Raises:
        InputError: the address does not answer.
    """
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        if spec.address is not None:
            client = _existing(spec.address)
        else:
            cluster = stack.enter_context(_local(spec))
            client = Client(cluster, set_as_default=False)
            client.register_plugin(_Deaf())
        yield stack.enter_context(client)


def slots(client: Client) -> int:
    """Return how many units the cluster can have in hand now."""
    return sum(client.nthreads().values())


class _Deaf(WorkerPlugin):
    """Lets our own workers not hear a terminal's interrupt: the driver hears it too, and ends them."""

    name = "deaf-to-interrupts"

    def setup(self, worker: Worker) -> None:
        """Ignore SIGINT in this process."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's account of its own comings and goings out of the user's sight; what fails is raised anyway."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _existing(address: str) -> Client:
    try:
        return Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--scheduler {address}: no Dask scheduler answers there ({error});"
            " start one with `dask scheduler`, or leave --scheduler out to use this machine"
        ) from error


@contextmanager
def _local(spec: ClusterSpec) -> Iterator[SpecCluster]:
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"},
    }
    workers = {i: {"cls": Nanny, "options": _worker(spec, i)} for i in range(spec.workers)}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(spec.threads or 1))
    inherited = _ALLOCATOR | threads
    spawned = {"distributed.nanny.pre-spawn-environ": inherited}
    with dask.config.set(_SCHEDULER_CONFIG | _WORKER_CONFIG | spawned), _environment(inherited):
        cluster = SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.ERROR, name="overtile")
        with cluster:
            cluster.sync(cluster._correct_state)
            yield cluster


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the workers to inherit, over the user's own as Dask would not; take them back in the end."""
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


def _worker(spec: ClusterSpec, index: int) -> dict[str, object]:
    environment = {"CUDA_VISIBLE_DEVICES": spec.gpus[index]} if spec.gpus else {}
    return {
        "nthreads": CHUNKS_AT_ONCE,
        "memory_limit": spec.memory_limit,
        "host": "127.0.0.1",
        "dashboard": False,
        "silence_logs": logging.ERROR,
        "env": environment,
        "name": f"worker-{index}",
    }
