"""Do the same for many things, some at a time, in threads that never hold up the end of the process."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Thing = TypeVar("Thing")
Made = TypeVar("Made")


def side_by_side(function: Callable[[Thing], Made], things: Sequence[Thing], count: int) -> Iterator[Made]:
    """Yield what a function makes of each thing, in the order in which they are done.

    With a count of one everything happens in the calling thread, which an interruption ends at once. Each other
    thread has the caller's context variables. Threads that are at work when the caller gives up are left behind.

    Args:
        function: called once with each thing.
        things: what to do.
        count: how many at a time.

    Raises:
        BaseException: whatever the function raises.
    """
    if count == 1:
        yield from map(function, things)
        return
    waiting: queue.SimpleQueue[Thing] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Made | None, BaseException | None]] = queue.SimpleQueue()
    stopped = threading.Event()
    for thing in things:
        waiting.put(thing)

    def work() -> None:
        while not stopped.is_set():
            try:
                thing = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((function(thing), None))
            except BaseException as error:  # told to the caller, who would wait for ever otherwise
                stopped.set()
                done.put((None, error))

    for number in range(min(count, len(things))):
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(work,), name=f"side-{number}", daemon=True).start()
    try:
        for _ in things:
            made, error = done.get()
            if error is not None:
                raise error
            yield made  # type: ignore[misc]  # there is no error, so something was made
    finally:
        stopped.set()
