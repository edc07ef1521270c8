"""Which workers a run gets; a value without Dask, so that planning needs none."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.cluster import ClusterFields, Site
from pipeline.errors import PlanError
from pipeline.run.machine import Machine

CHUNKS_AT_ONCE = 3
"""Chunks that a worker has in hand: one being read, one in the network, one being written."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What this process shows to a cluster, and what it believes: paths of PEM files.

    Attributes:
        ca: certificate of the authority that signed those of the cluster.
        cert: our own certificate.
        key: its private key.
    """

    ca: str
    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What workers a run gets.

    Attributes:
        workers: number of worker processes; of a cluster that grows and shrinks, the most.
        threads: threads of the network in each worker; None takes those that the worker was given.
        memory_limit: bytes of resident memory a worker; above 95 % it is replaced.
        gpus: CUDA device of each worker on this machine; empty for CPU workers.
        address: of an existing scheduler (``tcp://...``, ``tls://...``); then no process is started.
        site: what to ask another system for (SLURM, Kubernetes), which then starts the workers.
        tls: certificates for a scheduler that is not on this machine; None for those of Dask's own configuration.
    """

    workers: int
    threads: int | None
    memory_limit: int
    gpus: tuple[str, ...] = ()
    address: str | None = None
    site: Site | None = None
    tls: Tls | None = None


def tls_of(job: ClusterFields) -> Tls | None:
    """Return the certificates that a job names; None where it names none."""
    if job.tls_ca is None or job.tls_cert is None or job.tls_key is None:
        return None
    return Tls(job.tls_ca, job.tls_cert, job.tls_key)


def choose_workers(
    machine: Machine,
    *,
    device: str,
    workers: int | None,
    threads: int | None,
    memory_limit: int | None,
    address: str | None,
    site: Site | None = None,
    tls: Tls | None = None,
) -> tuple[ClusterSpec, str]:
    """Return the workers and their device: one worker a GPU, processes that share the cores, or another cluster's.

    Args:
        machine: what this machine has.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: how many, or None for as many as fit the cores or the GPUs.
        threads: of the network in each worker, or None for the worker's share of the cores.
        memory_limit: bytes a worker, or None for its share of 80 % of the memory.
        address: of an existing scheduler, or None.
        site: of workers that another system starts, or None.
        tls: certificates for such a cluster.

    Raises:
        PlanError: more workers or GPUs than there are, or workers asked of a cluster that has its own.
    """
    if site is not None:
        if workers is not None or address is not None:
            name = "--workers" if workers is not None else "--scheduler"
            raise PlanError(
                f"{name} does not go with --cluster {site.kind}, whose file says how many workers it has"
            )
        return _elsewhere(site, device, threads, memory_limit, tls)
    if device == "auto":
        device = "cuda" if machine.gpus else "cpu"
    if address is not None:
        if workers is not None:
            raise PlanError("--workers is for workers on this machine; the cluster of --scheduler has its own")
        limit = memory_limit or machine.memory
        return ClusterSpec(1, threads, limit, (), address, tls=tls), device
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


def _elsewhere(
    site: Site, device: str, threads: int | None, memory_limit: int | None, tls: Tls | None
) -> tuple[ClusterSpec, str]:
    """Return what another system is asked for; the job may ask for other memory or threads than the site's file."""
    if device == "cuda" and not site.gpu:
        raise PlanError(
            f"--device cuda: workers of --cluster {site.kind} have no GPUs; say `gpu: true` in its file"
        )
    device = "cuda" if site.gpu and device == "auto" else "cpu" if device == "auto" else device
    limit, threads = memory_limit or site.memory, threads or site.cores
    return ClusterSpec(site.workers.max, threads, limit, site=site, tls=tls), device


def _cpu_workers(cores: int, threads: int | None) -> int:
    """Return how many processes to share the cores among: a few threads each, for a network gains little from more."""
    if threads is not None:
        return max(1, cores // threads)
    return cores if cores <= 4 else -(-cores // 4)
