"""Who may be talked to: a scheduler runs what it is sent, so one that is not on this machine needs certificates.

Dask sends pickles: whoever reaches a plain scheduler runs code on every worker, and a worker that nobody vouches for
sees the images. So a plain connection is made to this machine alone, and any other needs TLS on which both sides show
a certificate of one authority.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

import dask

from pipeline.config.cluster import KubernetesCluster
from pipeline.errors import InputError
from pipeline.run.cluster_spec import ClusterSpec, Tls

ALLOW_PLAIN = "OVERTILE_ALLOW_PLAIN_SCHEDULER"
"""Environment variable by which an operator allows plain connections to other machines (set to 1)."""

PACKAGES = {"slurm": "dask_jobqueue", "kubernetes": "dask_kubernetes"}
"""What each kind of cluster needs beside Dask; the extra is called as the kind."""

_NEEDED = ("ca-file", "client.cert", "client.key")


def check_cluster(spec: ClusterSpec, environment: Mapping[str, str] = os.environ) -> None:
    """Check, before any work, that a cluster may be used and what it needs is there. Nothing is connected to.

    Raises:
        InputError: a plain connection to another machine, no certificates, a package that is not installed.
    """
    if spec.address is not None:
        check_address(spec.address, spec.tls, environment)
    if spec.site is None:
        return
    kind = spec.site.kind
    if importlib.util.find_spec(PACKAGES[kind]) is None:
        raise InputError(f"--cluster {kind} needs the extra: pip install 'overtile[{kind}]'")
    if isinstance(spec.site, KubernetesCluster):
        if spec.site.tls_secret is None and not allows_plain(environment):
            raise InputError(
                f"--cluster kubernetes: tls_secret is null, so any pod could run code on the workers; make certificates"
                f" (`overtile certs DIR`) and a Secret of them, or set {ALLOW_PLAIN}=1 where the network is trusted"
            )
        if spec.site.tls_secret is not None:
            check_certificates("--cluster kubernetes", spec.tls)


def check_address(address: str, tls: Tls | None, environment: Mapping[str, str] = os.environ) -> None:
    """Check that a scheduler's address may be connected to.

    Args:
        address: ``tcp://host:port`` or ``tls://host:port``; without a scheme it is ``tcp``.
        tls: the job's certificates, or None for those of Dask's configuration.
        environment: variables; see :data:`ALLOW_PLAIN`.

    Raises:
        InputError: another scheme, no port, a plain connection to another machine, or no certificates.
    """
    scheme, host = split_address(address)
    if scheme == "tls":
        check_certificates(f"--scheduler {address}", tls)
    elif not is_loopback(host) and not allows_plain(environment):
        raise InputError(
            f"--scheduler {address}: a plain connection to another machine is refused, for whoever listens there or in"
            f" between could run code here and on the workers. Start the cluster with TLS (`overtile certs DIR` makes"
            f" certificates) and use tls://{address.rpartition('/')[2]} with --tls-ca, --tls-cert and --tls-key; or set"
            f" {ALLOW_PLAIN}=1 where the network is trusted"
        )


def split_address(address: str) -> tuple[str, str]:
    """Return an address's scheme and host.

    Raises:
        InputError: it is not of the form ``tcp://host:port`` or ``tls://host:port``.
    """
    scheme, mark, rest = address.rpartition("://")
    host, colon, port = rest.rpartition(":")
    if not (scheme in ("tcp", "tls") or not mark) or not (colon and host and port.isdecimal()):
        raise InputError(
            f"--scheduler {address}: not an address of the form tcp://127.0.0.1:8786 or tls://host:8786"
        )
    return scheme or "tcp", host.strip("[]")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for certain; a name is looked up nowhere, only ``localhost`` counts."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allows_plain(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the operator allows plain connections to other machines."""
    return environment.get(ALLOW_PLAIN, "") == "1"


def check_certificates(what: str, tls: Tls | None) -> None:
    """Check that there are certificates to show and to believe.

    Raises:
        InputError: none are given, or a file cannot be read.
    """
    paths = _named(tls)
    lacking = [name for name, path in paths.items() if not path]
    if lacking:
        raise InputError(
            f"{what}: TLS needs --tls-ca, --tls-cert and --tls-key, or Dask's own configuration"
            f" (distributed.comm.tls); {', '.join(lacking)} is not set"
        )
    for name, path in paths.items():
        if "\n" in path:  # Dask takes the text of a certificate too
            continue
        try:
            readable = b"-----BEGIN " in Path(path).expanduser().read_bytes()
        except OSError as error:
            raise InputError(f"{what}: {name} {path} cannot be read ({error.strerror})") from error
        if not readable:
            raise InputError(f"{what}: {name} {path} is not a PEM file")


def _named(tls: Tls | None) -> dict[str, str]:
    """Return the certificates' paths, by what the user calls them."""
    if tls is not None:
        return {"--tls-ca": tls.ca, "--tls-cert": tls.cert, "--tls-key": tls.key}
    found = {
        f"distributed.comm.tls.{name}": dask.config.get(f"distributed.comm.tls.{name}", None) for name in _NEEDED
    }
    return {name: str(path or "") for name, path in found.items()}
