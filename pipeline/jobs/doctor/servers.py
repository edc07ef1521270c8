"""Checks of the servers around: a Dask scheduler, and Prefect's, which is asked without importing it."""

from __future__ import annotations

import base64
import json
import os
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from pipeline.errors import OvertileError
from pipeline.jobs.doctor.finding import FAILED, OK, WARNING, Finding, judged
from pipeline.run.cluster.existing import existing
from pipeline.run.cluster.versions import Census, take_census
from pipeline.run.cluster_spec import Tls
from pipeline.run.tls import is_loopback, split_address

TIMEOUT = 10.0
"""Seconds in which a server must answer."""


@dataclass(frozen=True, slots=True)
class Server:
    """What is known of a Prefect server.

    Attributes:
        url: of its API; empty where none is named.
        version: that it says of itself; empty where it did not answer.
        error: why it did not answer.
        open: it answers to those who show no credentials.
        heard: addresses at which it listens, where it is on this machine.
    """

    url: str = ""
    version: str = ""
    error: str = ""
    open: bool = False
    heard: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")


def check_scheduler(address: str, tls: Tls | None) -> Finding:
    """Check that a scheduler may be connected to, answers, and runs what we run."""
    try:
        with existing(address, tls) as client:
            return judge_census(address, take_census(client))
    except OvertileError as error:
        return Finding(
            "scheduler", FAILED, str(error), "start it, or give an address and certificates that it knows"
        )


def judge_census(address: str, census: Census) -> Finding:
    """Compare everybody's versions; ``distributed`` must be one version everywhere, the rest had better be."""
    failed: list[str] = []
    warned: list[str] = []
    if census.error:
        failed.append(
            f"a worker could not be asked ({census.error}): install overtile in the workers' environment"
        )
    ours = census.here["distributed"]
    if census.scheduler["distributed"] != ours:
        failed.append(
            f"the scheduler has distributed {census.scheduler['distributed']}, here it is {ours}: use one version"
        )
    for worker, versions in census.workers.items():
        for name, version in versions.items():
            wanted = census.here[name]
            if version == wanted or (name == "python" and version.rpartition(".")[0] == wanted.rpartition(".")[0]):
                continue
            text = f"worker {worker} has {name} {version or 'not installed'}, here it is {wanted}"
            (failed if name in ("distributed", "overtile") or not version else warned).append(text)
    scheme, host = split_address(census.address)
    if scheme == "tcp" and not is_loopback(host):
        warned.append(
            f"it listens at {census.address} without TLS: whoever reaches that runs code; see docs/clusters.md"
        )
    if not census.workers and not census.error:
        warned.append("it has no workers; a run waits until some join")
    found = f"{address}: {len(census.workers)} worker(s), distributed {census.scheduler['distributed']}"
    return judged("scheduler", found, failed=failed[:3], warned=warned[:3])


def prefect_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return Prefect's settings: those of its active profile, and the variables, which win."""
    home = Path(environment.get("PREFECT_HOME") or Path.home() / ".prefect")
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        profiles = {}
    name = environment.get("PREFECT_PROFILE") or profiles.get("active", "")
    chosen: dict[str, Any] = profiles.get("profiles", {}).get(name, {})
    own = {key: value for key, value in environment.items() if key.startswith("PREFECT_")}
    return {key: str(value) for key, value in chosen.items()} | own


def find_prefect(settings: Mapping[str, str]) -> Server:
    """Ask the Prefect server for its version, with our credentials and without any."""
    url = settings.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        return Server()
    if urlsplit(url).scheme not in ("http", "https"):
        return Server(url, error="the address begins with neither http:// nor https://")
    try:
        version = _ask(f"{url}/admin/version", _credentials(settings))
    except (OSError, ValueError) as error:
        return Server(url, error=str(error))
    try:
        _ask(f"{url}/admin/version", {})
    except (OSError, ValueError):
        return Server(url, version, heard=_heard(url))
    return Server(url, version, open=True, heard=_heard(url))


def check_prefect(server: Server, client: str) -> Finding:
    """Check that the Prefect server answers, and that not everybody may use it.

    Args:
        server: what is known of it.
        client: version of the installed Prefect.
    """
    if not server.url:
        return Finding("prefect", OK, "no PREFECT_API_URL: a flow starts a server of its own, for itself alone")
    if server.error:
        advice = "start it (prefect server start), or correct or unset PREFECT_API_URL"
        return Finding("prefect", FAILED, f"{server.url}: does not answer ({server.error})", advice)
    found = f"{server.url}: version {server.version}"
    if not server.is_local:
        return _judge_remote(server, found, client)
    elsewhere = [address for address in server.heard if not is_loopback(address)]
    if server.open and elsewhere:
        advice = (
            f"it listens at {', '.join(elsewhere)} without a login: start it with --host 127.0.0.1, or set"
            " PREFECT_SERVER_API_AUTH_STRING for it and PREFECT_API_AUTH_STRING here"
        )
        return Finding("prefect", WARNING, found, advice)
    return judged("prefect", found, warned=_other_release(server, client))


def _judge_remote(server: Server, found: str, client: str) -> Finding:
    failed, warned = [], _other_release(server, client)
    if server.open:
        failed.append(
            "anybody who reaches it can start flows, which run code on your workers: set"
            " PREFECT_SERVER_API_AUTH_STRING for it and PREFECT_API_AUTH_STRING here"
        )
    if server.url.startswith("http://"):
        plain = "without TLS the login and all parameters can be read on the way: put it behind https"
        (warned if not server.open else failed).append(plain)
    return judged("prefect", found, failed=failed, warned=warned)


def _other_release(server: Server, client: str) -> list[str]:
    if server.version.split(".")[:2] == client.split(".")[:2]:
        return []
    return [f"here Prefect is {client}: use the same release as the server"]


def _credentials(settings: Mapping[str, str]) -> dict[str, str]:
    if key := settings.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if text := settings.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
    return {}


def _ask(url: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        return str(json.load(answer))


def _heard(url: str) -> tuple[str, ...]:
    """Return the addresses of this machine at which somebody listens on a URL's port; empty where that is not told."""
    port = urlsplit(url).port
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return ()
    here = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN and c.laddr]
    return tuple(sorted({place.ip for place in here if place.port == port}))
