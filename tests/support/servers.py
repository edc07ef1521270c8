"""A real Prefect server for tests: a process of its own on loopback, with its own home and database."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from waiting import wait_until

PREFECT = str(Path(sys.executable).with_name("prefect"))


@dataclass(frozen=True)
class Server:
    """Where the server is, and the environment of the processes that talk to it."""

    url: str
    home: Path
    environment: dict[str, str]

    def prefect(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run one command of Prefect's; returns what it printed, and fails if it fails."""
        done = subprocess.run(
            [PREFECT, "--no-prompt", *arguments], env=self.environment, cwd=cwd, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of Prefect's; what it prints goes to a file in the home."""
        with (self.home / f"{arguments[0]}.log").open("ab") as log:
            command = [PREFECT, "--no-prompt", *arguments]
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=self.home)

    @contextmanager
    def process(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Have a command of Prefect's run beside the block."""
        running = self.spawn(*arguments)
        try:
            yield running
        finally:
            end(running)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server, a second time in the same home and on the same port too, and wait until it is well."""
        port = self.url.split(":")[2].removesuffix("/api")
        running = self.spawn("server", "start", "--host", "127.0.0.1", "--port", port)
        try:
            wait_until(lambda: running.poll() is not None or is_well(self.url), seconds=300)
            assert running.poll() is None, (self.home / "server.log").read_text()
        except BaseException:
            end(running)
            raise
        return running


@contextmanager
def prefect_server(home: Path) -> Iterator[Server]:
    """Start a server, wait until it is well, and end it with the block."""
    server = new_server(home)
    running = server.start()
    try:
        yield server
    finally:
        end(running)


def new_server(home: Path) -> Server:
    """Return a server that is not started yet, on a free port."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    url = f"http://127.0.0.1:{free_port()}/api"
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "3",
        "DO_NOT_TRACK": "1",
    }
    return Server(url, home, inherited | settings)


def is_well(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def end(running: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started."""
    family = family_of(running.pid)
    if running.poll() is None:
        running.terminate()
    _, alive = psutil.wait_procs(family, timeout=10)
    kill(alive)
    running.wait()


def family_of(pid: int) -> list[psutil.Process]:
    """Return a process and all that it has started, itself first; none where it is gone."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill processes without a word; those that are gone are left alone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def words_of(process: psutil.Process) -> list[str]:
    """Return the command line of a process; none where it is gone, or is not yet waited for."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
