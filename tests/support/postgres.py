"""A real PostgreSQL server for tests: of the system's packages, on loopback, with a folder and a user of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import wait_until

NAME = "postgres"
"""Of the program, and of the user whom it runs as where we are root, as whom it refuses to run."""


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs, or None where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    other = shutil.which("initdb")
    return Path(other).resolve().parent if other else None


@contextmanager
def postgres(command: list[str], port: int, *, user: str, password: str, database: str) -> Iterator[None]:
    """Have a server with one user, who must show a password, and one database of theirs.

    Args:
        command: ``postgres`` and its options, but for folder and port.
        port: of loopback that it listens at.
        user: who may do everything.
        password: of the user.
        database: that is made.
    """
    folder = Path(tempfile.mkdtemp(prefix="overtile-postgres-"))
    there = programs()
    assert there is not None
    if os.geteuid() == 0:
        shutil.chown(folder, NAME, NAME)
    try:
        secret = folder / "password"
        _run(["sh", "-c", f"umask 077; cat >{secret}"], given=password)
        made = ["--auth=scram-sha-256", f"--username={user}", f"--pwfile={secret}", "--encoding=UTF8", "--no-sync"]
        _run([str(there / "initdb"), "--pgdata", str(folder / "data"), *made])
        options = [
            "-D",
            str(folder / "data"),
            "-p",
            str(port),
            "-k",
            str(folder),
            "-c",
            "listen_addresses=127.0.0.1",
        ]
        with (folder / "log").open("wb") as log:
            words = [str(there / command[0]), *command[1:], *options]
            running = subprocess.Popen(words, stdout=log, stderr=log, **_as_other())
        try:
            psql = [
                str(there / "psql"),
                "--host=127.0.0.1",
                f"--port={port}",
                f"--username={user}",
                "--dbname=postgres",
            ]
            ready = [str(there / "pg_isready"), "--host=127.0.0.1", f"--port={port}"]
            wait_until(
                lambda: (
                    running.poll() is not None or subprocess.run(ready, stdout=subprocess.DEVNULL).returncode == 0
                ),
                60,
            )
            assert running.poll() is None, (folder / "log").read_text()
            _run([*psql, "--command", f'CREATE DATABASE "{database}"'], PGPASSWORD=password)
            yield
        finally:
            running.send_signal(
                signal.SIGINT
            )  # without waiting for clients, as the image of PostgreSQL is stopped
            running.wait(60)
    finally:
        shutil.rmtree(folder)


def _run(command: list[str], *, given: str | None = None, **variables: str) -> None:
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        env=os.environ | variables,
        check=False,
        **_as_other(),
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"


def _as_other() -> dict[str, str]:
    """Return how a process of PostgreSQL is started where we are root."""
    return {"user": NAME, "group": NAME, "cwd": "/"} if os.geteuid() == 0 else {}
