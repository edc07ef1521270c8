import contextvars
import threading

import pytest

from pipeline.jobs.side_by_side import side_by_side

COLOUR = contextvars.ContextVar("colour", default="none")


@pytest.mark.parametrize("count", [1, 2, 9])
def test_each_thing_is_done_once(count):
    assert sorted(side_by_side(lambda n: n * n, range(20), count)) == [n * n for n in range(20)]
    assert list(side_by_side(lambda n: n, [], count)) == []


def test_one_at_a_time_happens_here_and_in_order():
    here = threading.current_thread()
    assert list(side_by_side(lambda n: (n, threading.current_thread()), range(3), 1)) == [
        (n, here) for n in range(3)
    ]


def test_so_many_are_at_work_and_no_more():
    both, most, lock, now = threading.Barrier(2), [0], threading.Lock(), [0]

    def work(number):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        both.wait(30)
        with lock:
            now[0] -= 1
        return number

    assert sorted(side_by_side(work, range(6), 2)) == list(range(6))
    assert most == [2]


def test_threads_have_the_callers_context():
    token = COLOUR.set("blue")
    assert set(side_by_side(lambda _: COLOUR.get(), range(4), 2)) == {"blue"}
    COLOUR.reset(token)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_ends_it_and_what_has_not_begun_never_does(count, error):
    begun = []

    def work(number):
        begun.append(number)
        raise error

    with pytest.raises(error):
        list(side_by_side(work, range(1000), count))
    assert len(begun) < 1000
