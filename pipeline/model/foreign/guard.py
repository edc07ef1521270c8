"""Run code of others in a process of its own, which is ended when it takes too long or too much memory."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import psutil

from pipeline import errors
from pipeline.errors import ModelError, OvertileError

Argument = TypeVar("Argument")

_LOOK = 0.05
"""Seconds between two looks at the memory of the process."""


def run_guarded(
    function: Callable[[Argument], dict[str, Any]], argument: Argument, *, seconds: float, memory: int
) -> dict[str, Any]:
    """Call a function in a fresh process, and end the process when it goes beyond its limits.

    What the process prints goes to stderr. Only JSON comes back from it. As with everything that starts processes,
    a script that calls this needs ``if __name__ == "__main__":``.

    Args:
        function: of a module (not a local one); returns what JSON can say.
        argument: what it is given; pickled.
        seconds: longest time, the start of the process included.
        memory: most resident bytes of the process.

    Raises:
        OvertileError: the function's own, with its class and message.
        ModelError: if it raises anything else, ends without an answer, or goes beyond a limit.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, argument), daemon=True)
    process.start()
    sender.close()
    try:
        answer = _wait(process, receiver, seconds, memory)
    finally:
        process.kill()
        process.join()
        receiver.close()
    if "result" in answer:
        result: dict[str, Any] = answer["result"]
        return result
    kind = getattr(errors, answer["kind"], ModelError)
    raise kind(answer["message"])


def _wait(process: BaseProcess, receiver: Connection, seconds: float, memory: int) -> dict[str, Any]:
    """Return the answer of the process, or say why there is none."""
    deadline = time.monotonic() + seconds
    while not receiver.poll(_LOOK):
        used = _resident(process)
        if used > memory:
            raise ModelError(
                f"The network was stopped: building and measuring it took {used >> 20} MiB of memory, and"
                f" {memory >> 20} MiB are allowed; give more with memory_limit, or use a smaller network."
            )
        if time.monotonic() > deadline:
            raise ModelError(
                f"The network was stopped: it was not built and measured within {seconds:g} s; if it only is slow,"
                " give it more with time_limit."
            )
    try:
        answer: dict[str, Any] = json.loads(receiver.recv_bytes())
    except (EOFError, OSError):
        process.join()
        raise ModelError(
            f"The process that builds and measures the network ended {_how(process.exitcode)}, without an answer:"
            " the network crashes Python, or there was not enough memory."
        ) from None
    return answer


def _resident(process: BaseProcess) -> int:
    """Return the resident bytes of a process; 0 when it has ended."""
    try:
        return int(psutil.Process(process.pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _how(code: int | None) -> str:
    """Say how a process ended."""
    return (
        f"by signal {-code} ({signal.strsignal(-code)})" if code is not None and code < 0 else f"with code {code}"
    )


def _child(sender: Connection, function: Callable[[Any], dict[str, Any]], argument: Any) -> None:
    """Call the function and send what came of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this process
    os.dup2(2, 1)
    try:
        answer: dict[str, Any] = {"result": function(argument)}
    except OvertileError as error:
        answer = {"kind": type(error).__name__, "message": str(error)}
    except BaseException as error:
        answer = {
            "kind": "ModelError",
            "message": f"The network cannot be converted: {type(error).__name__}: {error}.",
        }
    sender.send_bytes(json.dumps(answer).encode())
    sender.close()
