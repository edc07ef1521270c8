"""The S3 server of the tests does what it is told: what is shown with it is worth something."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from s3 import S3Server

from pipeline.errors import StoreError
from pipeline.store import open_place


@pytest.fixture(scope="module")
def server():
    with S3Server(patience=0.5) as server:
        yield server


@pytest.fixture
def place(server, request):
    server.heal()
    place = open_place(server.url(request.node.name.replace("[", "-").replace("]", "")))
    server.forget()
    yield place
    server.heal()


def test_objects_come_back_and_requests_are_counted(server, place):
    place.put("a/b", b"one")
    assert place.get("a/b") == b"one"
    assert [e.key for e in place.entries()] == ["a/b"]
    assert place.stats(["a/b", "a/c"])[1] is None
    assert dict(server.counts) == {"PUT": 1, "GET": 2, "HEAD": 2}


@pytest.mark.parametrize("kind", ["503", "500", "reset", "lost", "lost-reset"])
def test_one_bad_answer_is_tried_again(server, place, kind):
    server.fail(1, kind)
    place.put("key", b"data")
    assert server.failed[kind] == 1
    assert place.get("key") == b"data"


@pytest.mark.parametrize("kind", ["503", "500", "reset", "lost", "lost-reset"])
def test_a_creation_whose_first_answer_is_bad_is_known_as_ones_own(server, place, kind):
    server.fail(1, kind, method="PUT")
    assert place.create("key", b"mine, by its id 17")
    assert server.failed[kind] == 1
    assert not place.create("key", b"another's")
    assert place.get("key") == b"mine, by its id 17"


def test_a_store_that_never_answers_is_an_error_and_not_an_absence(server, place):
    place.put("key", b"data")
    server.fail(1, "503", count=None)
    with pytest.raises(StoreError):
        place.get("key")
    with pytest.raises(StoreError):
        place.stats(["key"])
    with pytest.raises(StoreError):
        list(place.entries())


def test_a_refusal_is_known_as_one(server, place):
    server.fail(2, "403", count=None)
    place.put("key", b"data")
    with pytest.raises(PermissionError):
        place.get("key")
    with pytest.raises(PermissionError):
        place.stats(["key"])


def test_a_share_of_requests_fails_and_nobody_notices(server, place):
    server.rate = 0.3
    for i in range(30):
        place.put(f"{i}", bytes([i]))
    assert [place.get(f"{i}") for i in range(30)] == [bytes([i]) for i in range(30)]
    assert server.failed["503"] > 5


def test_one_of_many_creations_wins(server, place):
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda i: place.create("key", f"{i}".encode()), range(32)))
    assert won.count(True) == 1


def test_the_environment_is_put_back():
    before = dict(os.environ)
    with S3Server() as server:
        assert os.environ["AWS_ENDPOINT_URL"] == server.endpoint
    assert dict(os.environ) == before
