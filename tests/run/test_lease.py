import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from s3 import S3Server

from pipeline.errors import EnvironmentFaultError, RunMismatchError
from pipeline.run.lease import KEEPS, LEASE, hold
from pipeline.store import LocalPlace, open_place

PERIOD = 0.2

HOLDER = """
import sys
from pipeline.run.lease import hold
from pipeline.store import open_place
with hold(open_place(sys.argv[1]), period=float(sys.argv[2])) as lease:
    print("held", lease.epoch, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def server():
    with S3Server(patience=1) as server:
        yield server


@pytest.fixture
def objects(server, tmp_path):
    server.heal()
    return open_place(server.url(f"{tmp_path.name}/out.zarr.run"))


@pytest.fixture(params=["disk", "s3"])
def place(request, tmp_path):
    return LocalPlace(tmp_path / "out.zarr.run") if request.param == "disk" else request.getfixturevalue("objects")


def held(place):
    return hold(place, period=PERIOD)


def check_on(lease):
    """Check a lease for as long as it holds."""
    never = threading.Event()
    while not never.wait(PERIOD / 4):
        lease.check()


def document(place):
    return json.loads(place.get(LEASE))


@contextmanager
def holder(place, period=PERIOD):
    """Another process that holds the lease."""
    script = [sys.executable, "-c", HOLDER, place.url, str(period)]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().startswith("held")
            yield process
        finally:
            process.kill()


def test_each_holder_has_a_higher_epoch_and_says_who_it_is(place):
    for epoch in (1, 2, 3):
        with held(place) as lease:
            assert lease.epoch == epoch
            assert document(place)["epoch"] == epoch
            assert document(place)["pid"] == os.getpid()
            lease.check()


def test_a_lease_is_had_once_at_a_time(place):
    with held(place), pytest.raises(RunMismatchError, match=f"process {os.getpid()} on .*, epoch 1"), held(place):
        pass
    with held(place) as lease:
        assert lease.epoch == 2


def test_a_lease_is_given_back_after_an_error(place):
    with pytest.raises(RuntimeError, match="inside"), held(place):
        raise RuntimeError("inside")
    with held(place):
        pass


def test_a_killed_holder_is_followed(place):
    with holder(place) as process:
        with pytest.raises(RunMismatchError, match=f"process {process.pid} "), held(place):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        with held(place) as lease:
            assert lease.epoch == 2
            assert document(place)["pid"] == os.getpid()


def test_the_journal_knows_epochs_that_a_lost_lease_has_forgotten(place):
    place.put("journal/000006.jsonl", b"x")
    place.put("journal/compact-000007.jsonl/00000001", b"x")
    with held(place) as lease:
        assert lease.epoch == 8


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"epoch": "x"}', b"\xff"])
def test_a_damaged_lease_file_of_nobody_is_taken_over(place, content):
    place.put(LEASE, content)
    with held(place) as lease:
        assert lease.epoch == 1


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def no_lock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("pipeline.run.lease.fcntl.flock", no_lock)
    with pytest.raises(EnvironmentFaultError, match="gives no lock"), hold(LocalPlace(tmp_path / "run")):
        pass


def test_a_holder_that_was_stopped_finds_its_lease_gone(objects):
    with holder(objects) as process:
        process.send_signal(signal.SIGSTOP)
        with held(objects) as lease:
            assert lease.epoch == 2
            process.send_signal(signal.SIGCONT)
            process.stdin.write("end\n")
            process.stdin.flush()
            process.wait(30)
            assert document(objects)["epoch"] == 2, "the old holder gives back nothing that is not its own"
            lease.check()


def test_a_lease_that_cannot_be_renewed_counts_as_lost(server, objects):
    with held(objects) as lease:
        server.fail(1, "503", count=None, method="PUT")
        with pytest.raises(EnvironmentFaultError, match=f"could not be renewed for {KEEPS * PERIOD:g} s"):
            check_on(lease)
        server.heal()


def test_a_lease_that_another_took_counts_as_lost(objects):
    with held(objects) as lease:
        objects.put(LEASE, json.dumps({"epoch": 9, "counter": 0}).encode())
        with pytest.raises(EnvironmentFaultError, match="another process took the run over"):
            check_on(lease)
    assert document(objects)["epoch"] == 9


@pytest.mark.parametrize("kind", ["503", "reset", "lost", "lost-reset"])
@pytest.mark.parametrize("nth", range(1, 6))
def test_any_request_of_taking_a_lease_may_fail_once(server, objects, kind, nth):
    server.fail(nth, kind)
    for epoch in (1, 2):
        with hold(objects, period=10 * PERIOD) as lease:  # on a slow machine the second try comes late
            assert lease.epoch == epoch
            lease.check()
    server.heal()
