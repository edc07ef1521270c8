"""Which finished chunks were made from an input that has changed since, and what of it changed.

The ledger holds, for each chunk, a short digest of the identity (etag; size and time of a file) of every stored object
or file that was under its reading window, halo included. One listing of the input says what these identities are now.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.geometry import Box, visible_box
from pipeline.predict.plan import Plan
from pipeline.run.folder import RunFolder
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, STATES, seen_digest
from pipeline.run.verify import last_done
from pipeline.volume.look import seen_of

NAMED = 3
"""Changed objects that a reason names."""


def stale_chunks(plan: Plan, folder: RunFolder, ledger: Ledger) -> dict[int, str]:
    """Return the done chunks whose input is not what it was, each with the reason.

    Chunks of which nothing is known (records of an older version) count as they are.
    """
    done = np.flatnonzero(ledger.states() == STATES.index(DONE))
    if not len(done):
        return {}
    now = _Now(plan)
    unknown = seen_digest(())
    stale = {int(c) for c in done if ledger.seen(int(c)) not in (unknown, seen_digest(now.seen(int(c))))}
    if not stale:
        return {}
    records = (record for record in last_done(folder, ledger) if record.chunk in stale)
    return {record.chunk: now.reason(record.chunk, record.done.seen) for record in records}


class _Now:
    """The identities of what an input is stored in, as they are now."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._identities = plan.volume.identities()

    def seen(self, chunk: int) -> tuple[str, ...]:
        """Return what a chunk would be made from now, as :attr:`pipeline.run.records.Done.seen` says it."""
        return seen_of(self._identities.digests(self._window(chunk)))

    def reason(self, chunk: int, then: Sequence[str]) -> str:
        """Say what changed of what lies under a chunk's window."""
        window = self._window(chunk)
        now, keys = self._identities.digests(window), self._identities.keys(window)
        if len(then) != len(now):
            return f"one or more of the {len(keys)} stored input chunks under it changed"
        changed = [key for key, a, b in zip(keys, then, now, strict=True) if a != b]
        named = ", ".join(changed[:NAMED]) + (" ..." if len(changed) > NAMED else "")
        return f"{len(changed)} stored input chunk(s) under it changed ({named})"

    def _window(self, chunk: int) -> Box:
        plan = self._plan
        read = plan.layout.read_box(plan.grid.core(chunk).shift(plan.region.start))
        return visible_box(read, plan.volume.shape)
