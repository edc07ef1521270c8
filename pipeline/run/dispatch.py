"""Dispatch: what the ledger lacks, as units of neighbouring chunks, a bounded number at a time, to Dask.

Dask never learns of more units than the workers can have in hand twice over, so a million chunks cost it no more
than a hundred. Whether and how a chunk that fails is tried again depends on why (see :mod:`pipeline.run.faults`). A
unit whose worker died or hung is suspect, and its chunks are tried one by one with nothing beside them, so that no
innocent chunk is blamed. The driver alone writes the ledger.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from distributed import Client

from pipeline.run.batch import Batch
from pipeline.run.gate import Gate
from pipeline.run.leaving import LeaveAlone
from pipeline.run.ledger import Ledger
from pipeline.run.pace import Pace
from pipeline.run.records import FAILED, STATES
from pipeline.run.shared import Shared
from pipeline.run.voice import Voice
from pipeline.run.watch import Watch
from pipeline.run.work import Work
from pipeline.run.worker import WorkPlugin

log = logging.getLogger("overtile")

UNIT_CHUNKS = 256
"""Chunks that a unit may hold at most."""


LEAVE = 10.0
"""Seconds in which the workers should let go of the work."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the chunks of one call.

    Attributes:
        processed: chunks that the ledger lacked and that were tried.
        failed: those of them that are failed now.
    """

    processed: int
    failed: tuple[int, ...]


class Dispatcher:
    """Runs one work's chunks on one cluster; may be called from several threads, one range of chunks each.

    Args:
        client: of the cluster.
        work: what is done to a chunk.
        ledger: what has been done; it takes in what is.
        retries: further tries at a chunk after failures that may pass; other failures get one at most, and none
            where this is 0.
        deadline: seconds that a chunk may take before its worker counts as hung; None for 20 times what the slowest
            one took, 600 s at least.
        callers: threads that call at a time.
        on_progress: called when chunks have come in.
        label: what messages call a chunk, by its number.
    """

    def __init__(
        self,
        client: Client,
        work: Work,
        ledger: Ledger,
        *,
        retries: int,
        deadline: float | None = None,
        callers: int = 1,
        on_progress: Callable[[], None] | None = None,
        label: Callable[[int], str] = str,
    ) -> None:
        plugin = WorkPlugin(work)
        self._plugin = plugin.name
        self._client = client
        self._ledger = ledger
        self._retries = retries
        self._shared = Shared(
            client,
            ledger,
            plugin.name,
            Gate(),
            Pace(client, most=UNIT_CHUNKS),
            Watch(client, plugin.name, deadline),
            callers,
            on_progress or (lambda: None),
            Voice(label),
        )
        client.register_plugin(plugin)
        self._watch_us()

    def _watch_us(self) -> None:
        """Have the scheduler take the work off the workers if this process dies."""
        try:
            self._client.register_plugin(LeaveAlone(self._client.id, self._plugin))
        except Exception as error:  # a scheduler where Overtile is not installed
            log.debug("the work stays on the workers if this process is killed: %s", error)

    def close(self) -> None:
        """Take the work off the workers, which may belong to somebody else's cluster and live on."""
        self.stop()
        # A worker that hangs does not answer, and must not keep us.
        leaving = threading.Thread(target=self._leave, name="leave-cluster", daemon=True)
        leaving.start()
        leaving.join(LEAVE)

    def _leave(self) -> None:
        try:
            self._shared.watch.close()
            self._client.unregister_worker_plugin(self._plugin)
        except Exception as error:  # the cluster is going or gone, and the work with it
            log.debug("the work stays on the workers: %s", error)

    def stop(self) -> None:
        """Hand out no more units and take back those that no worker has begun; may be called from anywhere.

        Calls in progress end when what is being computed has ended, or the cluster.
        """
        self._shared.stopped.set()

    def process(self, chunks: range) -> Outcome:
        """Process what the ledger lacks of a range of chunks; return when each is done or failed.

        Raises:
            EnvironmentFaultError: the machine or the store cannot go on; the run can be resumed.
        """
        return self._process(self._ledger.lacking(chunks))

    def process_listed(self, chunks: Sequence[int]) -> Outcome:
        """Process the given chunks, each once, whatever their state.

        Raises:
            EnvironmentFaultError: as for :meth:`process`.
        """
        return self._process(np.array(list(dict.fromkeys(chunks)), dtype=np.intp))

    def _process(self, chunks: npt.NDArray[np.intp]) -> Outcome:
        batch = Batch(self._shared, chunks, self._retries)
        batch.run()
        failed = chunks[self._ledger.states()[chunks] == STATES.index(FAILED)]
        return Outcome(batch.tried, tuple(failed.tolist()))
