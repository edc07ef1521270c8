"""A million empty chunks through the real dispatcher, cluster and ledger: what a chunk costs beside its work."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pipeline.run.cluster import connect
from pipeline.run.cluster_spec import ClusterSpec
from pipeline.run.dispatch import Dispatcher
from pipeline.run.ledger import Ledger
from pipeline.run.records import Done, Record
from pipeline.volume import Stored

CHUNKS = 1_000_000

WORKERS = 2


@dataclass(frozen=True)
class Nothing:
    """Work that does nothing, and says what a chunk of one shard would say of itself."""

    name: str = "nothing"

    def open(self, worker_threads: int) -> Nothing:
        """There is nothing to open."""
        return self

    def process(self, chunk: int, *, lean: bool = False) -> Done:
        """Do nothing."""
        stored = (Stored(f"c/{chunk // 1000}/{chunk % 1000}", f"{chunk:032x}", 65536),)
        return Done(stored, (0.001, 0.0, 0.002, 0.001))


@dataclass
class Timed:
    """A ledger that counts the seconds of its appends."""

    ledger: Ledger
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __getattr__(self, name: str) -> object:
        return getattr(self.ledger, name)

    def append(self, records: Sequence[Record]) -> None:
        """Append, and count the seconds."""
        started = time.perf_counter()
        self.ledger.append(records)
        with self.lock:
            self.seconds += time.perf_counter() - started


def run(place: Path, *, chunks: int = CHUNKS) -> str:
    """A million empty chunks on two local workers. Memory is that of the driver, with the scheduler in it."""
    process = psutil.Process()
    journal = place / "million"
    timed = Timed(Ledger(journal, chunks, epoch=time.time_ns() // 10**9))
    with connect(ClusterSpec(workers=WORKERS, threads=1, memory_limit=2 << 30)) as client:
        before, most = process.memory_info().rss, [0]

        def look() -> None:
            most[0] = max(most[0], process.memory_info().rss)

        dispatcher = Dispatcher(client, Nothing(), timed, retries=0, on_progress=look)  # type: ignore[arg-type]
        started = time.perf_counter()
        outcome = dispatcher.process(range(chunks))
        seconds = time.perf_counter() - started
        dispatcher.close()
    started = time.perf_counter()
    timed.ledger.close()
    closing = time.perf_counter() - started
    assert outcome.processed == chunks == timed.ledger.counts()["done"], outcome
    size = sum(path.stat().st_size for path in journal.iterdir())
    return "\n".join(
        [
            "| chunks | seconds | chunks/s | memory growth | ledger | of a 100 ms chunk | journal |",
            "|---|---|---|---|---|---|---|",
            f"| {chunks:,} | {seconds:.1f} | {chunks / seconds:,.0f} | {(most[0] - before) / 1e6:.0f} MB"
            f" | {1e6 * (timed.seconds + closing) / chunks:.0f} us a chunk"
            f" | {100 * (timed.seconds + closing) / chunks / 0.1:.2f} % | {size / 1e6:.0f} MB |",
        ]
    )
