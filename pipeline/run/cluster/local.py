"""Workers on this machine: processes that share its cores, or one a GPU; nothing of it can be reached from outside."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster, Worker, WorkerPlugin

from pipeline.run.cluster.settings import SCHEDULER_CONFIG, WORKER_CONFIG, inherited, worker_variables
from pipeline.run.cluster_spec import CHUNKS_AT_ONCE, ClusterSpec


@contextmanager
def local(spec: ClusterSpec) -> Iterator[Client]:
    """Start a scheduler in this process and workers beside it; they end with the block."""
    with _cluster(spec) as cluster, Client(cluster, set_as_default=False) as client:
        client.register_plugin(_Deaf())
        yield client


class _Deaf(WorkerPlugin):
    """Lets our own workers not hear a terminal's interrupt: the driver hears it too, and ends them."""

    name = "deaf-to-interrupts"

    def setup(self, worker: Worker) -> None:
        """Ignore SIGINT in this process."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _cluster(spec: ClusterSpec) -> Iterator[SpecCluster]:
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"},
    }
    workers = {i: {"cls": Nanny, "options": _worker(spec, i)} for i in range(spec.workers)}
    variables = worker_variables(spec.threads)
    spawned = {"distributed.nanny.pre-spawn-environ": variables}
    with dask.config.set(SCHEDULER_CONFIG | WORKER_CONFIG | spawned), inherited(variables):
        cluster = SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.ERROR, name="overtile")
        with cluster:
            cluster.sync(cluster._correct_state)
            yield cluster


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
