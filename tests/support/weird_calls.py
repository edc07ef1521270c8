"""What is called in a process of its own in tests; must not import torch, so that it starts soon."""

import os
from pathlib import Path
from typing import Any

from pipeline.errors import EnvironmentFaultError


def answer(given: Any) -> dict[str, Any]:
    """Say what was given."""
    print("printed")
    return {"given": given}


def misbehave(kind: str) -> dict[str, Any]:
    """End in some way."""
    match kind:
        case "refuse":
            raise EnvironmentFaultError("disk full")
        case "abort":
            os.abort()
        case "exit":
            os._exit(3)
    return {"never": 1 // 0}


def hang(mark: str) -> dict[str, Any]:
    """Never come back."""
    Path(mark).write_text(str(os.getpid()))
    while True:
        pass


def eat(_: object) -> dict[str, Any]:
    """Take memory until somebody says stop."""
    held = []
    while True:
        held.append(b"x" * (16 << 20))
