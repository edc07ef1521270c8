"""One attempt at one chunk, in whatever process: what came of it, and why it failed if it did."""

from __future__ import annotations

import resource
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import OvertileError
from pipeline.run.faults import Cause, classify
from pipeline.run.records import DONE, Record
from pipeline.run.work import Processor


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of an attempt.

    Attributes:
        record: for the ledger.
        cause: why it failed; None if it did not.
        error: what was raised; None if it did not fail.
    """

    record: Record
    cause: Cause | None = None
    error: Exception | None = None


def attempt(processor: Processor, record: Record, *, lean: bool = False) -> Attempt:
    """Process a chunk; its error is what came of it, never an exception.

    Args:
        processor: the opened work.
        record: a failed attempt at the chunk, without its error.
        lean: use as little memory as the same bytes can be had with.
    """
    try:
        done = processor.process(record.chunk, lean=True) if lean else processor.process(record.chunk)
    except Exception as error:
        kind = type(error).__name__
        failed = replace(record, error=describe(error), kind=kind, memory=peak_memory())
        return Attempt(failed, classify(error), error)
    return Attempt(replace(record, state=DONE, done=done, memory=peak_memory()))


def describe(error: BaseException) -> str:
    """Return an error as one line; with the place in the code unless it is one of our own sentences."""
    text = f"{error}".strip() or type(error).__name__
    if isinstance(error, OvertileError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}"[:2000]


def peak_memory() -> int:
    """Return the largest resident memory that this process has had, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak if sys.platform == "darwin" else peak * 1024)
    # Not ru_maxrss: on Linux that begins with what the parent had when it started this process.
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
