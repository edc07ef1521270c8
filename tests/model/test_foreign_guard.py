"""Code of others in a process of its own: its answer, its errors, and its end."""

import json
import os
import signal

import pytest
import weird_calls

from pipeline.errors import EnvironmentFaultError, ModelError
from pipeline.model.foreign import guard
from pipeline.model.foreign.guard import run_guarded

ROOM = 8 << 30


def test_an_answer_comes_back(capfd):
    assert run_guarded(weird_calls.answer, [1, 2], seconds=60, memory=ROOM) == {"given": [1, 2]}
    out, error = capfd.readouterr()
    assert out == ""
    assert "printed" in error


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("refuse", EnvironmentFaultError, "^disk full$"),
        ("fail", ModelError, "cannot be converted: ZeroDivisionError"),
        ("abort", ModelError, r"ended by signal 6 \(Aborted\), without an answer"),
        ("exit", ModelError, "ended with code 3, without an answer"),
    ],
)
def test_an_error_comes_back_as_what_it_is(kind, error, said):
    with pytest.raises(error, match=said):
        run_guarded(weird_calls.misbehave, kind, seconds=60, memory=ROOM)


def test_a_process_that_hangs_is_ended(tmp_path):
    mark = tmp_path / "pid"
    with pytest.raises(ModelError, match=r"not built and measured within 2 s.*time_limit"):
        run_guarded(weird_calls.hang, str(mark), seconds=2, memory=ROOM)
    if mark.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(mark.read_text()), 0)


def test_a_process_that_eats_memory_is_ended():
    with pytest.raises(ModelError, match=r"MiB of memory, and 200 MiB are allowed.*memory_limit"):
        run_guarded(weird_calls.eat, None, seconds=60, memory=200 << 20)


class Sender:
    """The end of a pipe that only remembers."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send_bytes(self, content: bytes) -> None:
        self.sent.append(json.loads(content))

    def close(self) -> None:
        self.sent.append("closed")


def test_the_process_leaves_interrupts_to_its_parent(monkeypatch):
    calls = []
    monkeypatch.setattr(guard.signal, "signal", lambda *given: calls.append(given))
    monkeypatch.setattr(guard.os, "dup2", lambda *given: calls.append(given))
    sender = Sender()
    guard._child(sender, weird_calls.answer, 3)
    assert calls == [(signal.SIGINT, signal.SIG_IGN), (2, 1)]
    assert sender.sent == [{"result": {"given": 3}}, "closed"]
