"""Workers as pods: a ``DaskCluster`` resource that the Dask operator turns into a scheduler and workers.

The resource is dask-kubernetes's own (``make_cluster_spec``), made safe and given our workers' settings. Its cluster
manager ``KubeCluster`` is not used: it speaks to the scheduler without TLS and waits for ever where TLS is required. So
the resource is created and removed here, scaled by the operator's autoscaler, and connected to with certificates.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from distributed import Client

from pipeline.config.cluster import KubernetesCluster
from pipeline.errors import EnvironmentFaultError, InputError
from pipeline.run.cluster.existing import existing
from pipeline.run.cluster.manifest import autoscaler_manifest, cluster_manifest
from pipeline.run.cluster.pods import Manifest, Pods, PodsError
from pipeline.run.cluster_spec import ClusterSpec

log = logging.getLogger("overtile")

START = 600.0
"""Seconds in which the scheduler's pod must be ready: the image is loaded onto a node."""

LOOK = 1.0
"""Seconds between two looks at whether it is."""


@contextmanager
def kubernetes(spec: ClusterSpec, site: KubernetesCluster, *, pods: Pods | None = None) -> Iterator[Client]:
    """Create a cluster and connect to it; it is removed at the end of the block.

    Args:
        spec: the workers.
        site: where they are.
        pods: the Kubernetes cluster; None for the one that this machine is set up for.

    Raises:
        EnvironmentFaultError: Kubernetes does not answer, or the scheduler did not start.
    """
    pods = pods or Pods(site.namespace)
    name = f"overtile-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        try:
            for manifest in (cluster_manifest(name, spec, site), autoscaler_manifest(name, site)):
                stack.callback(_remove, pods, manifest)
                pods.create(manifest)
            _await_scheduler(pods, name, site)
            host, port = stack.enter_context(pods.reach(f"{name}-scheduler", 8786))
            scheme = "tls" if site.tls_secret else "tcp"
            client = stack.enter_context(existing(f"{scheme}://{host}:{port}", spec.tls, patience=60.0))
        except (PodsError, InputError) as error:
            raise EnvironmentFaultError(
                f"--cluster kubernetes: {error}. See `kubectl -n {site.namespace} get daskclusters,pods`, and"
                " whether the Dask operator is installed; docs/clusters.md says how"
            ) from error
        yield client


def _remove(pods: Pods, manifest: Manifest) -> None:
    try:
        pods.remove(manifest)
    except PodsError as error:
        log.warning("%s; remove it: kubectl delete %s %s", error, manifest["kind"], manifest["metadata"]["name"])


def _await_scheduler(pods: Pods, name: str, site: KubernetesCluster) -> None:
    deadline = time.monotonic() + START
    while not pods.is_ready(f"{name}-scheduler"):
        if time.monotonic() > deadline:
            raise PodsError(f"the scheduler {name}-scheduler of {site.image} was not ready after {START:g} s")
        time.sleep(LOOK)
