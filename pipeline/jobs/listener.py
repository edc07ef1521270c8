"""Who is told what a job is doing: a terminal, a flow's artifacts, a test, or nobody."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Hears of a job's phases; called from one thread at a time, as often as something changes."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """A phase begins, with so many units of work."""
        ...

    def progress(self, done: int, failed: int = 0) -> None:
        """So many units of the phase are done, and so many have failed."""
        ...

    def note(self, text: str) -> None:
        """One line that a person would want to read."""
        ...


class Silent:
    """A listener that does nothing."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """Do nothing."""

    def progress(self, done: int, failed: int = 0) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""
