"""From what workers a run gets to a client of their cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from distributed import Client

from pipeline.config.cluster import KubernetesCluster, SlurmCluster
from pipeline.run.cluster.existing import existing
from pipeline.run.cluster.kubernetes import kubernetes
from pipeline.run.cluster.local import local
from pipeline.run.cluster.slurm import slurm
from pipeline.run.cluster_spec import ClusterSpec
from pipeline.run.tls import check_cluster


@contextmanager
def connect(spec: ClusterSpec) -> Iterator[Client]:
    """Give a client of the cluster; what was started ends with the block.

    Raises:
        InputError: the cluster may not be used, or does not answer.
        EnvironmentFaultError: the system that should start it does not.
    """
    check_cluster(spec)
    with _quiet(), _cluster(spec) as client:
        yield client


def slots(client: Client) -> int:
    """Return how many units the cluster can have in hand now."""
    return sum(client.nthreads().values())


def _cluster(spec: ClusterSpec) -> AbstractContextManager[Client]:
    if spec.address is not None:
        return existing(spec.address, spec.tls)
    if isinstance(spec.site, SlurmCluster):
        return slurm(spec, spec.site)
    if isinstance(spec.site, KubernetesCluster):
        return kubernetes(spec, spec.site)
    return local(spec)


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
