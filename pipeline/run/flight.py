"""A unit in flight, and what is said of chunks that their worker never reports on."""

from __future__ import annotations

from dataclasses import dataclass

from distributed import Future

from pipeline.run.worker import Unit, UnitResult

DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Kind of failure of a chunk that ran over its time alone."""

KILLED = "the worker process died while it worked on this chunk alone (out of memory, or a crash in the network)"


@dataclass(frozen=True, slots=True)
class Flight:
    """A unit that was given to Dask.

    Attributes:
        future: of its result.
        unit: its chunks.
        alone: nothing else is in flight.
        since: when it was given, by the monotonic clock.
        away: seconds that its batch had not been looking by then.
    """

    future: Future[UnitResult]
    unit: Unit
    alone: bool
    since: float
    away: float = 0.0

    @property
    def chunks(self) -> list[int]:
        """Numbers of its chunks."""
        return [chunk for chunk, _ in self.unit.chunks]


def ran_over(limit: float, *, alone: bool, replaced: bool) -> str:
    """Return what is said of a chunk that was not done in time.

    Args:
        limit: seconds that it had.
        alone: nothing else was in flight.
        replaced: its worker was replaced.
    """
    worker = "was replaced" if replaced else "has no nanny and hangs on: restart it"
    how = " alone" if alone else ""
    return (
        f"not done after {limit:g} s{how}; its worker {worker}. If it may take as long, give a longer --deadline"
    )
