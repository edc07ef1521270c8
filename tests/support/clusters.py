"""Dask schedulers and workers as processes of their own on loopback, with certificates made for a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waiting import wait_until

from pipeline.jobs.certificates import make_certificates
from pipeline.run.cluster_spec import Tls

SUPPORT = Path(__file__).parent


def certificates(folder: Path) -> Tls:
    """Make a set of certificates; returns the client's."""
    made = make_certificates(folder)
    return Tls(made["ca.pem"], made["client.pem"], made["client-key.pem"])


def flags(folder: Path, role: str) -> list[str]:
    """Return the options by which Dask's commands take a role's certificates."""
    key = ["--tls-key", str(folder / f"{role}-key.pem")]
    return ["--tls-ca-file", str(folder / "ca.pem"), "--tls-cert", str(folder / f"{role}.pem"), *key]


def spawn(
    command: list[str], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that can import the tests' helpers; what it prints goes to a file in the folder."""
    variables = {"PYTHONPATH": str(SUPPORT), "DASK_TEMPORARY_DIRECTORY": str(folder)}
    log = folder / f"process-{len(list(folder.glob('process-*.log')))}.log"
    with log.open("wb") as file:
        return subprocess.Popen(
            command, env=os.environ | variables | dict(environment or {}), stdout=file, stderr=file
        )


def dask(name: str, *arguments: str) -> list[str]:
    """Return the command of a Dask scheduler or worker, of this environment."""
    return [sys.executable, "-m", f"distributed.cli.dask_{name}", *arguments]


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """End a process with the block, whatever it does."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def tls_scheduler(folder: Path, tls: Path) -> Iterator[str]:
    """Have a scheduler that speaks TLS only, on loopback; gives its address."""
    process, address = start_tls_scheduler(folder, tls)
    with ended(process):
        yield address


def start_tls_scheduler(folder: Path, tls: Path, port: int = 0) -> tuple[subprocess.Popen[bytes], str]:
    """Start a scheduler that speaks TLS only, on loopback; returns it and its address once it listens."""
    told = folder / "scheduler.json"
    told.unlink(missing_ok=True)
    command = dask(
        "scheduler", "--host", f"tls://127.0.0.1:{port}", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"
    )
    command += ["--scheduler-file", str(told), *flags(tls, "scheduler")]
    process = spawn(command, folder)
    try:
        wait_until(lambda: told.exists() and told.read_text().endswith("}"), 60)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process, str(json.loads(told.read_text())["address"])


def tls_worker(address: str, folder: Path, tls: Path) -> subprocess.Popen[bytes]:
    """Start a worker of one thread, without a nanny, so that it is one process."""
    options = ["--host", "127.0.0.1", "--no-nanny", "--no-dashboard", "--nthreads", "1"]
    return spawn(dask("worker", address, *options, *flags(tls, "worker")), folder)


def works_held(dask_worker: Any) -> list[str]:
    """Return the names of the runs' works that a worker holds; to be run in it."""
    return sorted(name for name in dask_worker.plugins if name.startswith("overtile-"))
