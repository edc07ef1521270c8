"""Fail every operation of a run in turn, in every way: each time the run is complete, or can be gone on with.

After each fault a stranger's look at the output finds nothing false (``inline.look``), and the same job again, with
nothing failing, gives the bytes of a run in which nothing ever failed.
"""

from itertools import count

import pytest
from faults import Crash, Faults, failing_places, failing_system
from inline import REFUSALS, drive, look, stored, tiny_job
from networks import make_checkpoint, make_image
from s3 import S3Server
from volumes import files

pytestmark = pytest.mark.slow

LEAST = 30
"""Operations that the smallest run has, at least: a loop that goes through fewer goes through nothing."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("nth")
    make_image(root / "image.zarr", (64, 64), channels=1, shard=(32, 32))
    make_checkpoint(root / "model.safetensors", depth=1, width=2, padding="same")
    return root


@pytest.fixture(scope="module")
def expected(root):
    """What a run gives in which nothing fails: root digest and stored bytes."""
    output = root / "undisturbed.zarr"
    drive(tiny_job(root, output))
    found = look(output)
    assert (found.state, found.published) == ("sealed", True)
    return found.root, stored(output)


@pytest.fixture(scope="module")
def server():
    with S3Server(patience=2.0) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch):
    """A clock for leases on object stores: those who wait for a dead holder wait no time."""
    monkeypatch.setattr("pipeline.run.lease.time", Impatient())


class Impatient:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def attempt(job):
    """Run a job that may fail; whether it came to its end."""
    try:
        drive(job)
    except (Crash, *REFUSALS):
        return False
    return True


def check(root, output, ended, expected):
    """Check what a run left that a fault struck, go on with it, and check the end."""
    left = look(output)
    assert left.published or not ended
    if ended:
        assert (left.state, left.root) == ("sealed", expected[0])
    drive(tiny_job(root, output))
    found = look(output)
    assert (found.state, found.root, found.published) == ("sealed", expected[0], True)
    assert stored(output) == expected[1]


def go_through(root, expected, kind, failing, address):
    """Give every operation in turn a fault; return how many there were."""
    before = files(root / "image.zarr")
    for n in count(1):
        output, faults = address(f"{n}.zarr"), Faults(n, kind)
        with failing(faults):
            ended = attempt(tiny_job(root, output))
        if not faults.struck:
            assert ended
            break
        check(root, output, ended, expected)
    assert files(root / "image.zarr") == before
    assert n > LEAST
    return n - 1


@pytest.mark.parametrize("kind", ["short", "crash"])
def test_every_operation_of_the_file_system_fails(root, expected, kind, tmp_path):
    went = go_through(root, expected, kind, lambda f: failing_system(f, tmp_path), lambda name: tmp_path / name)
    print(f"{went} operations of the file system, {kind}: each run was completed, then or afterwards")


@pytest.mark.parametrize("kind", ["full", "crash-after"])
def test_every_operation_of_a_local_place_fails(root, expected, kind, tmp_path):
    went = go_through(root, expected, kind, failing_places, lambda name: tmp_path / name)
    print(f"{went} operations of local places, {kind}: each run was completed, then or afterwards")


@pytest.mark.parametrize("kind", ["no-answer", "lost", "crash-after"])
def test_every_operation_of_an_object_store_fails(root, expected, kind, server, impatient):
    server.heal()
    went = go_through(root, expected, kind, failing_places, lambda name: server.url(f"{kind}/{name}"))
    print(f"{went} operations of object stores, {kind}: each run was completed, then or afterwards")


@pytest.mark.parametrize(("first", "then"), [("403", "403"), ("lost", "403")])
def test_the_server_fails_from_every_request_on(root, expected, server, impatient, first, then):
    for n in count(1):
        output = server.url(f"from-{first}-{then}/{n}.zarr")
        server.forget()
        server.fail(n, first)
        server.fail(n + 1, then, count=None)
        ended = attempt(tiny_job(root, output))
        struck = bool(server.failed)
        server.heal()
        if not struck:
            assert ended
            break
        check(root, output, ended, expected)
    assert n > LEAST


@pytest.mark.parametrize("kind", ["lost"])
def test_one_bad_answer_to_any_request_goes_unnoticed(root, expected, server, impatient, kind):
    """The client asks again; what it had stored already is known as its own."""
    for n in count(1):
        output = server.url(f"one-{kind}/{n}.zarr")
        server.forget()
        server.fail(n, kind)
        drive(tiny_job(root, output))
        struck = bool(server.failed)
        server.heal()
        found = look(output)
        assert (found.state, found.root) == ("sealed", expected[0])
        if not struck:
            break
    assert n > LEAST
