"""The few things that are asked of a Kubernetes cluster, through kr8s; the one place that knows it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Manifest = dict[str, Any]


class PodsError(Exception):
    """Kubernetes did not do what it was asked for."""


class Pods:
    """A namespace of the Kubernetes cluster that this machine's configuration, or its own pod, names.

    Args:
        namespace: where everything is.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def create(self, manifest: Manifest) -> None:
        """Create a resource.

        Raises:
            PodsError: it is refused, or its kind is not known.
        """
        with _told(f"{manifest['kind']} {manifest['metadata']['name']} could not be created"):
            self._resource(manifest).create()

    def remove(self, manifest: Manifest) -> None:
        """Remove a resource; nothing happens where there is none.

        Raises:
            PodsError: it is refused.
        """
        with _told(f"{manifest['kind']} {manifest['metadata']['name']} could not be removed"):
            found = self._resource(manifest)
            if found.exists():
                found.delete()

    def is_ready(self, service: str) -> bool:
        """Whether a service is there, and a pod of it ready."""
        from kr8s.objects import Service

        with _told(f"the service {service} could not be looked at"):
            found: Any = Service(service, namespace=self._namespace)
            if not found.exists():
                return False
            found.refresh()
            return bool(found.ready())

    @contextmanager
    def reach(self, service: str, port: int) -> Iterator[tuple[str, int]]:
        """Give host and port by which a service can be reached: its own inside the cluster, else a tunnel's end."""
        from kr8s.objects import Service

        host = f"{service}.{self._namespace}.svc"
        if _resolves(host):
            yield host, port
            return
        with _told(f"no tunnel to the service {service}"):
            tunnel = Service.get(service, namespace=self._namespace).portforward(port, local_port="auto")
        with tunnel as local_port:
            yield "127.0.0.1", int(local_port)

    def _resource(self, manifest: Manifest) -> Any:
        from kr8s.objects import new_class

        kind = new_class(manifest["kind"], manifest["apiVersion"])
        return kind(manifest, namespace=self._namespace)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Raise whatever goes wrong as PodsError."""
    try:
        yield
    except Exception as error:
        raise PodsError(f"{what} ({type(error).__name__}: {error})") from error


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
