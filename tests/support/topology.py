"""The services of a compose file as plain processes: each one's own command, environment, secrets and health check.

What containers give is stood in for: names of services become 127.0.0.1, ports free ones, folders folders of
the test. Nothing else of a service is changed, so what the file says is what is tried.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from compose import Names, condition_of, mounts, secrets
from dockerfile import last_stage, read_dockerfile, variables
from servers import end, free_port
from waiting import wait_until

ROOT = Path(__file__).parents[2]
PATIENCE = 400.0
"""Seconds in which a service is to be well or done."""

HERE = "127.0.0.1"


class Topology:
    """The services of a compose file, as processes of one block.

    Args:
        document: the compose file, its variables filled in.
        folder: for volumes, homes, secrets and logs.
        stand_ins: what starts services whose images are not ours, by name; each returns when its service is well, and
            leaves what is to be ended on the topology's stack.
        ports: real ports, by their numbers in the file; the others are free ones.
    """

    def __init__(
        self,
        document: dict[str, Any],
        folder: Path,
        stand_ins: Mapping[str, Callable[[Topology], None]],
        ports: Mapping[str, int],
    ) -> None:
        self.services = {name: each for name, each in document["services"].items() if "profiles" not in each}
        self.folder = folder
        self.stack = ExitStack()
        self.processes: dict[str, list[subprocess.Popen[bytes]]] = {}
        self._names = Names.of(self.services)
        self._files = {name: ROOT / "deployments" / each["file"] for name, each in document["secrets"].items()}
        self._ports = dict(ports)
        self._stand_ins = stand_ins
        self._image = last_stage(read_dockerfile(ROOT / "deployments" / "Dockerfile"))

    def __enter__(self) -> Topology:
        return self

    def __exit__(self, *raised: object) -> None:
        for running in (each for those in self.processes.values() for each in those):
            running.terminate()  # all of them end side by side
        self.stack.close()

    def up(self) -> None:
        """Start all services, each when those that it depends on are as it wants; returns when all are well."""
        waiting = dict(self.services)
        while waiting:
            ready = [name for name in waiting if not set(waiting[name].get("depends_on", {})) & set(waiting)]
            assert ready, f"these wait for each other: {sorted(waiting)}"
            for name in ready:
                for other, wanted in waiting.pop(name).get("depends_on", {}).items():
                    self.wait_for(other, wanted["condition"])
                self.start(name)
        for name, service in self.services.items():
            self.wait_for(name, condition_of(service))

    def start(self, name: str) -> None:
        """Start the processes of a service."""
        service = self.services[name]
        if name in self._stand_ins:
            self._stand_ins[name](self)
            return
        assert service["image"].startswith("overtile:"), f"{name}: nothing stands in for {service['image']}"
        for number in range(int(service.get("deploy", {}).get("replicas", 1))):
            running = self.spawn(name, self._behind_entrypoint(service["command"]), number)
            self.processes.setdefault(name, []).append(running)
            self.stack.callback(end, running)

    def wait_for(self, name: str, condition: str) -> None:
        """Wait until a service is well, or done."""
        for number, running in enumerate(self.processes.get(name, [])):
            if condition == "service_completed_successfully":
                assert running.wait(PATIENCE) == 0, f"{name}: {self.log(name, number).read_text()}"
            else:

                def known(running: subprocess.Popen[bytes] = running, number: int = number) -> bool:
                    return running.poll() is not None or self.is_well(name, number)

                wait_until(known, PATIENCE, every=0.5)
                assert running.poll() is None, f"{name} has ended: {self.log(name, number).read_text()}"

    def is_well(self, name: str, number: int = 0) -> bool:
        """Whether a service's own health check says so."""
        how, *command = self.services[name]["healthcheck"]["test"]
        assert how == "CMD"
        return self.spawn(name, command, number, label="-health").wait(PATIENCE) == 0

    def run(self, name: str, *command: str) -> str:
        """Run a command as ``docker compose run`` does in a service; returns what it printed, and fails if it fails."""
        done = self.spawn(name, self._behind_entrypoint(list(command)), label="-run").wait(PATIENCE)
        printed = self.log(name, label="-run").read_text()
        assert done == 0, f"{command}: {printed}"
        return printed

    def spawn(self, name: str, command: list[str], number: int = 0, *, label: str = "") -> subprocess.Popen[bytes]:
        """Start a command in the surroundings of a service."""
        words = [self.translate(name, word, number) for word in command]
        with self.log(name, number, label).open("wb") as log:
            return subprocess.Popen(words, env=self.environment(name, number), cwd=ROOT, stdout=log, stderr=log)

    def log(self, name: str, number: int = 0, label: str = "") -> Path:
        """Return the file of what a service's process has printed."""
        return self.folder / f"{name}-{number}{label}.log"

    def environment(self, name: str, number: int = 0) -> dict[str, str]:
        """Return the environment of a service's process: the image's and its own, and nothing of ours."""
        own = variables(self._image) | self.services[name].get("environment", {})
        said = {key: self.translate(name, str(value), number) for key, value in own.items()}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        # A container listens at all addresses of its own network; a process of ours at loopback.
        return said | {"PATH": path, "SECRETS": str(self._secrets(name)), "LISTEN": HERE}

    def port(self, number: str) -> int:
        """Return the real port of a number by which services find each other."""
        return self._ports.setdefault(number, free_port())

    def secret(self, name: str) -> str:
        """Return what a secret of the file is."""
        return self._files[name].read_text()

    def translate(self, name: str, word: str, number: int = 0) -> str:
        """Return a word of a service with its machines, ports and folders in our terms."""
        hosts = "|".join(sorted(self._names.services, key=len, reverse=True))
        word = re.sub(rf"^(?:{hosts}|0\.0\.0\.0)$|(?<=//)(?:{hosts})(?=:\d)", HERE, word)
        known = {digits: self.port(digits) for digits in self._names.ports}
        known |= {digits: self.port(f"{name} {number} {digits}") for digits in self._own_ports(name)}
        word = re.sub(rf"(?<={HERE}:)\d+|^\d+$", lambda found: str(known.get(found[0], found[0])), word)
        for target, source in self._folders(name).items():
            word = re.sub(rf"(?<![\w./]){target}(?![\w-])", str(source), word)
        return word

    def _own_ports(self, name: str) -> set[str]:
        """Return the numbers of ports that each container of a service has for itself, which only its check asks."""
        words = " ".join(self.services[name].get("healthcheck", {}).get("test", []))
        return set(re.findall(rf"{HERE}:(\d+)", words)) - self._names.ports

    def _folders(self, name: str) -> dict[str, Path]:
        """Return the folders that a service sees, and where they are here."""
        found = {"/opt/overtile": ROOT, "/home/overtile": self.folder / f"home-{name}"}
        for target, source in mounts(self.services[name]).items():
            if not source.startswith("."):
                found[target] = self.folder / f"volume-{source}"
        for folder in found.values():
            folder.mkdir(exist_ok=True)
        return found

    def _secrets(self, name: str) -> Path:
        """Return the folder of a service's secrets, called as it sees them."""
        folder = self.folder / f"secrets-{name}"
        folder.mkdir(exist_ok=True)
        for target, source in secrets(self.services[name]).items():
            (folder / target).write_text(self.secret(source))
        return folder

    def _behind_entrypoint(self, command: list[str]) -> list[str]:
        """Return a command behind the image's entry point, but without tini, which hands on signals."""
        (found,) = (each for each in self._image if each.name == "ENTRYPOINT")
        assert found.words[:2] == ["tini", "--"]
        return [*found.words[2:], *command]
