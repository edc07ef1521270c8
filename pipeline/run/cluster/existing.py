"""A cluster that is there already, by the address of its scheduler; its workers come and go as they like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client
from distributed.security import Security

from pipeline.errors import InputError
from pipeline.run.cluster_spec import Tls
from pipeline.run.tls import check_address, split_address


@contextmanager
def existing(address: str, tls: Tls | None, *, patience: float = 10.0) -> Iterator[Client]:
    """Connect to a scheduler; nothing of the cluster is stopped at the end of the block.

    Args:
        address: of the scheduler.
        tls: certificates, for a ``tls://`` address; None for those of Dask's configuration.
        patience: seconds in which it must answer.

    Raises:
        InputError: the address may not be connected to, or does not answer.
    """
    check_address(address, tls)
    try:
        client = Client(address, security=security(address, tls), timeout=patience, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--scheduler {address}: no Dask scheduler answers there{_how(address)} ({error});"
            " start one with `dask scheduler`, or leave --scheduler out to use this machine"
        ) from error
    with client:
        yield client


def security(address: str, tls: Tls | None) -> Security | None:
    """Return what Dask needs to know for an address; None for a plain one."""
    if split_address(address)[0] != "tls":
        return None
    if tls is None:
        return Security(require_encryption=True)
    return Security(require_encryption=True, tls_ca_file=tls.ca, tls_client_cert=tls.cert, tls_client_key=tls.key)


def _how(address: str) -> str:
    return " that shares our certificates" if split_address(address)[0] == "tls" else ""
