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
    there = programs()
    assert there is not None
    folder = Path(tempfile.mkdtemp(prefix="overtile-postgres-"))
    login = ["--host=127.0.0.1", f"--port={port}", f"--username={user}"]
    try:
        _initialise(there, folder, user, password)
        running = _start(there, [*command, "-p", str(port)], folder)
        try:
            ready = [str(there / "pg_isready"), *login]
            wait_until(lambda: running.poll() is not None or subprocess.run(ready).returncode == 0, 120)
            assert running.poll() is None, (folder / "log").read_text()
            made = [str(there / "psql"), *login, "--dbname=postgres", "--command", f'CREATE DATABASE "{database}"']
            _run(made, PGPASSWORD=password)
            yield
        finally:
            running.send_signal(signal.SIGINT)  # does not wait for clients; as the image of PostgreSQL is stopped
            running.wait(120)
    finally:
        shutil.rmtree(folder)


def _initialise(there: Path, folder: Path, user: str, password: str) -> None:
    """Make the files of a server that believes nobody without a password."""
    if os.geteuid() == 0:
        shutil.chown(folder, NAME, NAME)
    secret = folder / "password"
    _run(["sh", "-c", f"umask 077; cat >{secret}"], given=password)
    options = ["--auth=scram-sha-256", f"--username={user}", f"--pwfile={secret}", "--encoding=UTF8", "--no-sync"]
    _run([str(there / "initdb"), f"--pgdata={folder / 'data'}", *options])


def _start(there: Path, command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    places = ["-D", str(folder / "data"), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]
    with (folder / "log").open("wb") as log:
        words = [str(there / command[0]), *command[1:], *places]
        return subprocess.Popen(words, stdout=log, stderr=log, **_as_other())


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
