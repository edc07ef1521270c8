"""The two small interfaces between running chunks and what is done to a chunk.

Dispatch knows only these: segmentation today, any other work over a grid of chunks by the same door.
"""

from __future__ import annotations

from typing import Protocol

from pipeline.run.records import Done


class Processor(Protocol):
    """Work that is ready to run in a worker process: model loaded, volumes open. Shared by its threads."""

    def process(self, chunk: int, *, lean: bool = False) -> Done:
        """Read, compute and write one chunk; the write is durable when this returns.

        Args:
            chunk: number of the chunk.
            lean: use as little memory as the same bytes can be had with; it may take longer.
        """
        ...


class Work(Protocol):
    """A description of work, small and picklable; sent to each worker process once.

    Attributes:
        name: unique to the run and its settings.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    def open(self, worker_threads: int) -> Processor:
        """Load what the work needs; called once per worker process.

        Args:
            worker_threads: threads that the worker's operator gave it.
        """
        ...
