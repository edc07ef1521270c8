"""The resources of a cluster of pods: dask-kubernetes's own, with certificates and our workers' settings."""

from __future__ import annotations

from typing import Any

from pipeline.config.cluster import KubernetesCluster
from pipeline.run.cluster.settings import SCHEDULER_CONFIG, WORKER_CONFIG, as_variables, worker_variables
from pipeline.run.cluster_spec import CHUNKS_AT_ONCE, ClusterSpec

CERTIFICATES = "/etc/overtile/tls"
"""Where the pods see the Secret of `overtile certs`."""

BESIDE = 512 << 20
"""Bytes that a pod gets beside its worker's memory, for the nanny."""

_SCHEDULER_ROUTES = ["distributed.http.health", "distributed.http.scheduler.api"]
"""What the scheduler says over plain HTTP: that it is well, and to the operator how many workers it wants. Dask's other
pages would show everyone in the cluster the names of images and the errors of chunks."""

_SCHEDULER_RESOURCES = {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}


def cluster_manifest(name: str, spec: ClusterSpec, site: KubernetesCluster) -> dict[str, Any]:
    """Return the ``DaskCluster`` resource, in the form of the operator's custom resource definition.

    Args:
        name: of the cluster.
        spec: the workers.
        site: where they run, and from what image.
    """
    from dask_kubernetes.operator import make_cluster_spec  # an extra; that it is there was checked

    made: dict[str, Any] = make_cluster_spec(
        name, image=site.image, n_workers=site.workers.min, env=[], resources={}
    )
    made["metadata"]["namespace"] = site.namespace
    scheme, scheduler, worker = _scheme(site), made["spec"]["scheduler"]["spec"], made["spec"]["worker"]["spec"]
    scheduler["containers"][0] |= {
        "args": [],
        # Not as the image's own command has it, which may be another.
        "command": ["dask", "scheduler", "--host", f"{scheme}://0.0.0.0:8786", "--no-dashboard",
                 "--dashboard-address", ":8787"],
        "env": _environment(_scheduler_variables(site)),
        "resources": _SCHEDULER_RESOURCES,
    }  # fmt: skip
    worker["containers"][0] |= {
        "args": [],
        "command": ["dask", "worker", f"{scheme}://{name}-scheduler.{site.namespace}.svc:8786",
                 "--name", "$(DASK_WORKER_NAME)", "--nthreads", str(CHUNKS_AT_ONCE),
                 "--memory-limit", str(spec.memory_limit), "--protocol", scheme, "--nanny", "--no-dashboard",
                 "--death-timeout", "120"],
        "env": _environment(_worker_variables(spec, site)),
        "resources": _worker_resources(spec, site),
        "ports": [],
    }  # fmt: skip
    for pod in (scheduler, worker):
        _mount(pod, site, with_claims=pod is worker)
    return made


def autoscaler_manifest(name: str, site: KubernetesCluster) -> dict[str, Any]:
    """Return the ``DaskAutoscaler`` resource: as many workers as the scheduler says that the work is worth."""
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskAutoscaler",
        "metadata": {"name": name, "namespace": site.namespace},
        "spec": {"cluster": name, "minimum": site.workers.min, "maximum": site.workers.max},
    }


def _scheme(site: KubernetesCluster) -> str:
    return "tls" if site.tls_secret else "tcp"


def _scheduler_variables(site: KubernetesCluster) -> dict[str, str]:
    routes = {"distributed.scheduler.http.routes": _SCHEDULER_ROUTES}
    return as_variables(SCHEDULER_CONFIG | routes) | _tls_variables(site, "scheduler")


def _worker_variables(spec: ClusterSpec, site: KubernetesCluster) -> dict[str, str]:
    return worker_variables(spec.threads) | as_variables(WORKER_CONFIG) | _tls_variables(site, "worker")


def _tls_variables(site: KubernetesCluster, role: str) -> dict[str, str]:
    """Return where a process finds its certificates, and that it takes no plain connection."""
    if not site.tls_secret:
        return {}
    return as_variables(
        {
            "distributed.comm.require-encryption": True,
            "distributed.comm.tls.ca-file": f"{CERTIFICATES}/ca.pem",
            f"distributed.comm.tls.{role}.cert": f"{CERTIFICATES}/{role}.pem",
            f"distributed.comm.tls.{role}.key": f"{CERTIFICATES}/{role}-key.pem",
        }
    )


def _environment(variables: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in variables.items()]


def _worker_resources(spec: ClusterSpec, site: KubernetesCluster) -> dict[str, Any]:
    """Return what a worker's pod asks for; memory is asked for and limited alike, so that it is not moved away."""
    memory = str(spec.memory_limit + BESIDE)
    gpu = {"nvidia.com/gpu": "1"} if site.gpu else {}
    return {"requests": {"cpu": str(site.cores), "memory": memory} | gpu, "limits": {"memory": memory} | gpu}


def _mount(pod: dict[str, Any], site: KubernetesCluster, *, with_claims: bool) -> None:
    """Give a pod its volumes, credentials and rights."""
    container, volumes, mounts = pod["containers"][0], [], []
    if site.tls_secret:
        volumes.append({"name": "tls", "secret": {"secretName": site.tls_secret, "defaultMode": 0o444}})
        mounts.append({"name": "tls", "mountPath": CERTIFICATES, "readOnly": True})
    if with_claims:
        for number, (claim, path) in enumerate(site.claims.items()):
            volumes.append({"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim}})
            mounts.append({"name": f"claim-{number}", "mountPath": path})
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in site.credentials]
        pod["nodeSelector"] = dict(site.nodes)
    pod["volumes"], container["volumeMounts"] = volumes, mounts
    container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod["securityContext"] = {"runAsNonRoot": True} | ({"runAsUser": site.user} if site.user else {})
    pod["automountServiceAccountToken"] = site.service_account is not None
    if site.service_account:
        pod["serviceAccountName"] = site.service_account
