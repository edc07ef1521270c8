"""One fault of the store, of any kind and at any operation, is not noticed; a lasting one is told for what it is."""

import pytest
from s3 import S3Server

from pipeline.errors import StoreError
from pipeline.store import open_place

OPERATIONS = {
    "put": lambda place: place.put("new", b"data"),
    "create": lambda place: place.create("created", b"mine"),
    "get": lambda place: place.get("there"),
    "tail": lambda place: place.tail("there", 2),
    "stats": lambda place: place.stats(["there", "not there"])[1],
    "entries": lambda place: sorted(entry.key for entry in place.entries())[-1],
    "delete": lambda place: place.delete("gone"),
    "versioned": lambda place: place.versioned("there")[0],
    "replace": lambda place: place.replace("there", b"other", place.versioned("there")[1]) is not None,
}

KINDS = ("503", "500", "reset", "lost", "lost-reset", "slow")


@pytest.fixture(scope="module")
def server():
    with S3Server(patience=2) as server:
        server.slowness = 0.2
        yield server


@pytest.fixture
def place(server, tmp_path):
    place = open_place(server.url(tmp_path.name))
    place.put("there", b"what is there")
    yield place
    server.heal()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_fault_is_not_noticed(server, place, operation, kind):
    untroubled = open_place(place.url + "-untroubled")
    untroubled.put("there", b"what is there")
    wanted = OPERATIONS[operation](untroubled)
    server.fail(1, kind)
    assert OPERATIONS[operation](place) == wanted
    assert server.failed[kind] or kind == "slow"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_store_that_never_answers_is_a_store_error_and_no_absence(server, place, operation):
    server.fail(1, "503", count=None)
    with pytest.raises(StoreError, match="did not answer"):
        OPERATIONS[operation](place)
