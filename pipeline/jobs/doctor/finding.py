"""What a check found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

OK, WARNING, FAILED = "ok", "warning", "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        name: of the check.
        state: ``ok``, ``warning`` or ``failed``.
        found: what there is.
        advice: what to do; empty where nothing is to be done.
    """

    name: str
    state: str
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the finding as a document."""
        return {"name": self.name, "state": self.state, "found": self.found, "advice": self.advice}


def judged(name: str, found: str, *, failed: Iterable[str] = (), warned: Iterable[str] = ()) -> Finding:
    """Return a finding from the advice for what fails and for what only deserves a warning; without any it is ok."""
    bad, doubtful = list(failed), list(warned)
    state = FAILED if bad else WARNING if doubtful else OK
    return Finding(name, state, found, "; ".join(bad + doubtful))
