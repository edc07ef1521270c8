"""Workers as jobs of SLURM, through dask-jobqueue: one worker a job, as many jobs as the work is worth.

The scheduler is in this process, which has to run where the nodes can reach it (a login node, or a job of its own). It
listens to other machines, so it speaks TLS only, with the job's certificates or with some of its own that live in a
folder that all nodes see for as long as the run does. A worker leaves of itself before its time is up, so that what it
has in hand is no failure of a chunk; another job follows it.
"""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client
from distributed.security import Security

from pipeline.config.cluster import SlurmCluster, seconds_of
from pipeline.errors import EnvironmentFaultError
from pipeline.run.cluster.settings import SCHEDULER_CONFIG, WORKER_CONFIG, as_variables, worker_variables
from pipeline.run.cluster_spec import CHUNKS_AT_ONCE, ClusterSpec, Tls

LEAVE_BEFORE = 180
"""Seconds before the end of its time at which a worker leaves; give or take :data:`STAGGER`."""

STAGGER = 60
"""Seconds by which workers that began together leave apart."""

BESIDE = 512 << 20
"""Bytes that a job gets beside its worker's memory, for the nanny, so that it is the nanny that ends a full worker."""

_ROLES = ("client", "scheduler", "worker")

LOOK, IDLE_LOOKS = 2.0, 30
"""Seconds between two looks at how many workers the work is worth, and looks before one that is too many is ended."""


@contextmanager
def slurm(spec: ClusterSpec, site: SlurmCluster) -> Iterator[Client]:
    """Start a scheduler in this process and let SLURM start workers; their jobs are cancelled with the block.

    Raises:
        EnvironmentFaultError: there is no ``sbatch`` here, or it refuses a job.
    """
    jobqueue = importlib.import_module("dask_jobqueue")  # an extra; that it is there was checked
    if shutil.which("sbatch") is None:
        raise EnvironmentFaultError(
            "--cluster slurm: there is no sbatch here; run on a machine that gives SLURM jobs"
        )
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(SCHEDULER_CONFIG))
        security = stack.enter_context(_certificates(site.shared)) if spec.tls is None else _security(spec.tls)
        cluster = stack.enter_context(jobqueue.SLURMCluster(**cluster_options(spec, site, security)))
        _try_out(cluster.job_script())
        client = stack.enter_context(Client(cluster, set_as_default=False))
        cluster.adapt(
            minimum_jobs=site.workers.min,
            maximum_jobs=site.workers.max,
            interval=f"{LOOK} s",
            wait_count=IDLE_LOOKS,
        )
        yield client


def _try_out(script: str) -> None:
    """Let SLURM look at a job without running it: that it refuses one would not be told once the cluster scales itself.

    Raises:
        EnvironmentFaultError: it does.
    """
    done = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise EnvironmentFaultError(f"--cluster slurm: SLURM takes no such job: {said}; correct the cluster file")


def cluster_options(spec: ClusterSpec, site: SlurmCluster, security: Security) -> dict[str, Any]:
    """Return the arguments of dask-jobqueue's ``SLURMCluster``.

    Args:
        spec: the workers.
        site: where they run.
        security: certificates, in files that the nodes see.
    """
    lifetime = seconds_of(site.walltime) - LEAVE_BEFORE
    options = {
        "cores": CHUNKS_AT_ONCE,  # threads of Dask: chunks in hand; the job's cores are the network's
        "processes": 1,
        "job_cpu": site.cores,
        "memory": f"{spec.memory_limit}B",
        "job_mem": f"{-(-(spec.memory_limit + BESIDE) // (1 << 20))}M",
        "walltime": site.walltime,
        "queue": site.queue,
        "account": site.account,
        "interface": site.interface,
        "python": site.python,
        "local_directory": site.scratch,
        "log_directory": os.path.expanduser(site.logs) if site.logs else None,  # SLURM expands nothing
        "job_name": "overtile",
        "job_extra_directives": [*(["--gres=gpu:1"] if site.gpu else []), *site.directives],
        "job_script_prologue": [*_exports(spec), *site.prologue],
        "worker_extra_args": [
            "--no-dashboard", "--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{STAGGER}s",
        ],
        "protocol": "tls://",
        "security": security,
        "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "silence_logs": "error",
    }  # fmt: skip
    return {name: value for name, value in options.items() if value is not None}


def _exports(spec: ClusterSpec) -> list[str]:
    """Return the lines of shell that give a worker the environment that it has on this machine."""
    variables = worker_variables(spec.threads) | as_variables(WORKER_CONFIG)
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


@contextmanager
def _certificates(shared: str) -> Iterator[Security]:
    """Make certificates for this run alone, in a folder that all nodes see; they go with the block.

    Raises:
        EnvironmentFaultError: the folder cannot be written to.
    """
    made, parent = Security.temporary(), os.path.expanduser(shared)
    parts = {"ca": made.tls_ca_file, "cert": made.tls_worker_cert, "key": made.tls_worker_key}
    with ExitStack() as stack:
        try:
            os.makedirs(parent, mode=0o700, exist_ok=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".overtile-tls-", dir=parent)))
            for name, text in parts.items():
                with open(folder / f"{name}.pem", "x", opener=_for_us_alone) as file:
                    file.write(text)
        except OSError as error:
            raise EnvironmentFaultError(
                f"--cluster slurm: shared: {parent} cannot be written to ({error})"
            ) from error
        yield _security(Tls(*(str(folder / f"{name}.pem") for name in parts)))


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _security(tls: Tls) -> Security:
    """Return one set of certificates for all that speak: this process, its scheduler, and the workers."""
    roles = {f"tls_{role}_cert": tls.cert for role in _ROLES} | {f"tls_{role}_key": tls.key for role in _ROLES}
    return Security(require_encryption=True, tls_ca_file=tls.ca, **roles)
