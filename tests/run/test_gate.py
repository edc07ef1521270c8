import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import wait_until

from pipeline.run.gate import Gate


@pytest.fixture
def threads():
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, also where the tests were started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Alone:
    """Someone alone behind the gate, in a thread: says when it is in, and leaves when it is told to."""

    def __init__(self, gate, threads):
        self.inside, self.go = threading.Event(), threading.Event()
        self.gate = gate
        self.over = threads.submit(self.run)

    def run(self):
        with self.gate.alone():
            self.inside.set()
            assert self.go.wait(30)


def shut(gate):
    """Wait until somebody has shut the gate."""

    def refused():
        if gate.enter():
            gate.leave()
            return False
        return True

    wait_until(refused)


def test_many_may_be_in_at_once():
    gate = Gate()
    assert all(gate.enter() for _ in range(5))


def test_alone_waits_for_all_who_are_in_and_keeps_others_out_from_then_on(threads):
    gate = Gate()
    assert gate.enter()
    assert gate.enter()
    alone = Alone(gate, threads)
    shut(gate)
    assert not alone.inside.is_set()
    gate.leave()
    assert not gate.enter()
    assert not alone.inside.is_set()
    gate.leave()
    assert alone.inside.wait(30)
    assert not gate.enter()
    alone.go.set()
    alone.over.result(30)
    assert gate.enter()


def test_who_waits_for_the_gate_gets_in_when_it_opens(threads):
    gate = Gate()
    gate.wait_open()
    alone = Alone(gate, threads)
    assert alone.inside.wait(30)
    waiting = [threads.submit(gate.wait_open) for _ in range(3)]
    assert not any(w.done() for w in waiting)
    alone.go.set()
    for one in waiting:
        one.result(30)
    assert gate.enter()


def test_two_are_never_alone_together(threads):
    gate, counted, most = Gate(), [0], [0]
    lock = threading.Lock()

    def visit(_):
        with gate.alone():
            with lock:
                counted[0] += 1
                most[0] = max(most[0], counted[0])
            with lock:
                counted[0] -= 1

    list(threads.map(visit, range(200)))
    assert most == [1]
    assert gate.enter()


def test_nobody_is_in_while_somebody_is_alone(threads):
    gate, inside, met = Gate(), set(), []
    lock = threading.Lock()

    def together(number):
        while not gate.enter():
            gate.wait_open()
        with lock:
            inside.add(number)
        with lock:
            inside.discard(number)
        gate.leave()

    def alone(_):
        with gate.alone():
            met.extend(inside)

    jobs = [threads.submit(alone if n % 5 == 0 else together, n) for n in range(300)]
    for job in jobs:
        job.result(30)
    assert met == []


def test_the_gate_opens_after_an_error():
    gate = Gate()
    with pytest.raises(RuntimeError, match="inside"), gate.alone():
        raise RuntimeError("inside")
    assert gate.enter()


@pytest.mark.usefixtures("interruptible")
def test_the_gate_opens_when_waiting_to_be_alone_is_interrupted(threads):
    gate = Gate()
    assert gate.enter()
    main = threading.main_thread().ident

    def interrupt():
        shut(gate)
        signal.pthread_kill(main, signal.SIGINT)

    interrupted = threads.submit(interrupt)
    with pytest.raises(KeyboardInterrupt), gate.alone():
        pass
    interrupted.result(30)
    gate.leave()
    assert gate.enter()
