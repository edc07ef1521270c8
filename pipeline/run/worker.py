"""The part of a run that lives in a Dask worker process: open the work once, process units of chunks."""

from __future__ import annotations

import ctypes
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

import zarr
from distributed import Worker, WorkerPlugin, get_worker

from pipeline.run.attempt import attempt, describe
from pipeline.run.faults import Cause
from pipeline.run.heard import Hearing, Message, listen
from pipeline.run.records import FAILED, Record
from pipeline.run.work import Processor, Work

TIDY_EVERY = 1.0
"""Seconds between two times that a worker gives back what is free between blocks; holes add up in the meantime."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Chunks that a worker processes one after the other.

    Attributes:
        chunks: number of each chunk and of the attempt that this is.
        lean: use as little memory as the same bytes can be had with.
    """

    chunks: tuple[tuple[int, int], ...]
    lean: bool = False


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What came of a unit of chunks.

    Attributes:
        records: one per chunk that was tried; the others are as they were.
        causes: why a chunk failed, by its number.
        fault: why the run has to stop, if it has to.
        lost: address of the worker, if its process is of no more use.
        slowest: most seconds that a chunk took.
        messages: what was logged and warned of meanwhile.
    """

    records: tuple[Record, ...]
    causes: dict[int, Cause] = field(default_factory=dict)
    fault: str | None = None
    lost: str | None = None
    slowest: float = 0.0
    messages: tuple[Message, ...] = ()


class Begun(NamedTuple):
    """What a worker tells when it begins a unit.

    Attributes:
        key: Dask's name of the unit.
        worker: address of the worker.
        opening: the work itself is opened first.
    """

    key: str
    worker: str
    opening: bool


class WorkPlugin(WorkerPlugin):
    """Holds the opened work of one run in a worker process; workers that join later get it too.

    The name is another one each time: a cluster may serve two outputs of one job, or a job again with other files.

    Attributes:
        name: of the plugin.
        worker_name: of the worker.
        lost: the process is of no more use, because its GPU has given up.
        closed: the run has ended, or was stopped: no further chunk of a unit is begun.
    """

    def __init__(self, work: Work) -> None:
        self.name = f"overtile-{work.name}-{uuid.uuid4().hex[:8]}"
        self._work = work
        self._processor: Processor | None = None
        self._lock: threading.Lock | None = None
        self._threads = 1
        self._tidied = 0.0
        self.worker_name = ""
        self.lost = False
        self.closed = False

    def setup(self, worker: Worker) -> None:
        """Prepare the process; the work itself is opened by the first unit."""
        self._lock = threading.Lock()
        self.worker_name = str(worker.name)
        self._threads = worker.state.nthreads
        keep_freed_memory()
        listen()
        zarr.config.set({"async.concurrency": 4, "threading.max_workers": 2})

    def teardown(self, worker: Worker) -> None:
        """Begin no further chunk: units that are in hand end with the chunk that they are at."""
        self.closed = True

    def processor(self) -> Processor:
        """Return the opened work; opens it on the first call."""
        assert self._lock is not None
        with self._lock:
            if self._processor is None:
                self._processor = self._work.open(self._threads)
            return self._processor

    @property
    def is_open(self) -> bool:
        """Whether the work is opened."""
        return self._processor is not None

    def tidy(self) -> None:
        """Give back free memory, once in a while: each time costs the network its warm pages (about 20 ms)."""
        if time.monotonic() - self._tidied > TIDY_EVERY:
            self._tidied = time.monotonic()
            give_back_memory()


def run_unit(plugin: str, unit: Unit) -> UnitResult:
    """Process a unit of chunks in this worker; a chunk's error is its record, never an exception.

    The scheduler's subscribers to the plugin's name are told when a unit begins: :class:`Begun` as a tuple.
    """
    worker = get_worker()
    holder = cast(WorkPlugin | None, worker.plugins.get(plugin))
    if holder is None:
        return UnitResult((), fault="the work was taken off the workers")
    if holder.lost:
        return UnitResult((), lost=worker.address)
    key = str(worker.get_current_task())
    try:
        if not holder.is_open:
            worker.log_event(plugin, Begun(key, worker.address, opening=True))
        processor = holder.processor()
    except Exception as error:
        return UnitResult((), fault=f"a worker could not open the work: {describe(error)}")
    worker.log_event(plugin, Begun(key, worker.address, opening=False))
    result = _run(holder, processor, unit)
    return replace(result, lost=worker.address) if holder.lost else result


def _run(holder: WorkPlugin, processor: Processor, unit: Unit) -> UnitResult:
    records: list[Record] = []
    causes: dict[int, Cause] = {}
    slowest, hearing, fault = 0.0, Hearing(holder.worker_name), None
    for chunk, number in unit.chunks:
        if holder.closed:
            break
        started = time.monotonic()
        with hearing.during(chunk, number):
            tried = attempt(processor, Record(chunk, FAILED, number, worker=holder.worker_name), lean=unit.lean)
        slowest = max(slowest, time.monotonic() - started)
        records.append(tried.record)
        if tried.cause is not None:
            causes[chunk] = tried.cause
        holder.tidy()
        fault = tried.record.error if tried.cause == Cause.ENVIRONMENT else None
        holder.lost = holder.lost or tried.cause == Cause.DEVICE
        if fault or holder.lost:
            break
    return UnitResult(tuple(records), causes, fault, slowest=slowest, messages=hearing.messages())


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks instead of giving them back to the kernel at each layer.

    A network frees and takes blocks above 32 MiB at every layer; without this each one is mapped and cleared anew
    (1.3 to 1.5 times slower, see docs/design.md). One arena for all threads, so that what one thread freed serves
    the next. No effect with other C libraries.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    trim_threshold, mmap_max, arena_max = -1, -4, -8
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(arena_max, 1)


def give_back_memory() -> None:
    """Give what is free in between blocks back to the kernel, so that holes do not add up."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
