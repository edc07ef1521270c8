"""What is heard of a chunk's work, by whom it is said, and how much of it."""

import asyncio
import logging
import threading
import warnings

import pytest
from ears import ears

from pipeline.run.heard import LONGEST, MOST, Hearing, listen

log = logging.getLogger("a.library")


def texts(hearing):
    return [message.text for message in hearing.messages()]


@ears()
def test_only_what_is_said_meanwhile_is_heard():
    hearing = Hearing("worker-0")
    log.warning("before")
    with hearing.during(7, 2):
        log.warning("odd tag %d", 3)
        log.info("nothing to worry about")
        log.error("torn page")
    log.warning("after")
    assert [(m.chunk, m.attempt, m.worker, m.level, m.text) for m in hearing.messages()] == [
        (7, 2, "worker-0", logging.WARNING, "odd tag 3 (a.library)"),
        (7, 2, "worker-0", logging.ERROR, "torn page (a.library)"),
    ]


def test_warnings_are_heard_and_still_shown():
    hearing = Hearing("worker-0")
    with warnings.catch_warnings(), ears() as shown:
        warnings.simplefilter("always")
        with hearing.during(0, 1):
            warnings.warn("the tag is\n  unknown", stacklevel=1)
        warnings.warn("not of a chunk", stacklevel=1)
    assert texts(hearing) == ["UserWarning: the tag is unknown"]
    assert shown == ["the tag is\n  unknown", "not of a chunk"]


@ears()
def test_each_thread_hears_its_own_and_what_works_for_it():
    """Zarr reads in an event loop of its own, to which the caller's context goes along."""
    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()

    async def read(chunk):
        await asyncio.to_thread(log.warning, "read %d", chunk)

    def work(hearing, chunk):
        with hearing.during(chunk, 1):
            asyncio.run_coroutine_threadsafe(read(chunk), loop).result()

    hearings = [Hearing("worker-0") for _ in range(2)]
    threads = [threading.Thread(target=work, args=(hearing, i)) for i, hearing in enumerate(hearings)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loop.call_soon_threadsafe(loop.stop)
    running.join()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert [texts(hearing) for hearing in hearings] == [[f"read {i} (a.library)"] for i in range(2)]


@ears()
def test_a_unit_says_a_few_things_and_each_once():
    hearing = Hearing("worker-0")
    for chunk in range(100):
        with hearing.during(chunk, 1):
            log.warning("the same")
            log.warning("chunk %d %s", chunk, "x" * 2 * LONGEST)
    found = hearing.messages()
    assert len(found) == MOST + 1
    assert [m.chunk for m in found] == [0, *range(MOST - 1), MOST - 2]
    assert found[-1].text == f"{101 - MOST} more messages are in the worker's own log"
    assert max(len(m.text) for m in found) == LONGEST


@ears()
def test_a_message_that_cannot_be_made_harms_nobody(monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    hearing = Hearing("worker-0")
    with hearing.during(0, 1):
        log.warning("%d", "no number")
    assert hearing.messages() == ()


@ears()
def test_listening_twice_hears_once():
    listen()
    hearing = Hearing("worker-0")
    with hearing.during(0, 1):
        log.warning("once")
    assert texts(hearing) == ["once (a.library)"]


def test_what_nobody_else_prints_is_still_printed(monkeypatch, capsys):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    listen()
    log.warning("to be seen")
    assert "to be seen" in capsys.readouterr().err


@pytest.mark.parametrize("size", [LONGEST, LONGEST + 1])
@ears()
def test_long_texts_are_cut(size):
    hearing = Hearing("worker-0")
    with hearing.during(0, 1):
        log.warning("x" * size)
    assert len(texts(hearing)[0]) == LONGEST
