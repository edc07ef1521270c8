"""All checks in one call: gather the facts, judge each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping

from pipeline.config.cluster import SlurmCluster, load_cluster
from pipeline.config.doctor import DoctorJob
from pipeline.errors import OvertileError
from pipeline.jobs.doctor.finding import FAILED, OK, WARNING, Finding
from pipeline.jobs.doctor.hardware import (
    check_cores,
    check_gpus,
    check_memory,
    check_shared_memory,
    find_gpus,
    free_memory,
    shared_memory,
)
from pipeline.jobs.doctor.places import check_disk, check_store, find_disk
from pipeline.jobs.doctor.servers import check_prefect, check_scheduler, find_prefect, prefect_settings
from pipeline.jobs.doctor.software import (
    check_allocator,
    check_combinations,
    check_extras,
    check_versions,
    has_mallopt,
    installed_versions,
    requirements,
)
from pipeline.run.cluster_spec import ClusterSpec, Tls, tls_of
from pipeline.run.machine import this_machine
from pipeline.run.tls import check_cluster


def doctor(job: DoctorJob, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Check this machine, and what the job names beside it; yields each finding when it is made.

    Args:
        job: what to look at.
        environment: variables.
    """
    versions, machine = installed_versions(), this_machine(environment)
    yield check_versions(versions)
    yield check_combinations(versions, requirements())
    yield check_extras(versions)
    yield check_allocator(environment, has_mallopt())
    yield check_cores(machine, environment)
    yield check_memory(machine, free_memory())
    yield check_shared_memory(shared_memory())
    yield check_gpus(find_gpus(environment))
    yield check_disk(find_disk(job.path))
    if job.store is not None:
        yield check_store(job.store)
    yield check_workers(job.cluster, tls_of(job), environment)
    if job.scheduler is not None:
        yield check_scheduler(job.scheduler, tls_of(job))
    yield check_prefect(find_prefect(prefect_settings(environment)), versions.get("prefect", ""))


def check_workers(cluster: str, tls: Tls | None, environment: Mapping[str, str]) -> Finding:
    """Check that a kind of cluster can be used from here.

    Args:
        cluster: as ``--cluster``.
        tls: our certificates.
        environment: variables.
    """
    try:
        site = load_cluster(cluster)
        if site is None:
            return Finding("cluster", OK, "local: workers on this machine")
        check_cluster(ClusterSpec(site.workers.max, site.cores, site.memory, site=site, tls=tls), environment)
    except OvertileError as error:
        return Finding("cluster", FAILED, str(error), "see docs/clusters.md")
    found = (
        f"{site.kind}: {site.workers.min} to {site.workers.max} workers of {site.cores} cores"
        + " and a GPU" * site.gpu
    )
    if isinstance(site, SlurmCluster) and shutil.which("sbatch", path=environment.get("PATH")) is None:
        return Finding("cluster", WARNING, found, "there is no sbatch here: run jobs on a machine that has it")
    return Finding("cluster", OK, found)
