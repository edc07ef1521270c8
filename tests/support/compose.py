"""What a compose file says: its variables filled in as compose does, and what its services call each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REFERENCE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:?[-?])([^}]*))?\})")


def read_compose(path: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """Return a compose file with its variables filled in; fails where ``${NAME:?...}`` is not given."""
    return filled(yaml.safe_load(path.read_text()), given)


def filled(value: Any, given: Mapping[str, str]) -> Any:
    """Fill in the variables of all strings in a document."""
    if isinstance(value, dict):
        return {key: filled(each, given) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, given) for each in value]
    return REFERENCE.sub(lambda found: _value(found, given), value) if isinstance(value, str) else value


def _value(found: re.Match[str], given: Mapping[str, str]) -> str:
    dollar, name, how, default = found.groups()
    if dollar:
        return "$"
    if given.get(name) or (name in given and how in ("-", "?")):
        return given[name]
    assert how is not None, f"{name} is not set, and has no default"
    assert "?" not in how, default
    return str(default)


@dataclass(frozen=True)
class Names:
    """What stands for a machine, a port or a folder in the words of a compose file.

    Attributes:
        services: names by which services find each other.
        ports: numbers at which they find each other, as opposed to ports that a container has for itself.
    """

    services: tuple[str, ...]
    ports: frozenset[str]

    @classmethod
    def of(cls, services: Mapping[str, Any]) -> Names:
        """Return the names of a file's services."""
        hosts = "|".join(sorted(services, key=len, reverse=True))
        ports = set()
        for service in services.values():
            for name, value in service.get("environment", {}).items():
                ports |= {str(value)} if name.endswith("PORT") else set()
                ports |= set(re.findall(rf"//(?:{hosts}):(\d+)", str(value)))
            ports |= {each.rpartition(":")[2] for each in service.get("ports", [])}
        return cls(tuple(services), frozenset(ports))


def condition_of(service: Mapping[str, Any]) -> str:
    """Return the state that a service is to reach: done, if it is to do one thing, else well."""
    return "service_completed_successfully" if service["restart"] == "no" else "service_healthy"


def mounts(service: Mapping[str, Any]) -> dict[str, str]:
    """Return the volumes and folders of a service, by where it sees them."""
    words = [each.split(":") for each in service.get("volumes", [])]
    return {target: source for source, target, *_ in words}


def secrets(service: Mapping[str, Any]) -> dict[str, str]:
    """Return the secrets of a service, by what the file is called that it sees."""
    pairs = [(s, s) if isinstance(s, str) else (s["target"], s["source"]) for s in service.get("secrets", [])]
    return dict(pairs)
