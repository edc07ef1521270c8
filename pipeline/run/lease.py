"""The lease of a run: one writer at a time, by locks and counters and never by clocks that two machines must share.

On a file system the kernel is the judge: the lease is a lock on a file, and ends with its process however that ends.
An object store has no such lock. There the holder raises a counter in ``lease.json`` every few seconds, each time by a
put that succeeds only on the version that it wrote last; whoever finds the counter standing still for longer than a
holder keeps working without raising it takes the lease over with a higher epoch, by the same kind of put. Each side
measures with its own monotonic clock how long *it* has waited::

    holder    renewed ...... renewed ... (cannot renew) ...... stops after 3 periods
    observer             sees counter n ................................ still n after 4 periods: takes over

The epoch numbers the holders. Each writes a journal of its own, so nothing is ever written behind another's back.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import EnvironmentFaultError, OvertileError, RunBusyError
from pipeline.run.parts import last_epoch
from pipeline.store import LocalPlace, ObjectPlace, Place, make_folder

PERIOD = 10.0
"""Seconds between two renewals of a lease on an object store."""

KEEPS, TAKES = 3, 4
"""Periods for which a holder works on without a renewal, and after which an observer takes over."""

LEASE = "lease.json"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a run.

    Attributes:
        epoch: number of this holder; higher than every earlier one's.
        check: raises EnvironmentFaultError where the lease is no longer held.
    """

    epoch: int
    check: Callable[[], None]


@contextmanager
def hold(place: Place, *, period: float = PERIOD) -> Iterator[Lease]:
    """Hold the only right to write to the run in ``place``.

    Args:
        place: the run's folder.
        period: seconds between two renewals, on an object store.

    Raises:
        RunBusyError: another process holds it.
    """
    if isinstance(place, LocalPlace):
        with _locked(place) as lease:
            yield lease
    else:
        assert isinstance(place, ObjectPlace), place
        with _renewed(place, period) as lease:
            yield lease


@contextmanager
def _locked(place: LocalPlace) -> Iterator[Lease]:
    make_folder(place.root)
    with (place.root / "lock").open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _held(place, _read(place)) from error
        except OSError as error:
            raise EnvironmentFaultError(
                f"{place.url}: this file system gives no lock ({error}); a run needs one to have a single writer"
            ) from error
        epoch = 1 + max(_read(place).get("epoch", 0), last_epoch(place.at("journal")))
        place.put(LEASE, _document(epoch))
        yield Lease(epoch, lambda: None)


@contextmanager
def _renewed(place: ObjectPlace, period: float) -> Iterator[Lease]:
    held = _acquire(place, period)
    thread = threading.Thread(target=held.renew_on, name="lease", daemon=True)
    thread.start()
    try:
        yield Lease(held.epoch, held.check)
    finally:
        held.ended.set()
        thread.join()
        held.release()


@dataclass(slots=True)
class _Held:
    """A lease on an object store, as its holder sees it."""

    place: ObjectPlace
    period: float
    epoch: int
    etag: str
    renewed: float
    counter: int = 0
    lost: str | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def renew_on(self) -> None:
        """Raise the counter once a period, until the lease ends or is lost."""
        while not self.ended.wait(self.period) and self.lost is None:
            self._renew()

    def _renew(self) -> None:
        asked = time.monotonic()
        try:
            etag = self.place.replace(LEASE, _document(self.epoch, self.counter + 1), self.etag)
        except (OSError, OvertileError):
            return  # tried again next time; check() tells when it has been too long
        if etag is None:
            self.lost = "another process took the run over"
            return
        self.etag, self.renewed, self.counter = etag, asked, self.counter + 1

    def check(self) -> None:
        if self.lost is None and time.monotonic() - self.renewed > KEEPS * self.period:
            self.lost = f"the lease could not be renewed for {KEEPS * self.period:g} s"
        if self.lost:
            raise EnvironmentFaultError(
                f"{self.place.url}: {self.lost}. What is done is kept; run again to resume"
            )

    def release(self) -> None:
        """Say that the lease is free, if it is still this one; otherwise others wait until they see it stand still."""
        if self.lost is None:
            try:
                self.place.replace(LEASE, _document(self.epoch, self.counter + 1, free=True), self.etag)
            except (OSError, OvertileError):
                self.lost = "it could not be given back"


def _acquire(place: ObjectPlace, period: float) -> _Held:
    """Take the lease: at once where it is free, after a wait where its holder is silent.

    Raises:
        RunBusyError: its holder is at work.
    """
    seen: str | None = None
    since = time.monotonic()
    while True:
        asked = time.monotonic()
        try:
            data, etag = place.versioned(LEASE)
        except FileNotFoundError:
            epoch = 1 + last_epoch(place.at("journal"))
            if place.create(LEASE, _document(epoch)):
                return _Held(place, period, epoch, place.versioned(LEASE)[1], asked)
            continue
        found = _parse(data)
        if seen not in (None, etag) and not found.get("free"):
            raise _held(place, found)
        if found.get("free") or (seen is not None and time.monotonic() - since > TAKES * period):
            epoch = 1 + max(found.get("epoch", 0), last_epoch(place.at("journal")))
            taken = place.replace(LEASE, _document(epoch), etag)
            if taken is not None:
                return _Held(place, period, epoch, taken, asked)
        elif seen is None:
            seen, since = etag, time.monotonic()
        else:
            time.sleep(period / 4)


def _document(epoch: int, counter: int = 0, *, free: bool = False) -> bytes:
    """Return a lease's content; no two are alike, so that a writer knows its own again after a lost answer."""
    document = {
        "epoch": epoch,
        "counter": counter,
        "free": free,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "write": uuid.uuid4().hex,
    }
    return (json.dumps(document) + "\n").encode()


def _read(place: Place) -> dict[str, Any]:
    try:
        return _parse(place.get(LEASE))
    except FileNotFoundError:
        return {}


def _parse(data: bytes) -> dict[str, Any]:
    """Return a lease's content; an empty one where it is damaged."""
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    known = isinstance(document, dict) and isinstance(document.get("epoch"), int)
    return document if known else {}


def _held(place: Place, holder: dict[str, Any]) -> RunBusyError:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, epoch {holder.get('epoch', '?')}"
    return RunBusyError(
        f"{place.url}: another process is writing to this run ({who}); wait for it, or stop it first"
    )
