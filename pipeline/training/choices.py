"""One choice of a training's plan, for people; without torch, so that commands can show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice.

    Attributes:
        name: field of the job; ``architecture.dims`` and the like for a part of one.
        value: what was chosen, ready for JSON.
        reason: why, in one line.
    """

    name: str
    value: Any
    reason: str

    @property
    def shown(self) -> str:
        """The value for people."""
        return _said(self.value)

    def text(self) -> str:
        """Return the choice for people."""
        return f"{self.name}: {self.shown} ({self.reason})"


def _said(value: Any) -> str:
    """Return a value for people: nothing of its defaults."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if v not in (None, 0, 0.0, False, "none")}
        return ", ".join(f"{k} {_said(v)}" for k, v in kept.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
