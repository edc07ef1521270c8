"""What every seal says: every chunk is accounted for, and this is the digest of them all."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from pipeline.run.fingerprint import fingerprint
from pipeline.run.folder import SEALED
from pipeline.run.ledger import Ledger


def seal_of(ledger: Ledger, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the seal of a run that is complete.

    Args:
        ledger: the run's, synced.
        identity: what decides the run's result.
    """
    assert ledger.is_complete(), ledger.counts()
    return {
        "state": SEALED,
        "root": ledger.root_digest(),
        "fingerprint": fingerprint(identity),
        "counts": ledger.counts(),
        "sealed": now(),
    }


def now() -> str:
    """Return the time, for people to read; nothing is decided by it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
