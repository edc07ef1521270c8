import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.geometry import Box
from pipeline.training import cache as training_cache
from pipeline.training.cache import ChunkCache, Pieces


def of_size(count):
    return np.zeros(count, "u1")


def test_the_least_recently_used_go_first_and_the_limit_is_kept():
    cache = ChunkCache(100)
    read = []

    def load(keys):
        read.extend(keys)
        return [of_size(40) for _ in keys]

    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get([key], load)
        assert cache.nbytes <= 100
    assert read == ["a", "b", "c", "b"]
    assert cache.reads == 4


def test_what_is_larger_than_the_limit_is_handed_on_but_not_held():
    cache = ChunkCache(10)
    assert cache.get(["a"], lambda keys: [of_size(11)])[0].size == 11
    assert cache.nbytes == 0


def test_what_is_held_cannot_be_changed():
    array = ChunkCache(10).get(["a"], lambda keys: [of_size(5)])[0]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_threads_that_ask_at_once_share_one_reading():
    cache = ChunkCache(1000)
    begun, go = threading.Event(), threading.Event()
    read = []

    def slow(keys):
        begun.set()
        assert go.wait(60)
        read.append(keys)
        return [of_size(3) for _ in keys]

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(cache.get, ["a", "b"], slow)
        assert begun.wait(60)
        others = [threads.submit(cache.get, ["b", key], lambda keys: [of_size(4) for _ in keys]) for key in "cd"]
        go.set()
        assert [each.size for each in first.result(60)] == [3, 3]
        for other in others:
            assert [each.size for each in other.result(60)] == [3, 4]
    assert read == [["a", "b"]]
    assert cache.reads == 4


def test_a_reading_that_fails_fails_for_all_who_wait_and_is_tried_again():
    cache = ChunkCache(1000)
    begun, go = threading.Event(), threading.Event()

    def fail(keys):
        begun.set()
        assert go.wait(60)
        raise OSError("no answer")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(cache.get, ["a"], fail)
        assert begun.wait(60)
        second = threads.submit(cache.get, ["a"], lambda keys: [of_size(1)])
        go.set()
        with pytest.raises(OSError, match="no answer"):
            first.result(60)
        try:
            assert second.result(60)[0].size == 1  # it came after the failure, and read by itself
        except OSError as error:
            assert str(error) == "no answer"  # it waited  # noqa: PT017
    assert cache.get(["a"], lambda keys: [of_size(1)])[0].size == 1


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.lists(st.tuples(*[st.integers(0, 40)] * 4), min_size=1, max_size=6),
    st.sampled_from([1, 60, 10**6]),
)
def test_any_box_read_by_pieces_is_that_of_the_image(piece, corners, limit):
    voxels = np.arange(2 * 31 * 40).reshape(2, 31, 40)
    before = dict(training_cache.SIDE)
    training_cache.SIDE[2] = 4
    try:
        pieces = Pieces(lambda box: voxels[:, *box.slices], (31, 40), piece, ChunkCache(limit))
    finally:
        training_cache.SIDE.update(before)
    for a, b, c, d in corners:
        start, stop = (min(a, b, 30), min(c, d, 39)), (min(max(a, b), 30) + 1, min(max(c, d), 39) + 1)
        box = Box(start, stop)
        np.testing.assert_array_equal(pieces.read(box), voxels[:, *box.slices])


def test_pieces_that_fill_a_box_are_read_in_one_go_and_only_once():
    voxels, asked = np.arange(1024 * 1024).reshape(1, 1024, 1024), []

    def read(box):
        asked.append(str(box))
        return voxels[:, *box.slices]

    pieces = Pieces(read, (1024, 1024), (128, 256), ChunkCache(1 << 30))
    assert pieces.grid.chunk == (256, 256)
    pieces.read(Box((10, 10), (500, 500)))
    assert asked == ["0:512,0:512"]
    pieces.read(Box((400, 400), (600, 600)))
    assert asked[1:] == ["256:512,512:768", "512:768,256:512", "512:768,512:768"]
    pieces.read(Box((400, 400), (600, 600)))
    assert len(asked) == 4
