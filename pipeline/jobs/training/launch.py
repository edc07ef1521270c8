"""Start the processes of this machine that train one network together, one for each device, and hear the first."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from pipeline.config import TrainJob
from pipeline.errors import EnvironmentFaultError, OvertileError
from pipeline.jobs.listener import Listener, Silent

HOST = "127.0.0.1"
LOOK_EVERY = 0.2
"""Seconds between two looks at what the processes say."""

ENDING = 5.0
"""Seconds that a process which is told to end may take; one that waits for another one does not hear it."""

Train = Callable[..., dict[str, Any]]


class _Sender:
    """The listener of the first process: passes on what it hears."""

    def __init__(self, said: Any) -> None:
        self._said = said

    def phase(self, name: str, total: int, unit: str) -> None:
        """Pass it on."""
        self._said.put(("phase", name, total, unit))

    def progress(self, done: int, failed: int = 0) -> None:
        """Pass it on."""
        self._said.put(("progress", done, failed))

    def note(self, text: str) -> None:
        """Pass it on."""
        self._said.put(("note", text))


def launch(train: Train, job: TrainJob, listener: Listener) -> dict[str, Any]:
    """Train with ``job.devices`` processes of this machine, and return what the first one found.

    They end when this one does, however it ends.

    Args:
        train: what each of them does, with a job and a listener.
        job: the settings.
        listener: who is told what is done.

    Raises:
        OvertileError: as ``train``.
        EnvironmentFaultError: a process died.
    """
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    said = get_context("spawn").Queue()
    arguments = (train, job.devices, store.port, job, said)
    processes = start_processes(_one, arguments, nprocs=job.devices, join=False, start_method="spawn")
    hearing = _Hearing(listener, said)
    try:
        while not hearing.ended and not processes.join(timeout=LOOK_EVERY):
            hearing.take()
        hearing.take()
        while hearing.found is not None and not processes.join():
            pass
    except (ProcessExitedException, ProcessRaisedException) as error:
        hearing.take()
        if not hearing.ended:
            raise EnvironmentFaultError(f"{_why(error)}; run it again to go on") from error
    finally:
        for process in processes.processes:
            process.terminate()
        for process in processes.processes:
            process.join(ENDING)
            process.kill()
            process.join()
    return hearing.result()


class _Hearing:
    """What came from the processes.

    Attributes:
        found: what the first one found in the end.
        error: why a process ended.
    """

    def __init__(self, listener: Listener, said: Any) -> None:
        self._listener = listener
        self._said = said
        self.found: dict[str, Any] | None = None
        self.error: OvertileError | None = None

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.found is not None or self.error is not None

    def take(self) -> None:
        """Pass on everything that was said."""
        while True:
            try:
                kind, *what = self._said.get(timeout=0.01)
            except queue.Empty:
                return
            if kind == "found":
                (self.found,) = what
            elif kind == "error":
                self.error = self.error or what[0]
            else:
                getattr(self._listener, kind)(*what)

    def result(self) -> dict[str, Any]:
        """Return what was found, or raise what was raised."""
        if self.found is None:
            raise self.error or EnvironmentFaultError("the processes ended without a word; run it again to go on")
        return self.found


def _why(error: ProcessExitedException | ProcessRaisedException) -> str:
    if isinstance(error, ProcessExitedException):
        how = f"signal {error.signal_name}" if error.signal_name else f"exit code {error.exit_code}"
        return f"process {error.error_index} of those that train together died ({how})"
    return (
        f"process {error.error_index} of those that train together failed ({str(error).strip().splitlines()[-1]})"
    )


def _one(rank: int, train: Train, count: int, port: int, job: TrainJob, said: Any) -> None:
    """Be one of the processes."""
    os.environ |= {
        "RANK": f"{rank}",
        "WORLD_SIZE": f"{count}",
        "LOCAL_RANK": f"{rank}",
        "LOCAL_WORLD_SIZE": f"{count}",
        "MASTER_ADDR": HOST,
        "MASTER_PORT": f"{port}",
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # whoever started the processes has the store
    }
    try:
        found = train(job, listener=_Sender(said) if rank == 0 else Silent())
    except OvertileError as error:
        said.put(("error", error))
    else:
        if rank == 0:
            said.put(("found", found))
